// The disk budget: bytes are reserved before content is fetched, settled when it is stored, released when it is not
// coming. Where they would exceed the cap, or the disk, content is evicted (eviction.ts); when that is not enough,
// reserve() throws StorageFailure and the pull goes on without storing.
import { KeyedMutex } from '../base/keyed-mutex.ts';
import { type Content, StorageFailure } from '../content/content.ts';
import type { Pin, UsageStore } from '../metadata/metadata.ts';
import type { Digest } from '../oci/digest.ts';
import { evictionOrder } from './eviction.ts';

export interface BudgetOptions {
  readonly content: Pick<Content, 'remove' | 'freeBytes' | 'freeFiles'>;
  readonly metadata: UsageStore;
  /** Infinity: no cap. */
  readonly maxSizeBytes: number;
  /** To be left free where content is stored. */
  readonly minFreeBytes: number;
  /** Images that are never evicted. */
  readonly pins: readonly Pin[];
}

/** Exactly one of settle and release ends it. */
export interface Reservation {
  /**
   * So many more bytes are going to be written. A promise comes back only when they exceed what was reserved: more is
   * then reserved, in growing steps, as by reserve().
   */
  take(bytes: number): Promise<void> | undefined;
  /** The content is stored, and of this size; 0 if it was there before. */
  settle(bytes: number): void;
  /** The content is not coming. */
  release(): void;
}

/** What is reserved for content of unknown size: little at first, then each time as much as there is. */
const FIRST_STEP_BYTES = 1024 * 1024;
const LARGEST_STEP_BYTES = 64 * 1024 * 1024;
/** To be left free as well: a file system with bytes may have no more files to give. */
const MIN_FREE_FILES = 100;

interface Reserved {
  bytes: number;
  /** How many of them are on disk already, and so not among its free bytes any more. */
  written(): number;
  /** Settled or released. */
  isOver: boolean;
}

export class Budget {
  readonly #options: BudgetOptions;
  #usedBytes: number;
  readonly #reserved = new Set<Reserved>();
  /** Reservations are decided one after another, so that each sees what the one before left. */
  readonly #mutex = new KeyedMutex();

  private constructor(options: BudgetOptions, usedBytes: number) {
    this.#options = options;
    this.#usedBytes = usedBytes;
  }

  static async open(options: BudgetOptions): Promise<Budget> {
    return new Budget(options, await options.metadata.totalBytes());
  }

  /**
   * Reserves so many bytes, or a first step if that is not known; `written` tells how many of them are written by now.
   * Throws StorageFailure when there is no room and none can be made.
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

  /** Removes content from the cache. Its readers may go on. Throws StorageFailure. */
  async remove(digest: Digest): Promise<void> {
    const { metadata, content } = this.#options;
    // In this order: a row must not promise bytes that are gone, while bytes without a row are merely found again.
    const removedBytes = await metadata.remove(digest);
    await content.remove(digest);
    this.#usedBytes -= removedBytes;
  }

  /** Throws StorageFailure when nothing could be stored even in place of all that is. Evicts nothing. */
  async check(): Promise<void> {
    const { content, minFreeBytes } = this.#options;
    const lackingBytes = minFreeBytes - (await content.freeBytes());
    if (lackingBytes > this.#usedBytes) {
      throw new StorageFailure(
        `the disk is full: ${lackingBytes} bytes more must be free on it, and only ${this.#usedBytes} are ours; ` +
          'free some, or lower cache.minFree',
      );
    }
    if (this.#usedBytes === 0 && (await content.freeFiles()) < MIN_FREE_FILES) {
      throw new StorageFailure('the file system of the data directory has no room for more files (df -i); remove some');
    }
  }

  #end(reserved: Reserved): void {
    reserved.isOver = true;
    this.#reserved.delete(reserved);
  }

  #grow(reserved: Reserved, bytes: number): Promise<void> {
    return this.#mutex.run('', async () => {
      await this.#makeRoom(bytes);
      if (reserved.isOver) return;
      reserved.bytes += bytes;
      this.#reserved.add(reserved);
    });
  }

  async #makeRoom(wantedBytes: number): Promise<void> {
    const { metadata, pins } = this.#options;
    let lacking = await this.#lackingBytes(wantedBytes);
    if (lacking <= 0) return;
    // What does not fit beside the other reservations alone must not empty the cache first.
    if (lacking <= this.#usedBytes) {
      for await (const { digest } of evictionOrder(metadata, pins)) {
        await this.remove(digest);
        lacking = await this.#lackingBytes(wantedBytes);
        if (lacking <= 0) return;
      }
    }
    throw new StorageFailure(`${wantedBytes} bytes were asked for, and ${lacking} are lacking`);
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
    // Asked for last: what is written meanwhile then counts twice rather than not at all.
    const overDisk = unwrittenBytes + minFreeBytes - (await content.freeBytes());
    // A byte is enough to have something evicted, which gives its file back whatever its size.
    const overFiles = (await content.freeFiles()) < MIN_FREE_FILES ? 1 : 0;
    return Math.max(overCap, overDisk, overFiles);
  }
}
