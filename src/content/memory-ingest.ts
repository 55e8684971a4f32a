// An ingest for content that cannot be stored: it is hashed, and kept in memory until its reader has read it. It can be
// read forwards only, once, and never becomes content. What was stored before space ran out is read from where it is.
import { Condition } from '../base/condition.ts';
import { type Algorithm, algorithmOf, type Digest, DigestHasher } from '../oci/digest.ts';
import { StorageFailure } from '../oci/errors.ts';
import type { Ingest } from './ingest.ts';
import { hashInto, type Reader } from './read.ts';

/** The most that a read gives: what comes from a socket at a time. */
export const MEMORY_READ_BYTES = 64 * 1024;
/** How much may wait in memory before the writer has to wait. */
const BUFFER_BYTES = 1024 * 1024;

export class MemoryIngest implements Ingest {
  writtenBytes: number;
  readonly progress = new Condition();
  readonly #bufferBytes: number;
  readonly #hasher: DigestHasher;
  readonly #stored: Ingest | undefined;
  readonly #storedBytes: number;
  /** What was not read yet; the first byte of it is at #position. */
  readonly #chunks: Uint8Array[] = [];
  #position: number;
  #found: Digest | undefined;
  /** Notified when there is more space in memory. */
  readonly #drained = new Condition();

  constructor(algorithm: Algorithm, bufferBytes = BUFFER_BYTES, stored?: Ingest) {
    this.#hasher = new DigestHasher(algorithm);
    this.#bufferBytes = bufferBytes;
    this.#stored = stored;
    this.#storedBytes = stored?.writtenBytes ?? 0;
    this.writtenBytes = this.#storedBytes;
    this.#position = this.#storedBytes;
  }

  /** One that continues where `stored` ends, which must have nothing pending. */
  static async after(algorithm: Algorithm, stored: Ingest): Promise<MemoryIngest> {
    const ingest = new MemoryIngest(algorithm, BUFFER_BYTES, stored);
    const reader = stored.reader();
    try {
      const count = await hashInto(ingest.#hasher, reader, stored.writtenBytes);
      if (count < stored.writtenBytes) throw new StorageFailure('what was stored cannot be read back');
    } finally {
      reader.close();
    }
    return ingest;
  }

  write(bytes: Uint8Array): Promise<void> | undefined {
    this.#hasher.update(bytes);
    this.#chunks.push(bytes);
    this.writtenBytes += bytes.byteLength;
    this.progress.notify();
    return this.#hasSpace() ? undefined : this.#drained.wait(() => this.#hasSpace());
  }

  endOf(position: number): number {
    return Math.max(position, this.writtenBytes);
  }

  async flush(): Promise<void> {}

  async finish(algorithm?: Algorithm): Promise<Digest> {
    this.#found ??= this.#hasher.digest();
    if (algorithm === undefined || algorithm === algorithmOf(this.#found)) return this.#found;
    throw new StorageFailure(
      `there is no space to store it, and it was hashed by ${algorithmOf(this.#found)} as it came: begin the upload with digest-algorithm=${algorithm}`,
    );
  }

  reader(): Reader {
    const stored = this.#stored?.reader();
    return {
      read: async (into, position) => {
        if (position >= this.#storedBytes) return this.#read(into, position);
        const left = this.#storedBytes - position;
        return stored?.read(left < into.byteLength ? into.subarray(0, left) : into, position) ?? 0;
      },
      close: () => stored?.close(),
    };
  }

  /** It holds nothing open. */
  rest(): void {}

  /** Nothing of it is kept. */
  suspend(): Promise<void> {
    return this.abort();
  }

  /** Removes what waits to be read. Writers need not wait any more. */
  async abort(): Promise<void> {
    this.#chunks.length = 0;
    this.#position = this.writtenBytes;
    this.#drained.notify();
  }

  #read(into: Uint8Array, position: number): number {
    const [chunk] = this.#chunks;
    if (chunk === undefined || position !== this.#position) {
      throw new StorageFailure('it was not kept, so it cannot be sent again');
    }
    const count = Math.min(chunk.byteLength, into.byteLength);
    into.set(chunk.subarray(0, count));
    this.#position += count;
    if (count === chunk.byteLength) this.#chunks.shift();
    else this.#chunks[0] = chunk.subarray(count);
    this.#drained.notify();
    return count;
  }

  #hasSpace(): boolean {
    return this.writtenBytes - this.#position <= this.#bufferBytes;
  }
}
