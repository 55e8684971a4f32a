/**
 * Gives the memory of bytes that are not used any more back to the system, now: V8 looks after buffers outside of its
 * heap when there are some 32 MB of them. Bytes that are only a part of their buffer are left to V8.
 */
export function giveBack({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}
