/**
 * Gives memory back to the system, if it is all that its ArrayBuffer holds: V8 collects such memory only when some 32 MB of
 * it have come together. The bytes must not be used afterwards.
 */
export function releaseMemory({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}
