// Pooled buffers for bodies on their way out, shared by the whole process. Nothing is allocated for a chunk.

/** What is read and written at a time; a response uses up to two of them. */
const LARGE_BYTES = 512 * 1024;
/** The most in use: slow clients, of which there may be many, hold smaller ones. */
const LARGE_LIMIT = 64;
const MIDDLE_BYTES = 64 * 1024;
const SMALL_BYTES = 16 * 1024;
/** How much of each smaller size is kept when unused. Large ones are few, and all kept. */
const KEPT_BYTES = 8 * 1024 * 1024;

class BufferPool {
  readonly #free = new Map<number, Buffer[]>([SMALL_BYTES, MIDDLE_BYTES, LARGE_BYTES].map(size => [size, []]));
  #largeInUse = 0;

  /** A buffer of at least so many bytes, or as large as can be spared. */
  take(wantedBytes: number): Buffer {
    const size = this.#sizeFor(wantedBytes);
    if (size === LARGE_BYTES) this.#largeInUse++;
    return this.#free.get(size)?.pop() ?? Buffer.allocUnsafeSlow(size);
  }

  /** Must be called once for each taken buffer, when nothing reads or writes it any more. */
  release(buffer: Buffer): void {
    const { byteLength } = buffer;
    const isLarge = byteLength === LARGE_BYTES;
    if (isLarge) this.#largeInUse--;
    const free = this.#free.get(byteLength);
    if (free !== undefined && (isLarge || (free.length + 1) * byteLength <= KEPT_BYTES)) free.push(buffer);
  }

  #sizeFor(wantedBytes: number): number {
    if (wantedBytes <= SMALL_BYTES) return SMALL_BYTES;
    return wantedBytes <= MIDDLE_BYTES || this.#largeInUse === LARGE_LIMIT ? MIDDLE_BYTES : LARGE_BYTES;
  }
}

export const buffers = new BufferPool();
