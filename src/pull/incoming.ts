// The bytes of one blob while they come in, and those who follow them. Clients never drive the writer: a
// follower reads the ingest file at its own pace, waits where the file ends, and may leave at any time.
//
// Held back: until the digest is known to be right nobody gets the final stretch, so no client can ever
// complete a blob that is wrong.
import type { Ingest, Source } from '../content/content.ts';

/** The length of the final stretch. A blob that is no longer than this is not begun before it is verified. */
export const HOLD_BACK_BYTES = 64 * 1024;

export class Incoming {
  readonly ingest: Ingest;
  #sizeBytes: number | undefined;
  #verified = false;
  #wasSeen = false;
  #failure: Error | undefined;
  /** Followers that wait for the byte at a position, and those who wait for the first. */
  readonly #waiting = new Set<{ position: number; wake: () => void }>();

  constructor(ingest: Ingest) {
    this.ingest = ingest;
    ingest.onWritten = () => this.#wake();
  }

  /** How large it is going to be. While that is not known nobody gets a byte. */
  expect(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes;
    this.#wake();
  }

  /** All of it is written, and the digest is right. */
  verified(): void {
    this.#verified = true;
    this.#sizeBytes = this.ingest.writtenBytes;
    this.#wake();
  }

  /** It is not going to be complete: followers are told so, at once. */
  fail(error: Error): void {
    // What is verified can be read to its end, whether it could be kept or not.
    if (this.#verified) return;
    this.#failure = error;
    this.#wake();
  }

  /** Whether anybody has been given a byte of it. */
  get wasSeen(): boolean {
    return this.#wasSeen;
  }

  /** A follower, once there is something that it may have. Throws what the incoming failed with. */
  async follow(): Promise<Source> {
    await this.#until(0);
    this.#wasSeen = true;
    const reader = this.ingest.reader();
    const sizeBytes = this.#sizeBytes ?? 0;
    return {
      sizeBytes,
      read: async (into, position) => {
        const available = (await this.#until(position)) - position;
        return available === 0
          ? 0
          : reader.read(available < into.byteLength ? into.subarray(0, available) : into, position);
      },
      lend: async position => {
        const available = await this.#until(position);
        const lent = await reader.lend?.(position);
        return lent && { ...lent, end: Math.min(lent.end, available) };
      },
      close: () => reader.close(),
    };
  }

  /** Waits until the byte at the position may be read; resolves to the end of what may be. */
  async #until(position: number): Promise<number> {
    while (!this.#reaches(position)) {
      await new Promise<void>(wake => this.#waiting.add({ position, wake }));
    }
    if (this.#failure !== undefined) throw this.#failure;
    return this.#end();
  }

  /** Whether who waits for this byte should go on: it is there, or there is no more to wait for. */
  #reaches(position: number): boolean {
    return this.#failure !== undefined || this.#verified || position < this.#end();
  }

  #end(): number {
    if (this.#verified) return this.ingest.writtenBytes;
    if (this.#sizeBytes === undefined) return 0;
    return Math.min(this.ingest.writtenBytes, this.#sizeBytes - HOLD_BACK_BYTES);
  }

  #wake(): void {
    for (const waiter of this.#waiting) {
      if (!this.#reaches(waiter.position)) continue;
      this.#waiting.delete(waiter);
      waiter.wake();
    }
  }
}
