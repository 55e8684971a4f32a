// Where the bytes of an upload are: nowhere before the first of them; then in an ingest that outlives the process, within
// the budget; or, when they cannot be stored for want of space or because the disk fails, in memory on their way to the
// upstream (memory-ingest.ts).
import { type Content, StorageFailure } from '../content/content.ts';
import type { Ingest } from '../content/ingest.ts';
import { MemoryIngest } from '../content/memory-ingest.ts';
import type { Algorithm, Digest } from '../oci/digest.ts';
import type { Budget, UploadReservation } from '../retention/budget.ts';

export interface SpoolOptions {
  readonly content: Pick<Content, 'publish'>;
  readonly budget: Pick<Budget, 'reserveUpload'>;
  readonly algorithm: Algorithm;
  /** Opens the ingest. May throw StorageFailure, and what keeps the upload from having any bytes. */
  open(): Promise<Ingest>;
  /** From here on what comes is not stored, and can be read only once. */
  onPassThrough(why: StorageFailure, at: number): void;
}

/** An ingest of an earlier process, and what is reserved for it. */
export interface Stored {
  readonly ingest: Ingest;
  readonly reservation: UploadReservation;
}

export class Spool {
  readonly #options: SpoolOptions;
  #stored: Stored | undefined;
  /** Where the bytes go that cannot be stored. */
  #memory: MemoryIngest | undefined;

  constructor(options: SpoolOptions, stored: Stored | undefined) {
    this.#options = options;
    this.#stored = stored;
  }

  /** Undefined before begin(). */
  get ingest(): Ingest | undefined {
    return this.#memory ?? this.#stored?.ingest;
  }

  get isSingleUse(): boolean {
    return this.#memory !== undefined;
  }

  /** Opens what is to take the bytes, the first time. */
  async begin(): Promise<void> {
    if (this.ingest !== undefined) return;
    const { budget, open } = this.#options;
    try {
      const ingest = await open();
      this.#stored = { ingest, reservation: budget.reserveUpload(() => ingest.writtenBytes) };
    } catch (error) {
      await this.#passThrough(error);
    }
  }

  /** So many bytes are going to be written. A promise when that is to be waited for. */
  expect(bytes: number): Promise<void> | undefined {
    if (this.#memory !== undefined) return undefined;
    if (this.#stored === undefined) return this.begin().then(() => this.expect(bytes));
    return this.#stored.reservation.take(bytes)?.catch(error => this.#passThrough(error));
  }

  /** Publishes what is finished. Resolves to how many bytes are new; settle() then says that they are recorded. Throws StorageFailure. */
  async publish(digest: Digest): Promise<number> {
    const stored = this.#stored;
    if (stored === undefined) throw new StorageFailure('there was no space for it');
    try {
      if (this.isSingleUse) throw new StorageFailure('there was no space for it');
      await stored.reservation.complete();
    } catch (error) {
      await stored.ingest.abort();
      throw error;
    }
    const sizeBytes = stored.ingest.writtenBytes;
    return (await this.#options.content.publish(stored.ingest, digest)) ? sizeBytes : 0;
  }

  settle(newBytes: number): void {
    this.#stored?.reservation.settle(newBytes);
  }

  /** Gives back what it holds open while nothing comes. */
  rest(): void {
    this.#stored?.ingest.rest();
  }

  /** What waits in memory is not going to be read any more. */
  unread(): void {
    void this.#memory?.abort();
  }

  async discard(): Promise<void> {
    this.#stored?.reservation.release();
    await this.#memory?.abort();
    await this.#stored?.ingest.abort();
  }

  async #passThrough(error: unknown): Promise<void> {
    if (!(error instanceof StorageFailure)) throw error;
    const { algorithm, onPassThrough } = this.#options;
    const stored = this.#stored?.ingest;
    await stored?.flush();
    this.#memory = stored === undefined ? new MemoryIngest(algorithm) : await MemoryIngest.after(algorithm, stored);
    onPassThrough(error, this.#memory.writtenBytes);
  }
}
