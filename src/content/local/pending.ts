// What waits to be written to a file, and its memory.
import { releaseMemory } from '../../base/release-memory.ts';

export interface Pending {
  add(bytes: Uint8Array): void;
  /** All that was added, which is taken out. */
  take(): Uint8Array[];
  /** What was taken is written. */
  release(chunks: readonly Uint8Array[]): void;
}

/** Bytes that were handed over with their memory, which is released early: V8 does so when some 32 MB have come together. */
export class Owned implements Pending {
  #chunks: Uint8Array[] = [];

  add(bytes: Uint8Array): void {
    this.#chunks.push(bytes);
  }

  take(): Uint8Array[] {
    const taken = this.#chunks;
    this.#chunks = [];
    return taken;
  }

  release(chunks: readonly Uint8Array[]): void {
    chunks.forEach(releaseMemory);
  }
}

const BUFFER_BYTES = 64 * 1024;
/** How many buffers are kept to be used again: what several downloads have at a time. */
const KEPT = 128;
const kept: Buffer[] = [];

/** Copies of bytes, gathered in buffers that are used again and again. */
export class Copied implements Pending {
  /** The last one is being filled. */
  #buffers: Buffer[] = [];
  #filledBytes = BUFFER_BYTES;

  add(bytes: Uint8Array): void {
    let rest = bytes;
    while (rest.byteLength > 0) {
      if (this.#filledBytes === BUFFER_BYTES) this.#begin();
      const free = BUFFER_BYTES - this.#filledBytes;
      const part = rest.byteLength > free ? rest.subarray(0, free) : rest;
      this.#buffers.at(-1)?.set(part, this.#filledBytes);
      this.#filledBytes += part.byteLength;
      if (part === rest) return;
      rest = rest.subarray(free);
    }
  }

  take(): Uint8Array[] {
    const taken = this.#buffers;
    const last = taken.pop();
    if (last !== undefined) taken.push(last.subarray(0, this.#filledBytes));
    this.#buffers = [];
    this.#filledBytes = BUFFER_BYTES;
    return taken;
  }

  release(chunks: readonly Uint8Array[]): void {
    for (const { buffer } of chunks) {
      const whole = Buffer.from(buffer);
      if (kept.length < KEPT) kept.push(whole);
      else releaseMemory(whole);
    }
  }

  #begin(): void {
    this.#buffers.push(kept.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES));
    this.#filledBytes = 0;
  }
}
