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
  /**
   * So many bytes more are going to be written. A promise comes back only when they are beyond what was
   * reserved: more is then, in growing steps, as of reserve().
   */
  take(bytes: number): Promise<void> | undefined;
  /** The content is there, and of this size; 0 if it was there before. */
  settle(bytes: number): void;
  /** The content is not going to come. */
  release(): void;
}

const EVICTED_AT_ONCE = 100;
/** What is reserved for content whose size is not known: little at first, then each time as much as there is. */
const FIRST_STEP_BYTES = 1024 * 1024;
const LARGEST_STEP_BYTES = 64 * 1024 * 1024;

interface Reserved {
  bytes: number;
  /** How many of them are on disk already, and so no longer among its free ones. */
  written(): number;
  /** Settled or released. */
  isOver: boolean;
}

export class Budget {
  readonly #options: BudgetOptions;
  #usedBytes: number;
  readonly #reserved = new Set<Reserved>();
  /** Reservations are decided one after another, so that each sees what the one before left. Never rejects. */
  #deciding: Promise<unknown> = Promise.resolve();

  private constructor(options: BudgetOptions, usedBytes: number) {
    this.#options = options;
    this.#usedBytes = usedBytes;
  }

  static async open(options: BudgetOptions): Promise<Budget> {
    return new Budget(options, await options.metadata.totalBytes());
  }

  /**
   * Room for so many bytes, or for a first step if that is not known, of which `written` tells how many have
   * been written by now. Throws StorageFailure when there is no room and none can be made.
   */
  async reserve(bytes: number | undefined, written: () => number = () => 0): Promise<Reservation> {
    const reserved: Reserved = { bytes: 0, written, isOver: false };
    await this.#grow(reserved, bytes ?? FIRST_STEP_BYTES);
    let taken = 0;
    return {
      take: more => {
        taken += more;
        if (taken <= reserved.bytes) return undefined;
        const step = Math.min(reserved.bytes, LARGEST_STEP_BYTES);
        return this.#grow(reserved, Math.max(step, taken - reserved.bytes));
      },
      settle: sizeBytes => {
        this.#end(reserved);
        this.#usedBytes += sizeBytes;
      },
      release: () => this.#end(reserved),
    };
  }

  /** Takes content out of the cache. Who is reading it may go on. */
  async drop(digest: Digest): Promise<void> {
    const { metadata, content } = this.#options;
    // In this order: a row must not promise bytes that are gone, while bytes without a row are merely found again.
    const droppedBytes = await metadata.drop(digest);
    await content.remove(digest);
    this.#usedBytes -= droppedBytes;
  }

  #end(reserved: Reserved): void {
    reserved.isOver = true;
    this.#reserved.delete(reserved);
  }

  #grow(reserved: Reserved, bytes: number): Promise<void> {
    const decision = this.#deciding.then(async () => {
      await this.#makeRoom(bytes);
      if (reserved.isOver) return;
      reserved.bytes += bytes;
      this.#reserved.add(reserved);
    });
    this.#deciding = decision.catch(() => {});
    return decision;
  }

  async #makeRoom(wantedBytes: number): Promise<void> {
    const { metadata, pinned } = this.#options;
    let lacking = await this.#lackingBytes(wantedBytes);
    // What could not fit beside nothing but the other reservations must not empty the cache first.
    const cannotFit = lacking > this.#usedBytes;
    while (lacking > 0) {
      const leastRecentlyUsed = cannotFit ? [] : await metadata.leastRecentlyUsed(EVICTED_AT_ONCE, pinned);
      if (leastRecentlyUsed.length === 0)
        throw new StorageFailure(`${wantedBytes} bytes were asked for, and ${lacking} are lacking`);
      for (const { digest } of leastRecentlyUsed) {
        await this.drop(digest);
        lacking = await this.#lackingBytes(wantedBytes);
        if (lacking <= 0) break;
      }
    }
  }

  /** How many bytes would be too many with these; at most 0 when all is well. */
  async #lackingBytes(wantedBytes: number): Promise<number> {
    const { content, maxSizeBytes, minFreeBytes } = this.#options;
    let reservedBytes = wantedBytes;
    let unwrittenBytes = wantedBytes;
    for (const { bytes, written } of this.#reserved) {
      reservedBytes += bytes;
      unwrittenBytes += Math.max(0, bytes - written());
    }
    const overCap = this.#usedBytes + reservedBytes - maxSizeBytes;
    const overDisk = unwrittenBytes + minFreeBytes - (await content.freeBytes());
    return Math.max(overCap, overDisk);
  }
}
