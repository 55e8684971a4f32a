// The disk budget: bytes are reserved before content is fetched, settled when it is there, released when it
// did not come. What has not been pulled for longest goes when room is needed; if that does not help,
// reserve() throws StorageFailure and the pull goes on without storing.
import { type Content, StorageFailure } from '../content/content.ts';
import type { Metadata } from '../metadata/metadata.ts';
import type { Digest } from '../oci/digest.ts';
import type { Repository } from '../oci/reference.ts';

export interface BudgetOptions {
  readonly content: Content;
  readonly metadata: Metadata;
  /** Infinity: no cap. */
  readonly maxSizeBytes: number;
  /** To be left free where content is stored. */
  readonly minFreeBytes: number;
  /** What these repositories link is never evicted. */
  readonly pinned: readonly Repository[];
}

/** Exactly one of settle and release ends it. */
export interface Reservation {
  /** The content is there. */
  settle(): void;
  /** The content is not going to come. */
  release(): void;
}

const EVICTED_AT_ONCE = 100;

export class Budget {
  readonly #options: BudgetOptions;
  #usedBytes: number;
  #reservedBytes = 0;
  #evicting: Promise<void> = Promise.resolve();

  private constructor(options: BudgetOptions, usedBytes: number) {
    this.#options = options;
    this.#usedBytes = usedBytes;
  }

  static async open(options: BudgetOptions): Promise<Budget> {
    return new Budget(options, await options.metadata.totalBytes());
  }

  /** Throws StorageFailure when there is no room and none can be made. */
  async reserve(bytes: number): Promise<Reservation> {
    // Counted at once, so that those who come meanwhile see it.
    this.#reservedBytes += bytes;
    try {
      let lacking = await this.#lackingBytes();
      if (lacking > 0) {
        await this.#evict();
        lacking = await this.#lackingBytes();
      }
      if (lacking > 0) throw new StorageFailure(`${bytes} bytes were asked for, and ${lacking} are lacking`);
    } catch (error) {
      this.#reservedBytes -= bytes;
      throw error;
    }
    return {
      settle: () => {
        this.#reservedBytes -= bytes;
        this.#usedBytes += bytes;
      },
      release: () => {
        this.#reservedBytes -= bytes;
      },
    };
  }

  /** Takes content out of the cache. Who is reading it may go on. */
  async drop(digest: Digest, sizeBytes: number): Promise<void> {
    const { metadata, content } = this.#options;
    // In this order: a row must not promise bytes that are gone, while bytes without a row are merely found again.
    await metadata.drop(digest);
    await content.remove(digest);
    this.#usedBytes = Math.max(0, this.#usedBytes - sizeBytes);
  }

  /** How many bytes too many are used or reserved; at most 0 when all is well. */
  async #lackingBytes(): Promise<number> {
    const { content, maxSizeBytes, minFreeBytes } = this.#options;
    const overCap = this.#usedBytes + this.#reservedBytes - maxSizeBytes;
    const overDisk = this.#reservedBytes + minFreeBytes - (await content.freeBytes());
    return Math.max(overCap, overDisk);
  }

  /** One eviction at a time, each for all that lacks by then. */
  #evict(): Promise<void> {
    this.#evicting = this.#evicting.then(async () => {
      const { metadata, pinned, maxSizeBytes } = this.#options;
      // What can never fit must not empty the cache first.
      if (this.#reservedBytes > maxSizeBytes) return;
      while ((await this.#lackingBytes()) > 0) {
        const coldest = await metadata.coldest(EVICTED_AT_ONCE, pinned);
        if (coldest.length === 0) return;
        for (const { digest, sizeBytes } of coldest) {
          await this.drop(digest, sizeBytes);
          if ((await this.#lackingBytes()) <= 0) return;
        }
      }
    });
    return this.#evicting;
  }
}
