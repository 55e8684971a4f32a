// The disk budget. Content that an upstream sends reserves room as its bytes come, in growing steps: its announced size
// is no more than a claim. Where it would exceed the cap, or the disk, content is evicted (eviction.ts); when that is not
// going to be enough nothing is evicted, and StorageFailure says so: the pull goes on without storing.
//
// Uploads that are not finished never evict anything. They have a share of their own, a tenth of what content may take:
// beside the cap, and kept free for them where it is the disk that limits. Beyond it they take what is free. One that is
// finished is content, and makes room as other content does.
import type { Clock } from '../base/clock.ts';
import { KeyedMutex } from '../base/keyed-mutex.ts';
import { type Content, StorageFailure } from '../content/content.ts';
import type { Pin, UsageStore } from '../metadata/metadata.ts';
import type { Digest } from '../oci/digest.ts';
import { evictionOrder } from './eviction.ts';
import { type Free, FreeSpace } from './free-space.ts';

export interface BudgetOptions {
  readonly content: Pick<Content, 'remove' | 'free'>;
  readonly metadata: UsageStore;
  readonly clock: Pick<Clock, 'monotonic'>;
  /** Infinity: no cap. */
  readonly maxSizeBytes: number;
  /** To be left free where content is stored. */
  readonly minFreeBytes: number;
  /** Images that are never evicted. */
  readonly pins: readonly Pin[];
  /** Nothing is kept free for uploads, because there are none. Default: false. */
  readonly pushesOff?: boolean;
}

/** Exactly one of settle and release ends it. */
export interface Reservation {
  /**
   * So many more bytes are going to be written. A promise comes back only when they exceed what was reserved: more is
   * then reserved, in growing steps. It rejects with StorageFailure when there is no room and none can be made.
   */
  take(bytes: number): Promise<void> | undefined;
  /** The content is stored, and of this size; 0 if it was there before. */
  settle(bytes: number): void;
  /** The content is not coming. */
  release(): void;
}

/** Of an upload: nothing is evicted for it before complete(). */
export interface UploadReservation extends Reservation {
  /** All bytes are written, and are going to be kept: makes room for them. Throws StorageFailure when it cannot. */
  complete(): Promise<void>;
}

/** What is reserved at first, and then each time as much as there is. Uploads that hardly move must not take much. */
const FIRST_STEP_BYTES = 1024 * 1024;
const FIRST_UPLOAD_STEP_BYTES = 64 * 1024;
const LARGEST_STEP_BYTES = 64 * 1024 * 1024;
/** To be left free as well: a file system with bytes may have no more files to give. */
const MIN_FREE_FILES = 100;
const UPLOADS_SHARE = 0.1;
/** How much content is removed at once, between two looks at what is still lacking. */
const REMOVED_AT_ONCE = 50;

interface Reserved {
  bytes: number;
  /** How many of them are on disk already, and so not among its free bytes any more. */
  written(): number;
  /** Of an upload that is not finished. */
  isUpload: boolean;
  /** How many are said to come; Infinity when that is not known. */
  readonly announcedBytes: number;
  /** Settled or released. */
  isOver: boolean;
}

/** What is reserved in all. */
interface ReservedNow {
  readonly upload: number;
  readonly content: number;
  /** Of both, on disk already. */
  readonly written: number;
}

export class Budget {
  readonly #options: BudgetOptions;
  readonly #free: FreeSpace;
  #usedBytes: number;
  readonly #reserved = new Set<Reserved>();
  /** Reservations are decided one after another, so that each sees what the one before left. */
  readonly #mutex = new KeyedMutex();

  private constructor(options: BudgetOptions, usedBytes: number) {
    this.#options = options;
    this.#free = new FreeSpace(options.content, options.clock);
    this.#usedBytes = usedBytes;
  }

  static async open(options: BudgetOptions): Promise<Budget> {
    return new Budget(options, await options.metadata.totalBytes());
  }

  /** Content may be coming soon: what its reservation needs of the disk is asked for already. */
  prepare(): void {
    this.#free.askEarly();
  }

  /**
   * For content of so many bytes, or an unknown number: reserves the first of them. `written` tells how many are written
   * by now. Throws StorageFailure when there is no room, or can never be room for all of them.
   */
  async reserve(announcedBytes = Infinity, written: () => number = () => 0): Promise<Reservation> {
    const reserved: Reserved = { bytes: 0, written, isUpload: false, announcedBytes, isOver: false };
    await this.#mutex.run('', async () => {
      if (announcedBytes < Infinity) await this.#assertCanFit(announcedBytes);
      await this.#grow(reserved, Math.min(announcedBytes, FIRST_STEP_BYTES));
    });
    return this.#reservation(reserved, 0);
  }

  /** For an upload. What is written of it already is reserved without a question. */
  reserveUpload(written: () => number): UploadReservation {
    const bytes = written();
    const reserved: Reserved = { bytes, written, isUpload: true, announcedBytes: Infinity, isOver: false };
    this.#reserved.add(reserved);
    return {
      ...this.#reservation(reserved, bytes),
      complete: () =>
        this.#mutex.run('', () => {
          reserved.bytes = written();
          reserved.isUpload = false;
          return this.#makeRoom(0);
        }),
    };
  }

  /** Removes content from the cache. Its readers may go on. Throws StorageFailure. */
  async remove(digest: Digest): Promise<void> {
    await this.#removeAll([digest]);
  }

  /** Throws StorageFailure when nothing could be stored even in place of all that is. Evicts nothing. */
  async check(): Promise<void> {
    const { minFreeBytes } = this.#options;
    const free = await this.#free.ask();
    const lackingBytes = minFreeBytes - free.bytes;
    if (lackingBytes > this.#usedBytes) {
      throw new StorageFailure(
        `the disk is full: ${lackingBytes} bytes more must be free on it, and only ${this.#usedBytes} are ours; ` +
          'free some, or lower cache.minFree',
      );
    }
    if (this.#usedBytes === 0 && free.files < MIN_FREE_FILES) {
      throw new StorageFailure('the file system of the data directory has no room for more files (df -i); remove some');
    }
  }

  #reservation(reserved: Reserved, takenBytes: number): Reservation {
    const end = () => {
      reserved.isOver = true;
      this.#reserved.delete(reserved);
    };
    return {
      take: more => {
        takenBytes += more;
        this.#free.take(more);
        if (takenBytes <= reserved.bytes) return undefined;
        return this.#mutex.run('', async () => {
          // Another writer of the same content may have made room for this one.
          const lacking = takenBytes - reserved.bytes;
          if (lacking > 0) await this.#growFor(reserved, lacking);
        });
      },
      settle: sizeBytes => {
        end();
        this.#usedBytes += sizeBytes;
      },
      release: end,
    };
  }

  /** Grows by a step, or by no more than must be where there is no room for one. */
  async #growFor(reserved: Reserved, lackingBytes: number): Promise<void> {
    const { bytes, isUpload, announcedBytes } = reserved;
    const least = isUpload ? FIRST_UPLOAD_STEP_BYTES : 0;
    const step = Math.min(Math.max(bytes, least), LARGEST_STEP_BYTES, announcedBytes - bytes);
    if (step <= lackingBytes) return this.#grow(reserved, lackingBytes);
    await this.#grow(reserved, step).catch(error => {
      if (!(error instanceof StorageFailure)) throw error;
      return this.#grow(reserved, lackingBytes);
    });
  }

  async #grow(reserved: Reserved, bytes: number): Promise<void> {
    if (reserved.isUpload) assertEnough(bytes, await this.#lackingBytes(bytes, 'upload'));
    else await this.#makeRoom(bytes);
    if (reserved.isOver) return;
    reserved.bytes += bytes;
    this.#reserved.add(reserved);
  }

  /** Whether there is room for so many bytes of content, or could be if all went that may. */
  async #assertCanFit(bytes: number): Promise<void> {
    const lacking = await this.#lackingBytes(bytes, 'content');
    if (lacking > 0) assertEnough(bytes, lacking - (await this.#evictableBytes()));
  }

  /** Makes room for so many more bytes of content, by evicting. */
  async #makeRoom(bytes: number): Promise<void> {
    let lacking = await this.#lackingBytes(bytes, 'content');
    if (lacking <= 0) return;
    // What does not fit even then must not empty the cache first.
    assertEnough(bytes, lacking - (await this.#evictableBytes()));
    const { metadata, pins } = this.#options;
    let chosen: Digest[] = [];
    for await (const { digest, sizeBytes } of evictionOrder(metadata, pins)) {
      chosen.push(digest);
      lacking -= sizeBytes;
      if (lacking > 0 && chosen.length < REMOVED_AT_ONCE) continue;
      await this.#removeAll(chosen);
      chosen = [];
      lacking = await this.#lackingBytes(bytes, 'content');
      if (lacking <= 0) return;
    }
    await this.#removeAll(chosen);
    assertEnough(bytes, await this.#lackingBytes(bytes, 'content'));
  }

  async #evictableBytes(): Promise<number> {
    const { metadata, pins } = this.#options;
    const usedBytes = this.#usedBytes;
    const pinned = await metadata.pinned(pins);
    return pinned.reduce((left, { sizeBytes }) => left - sizeBytes, usedBytes);
  }

  async #removeAll(digests: readonly Digest[]): Promise<void> {
    const { metadata, content } = this.#options;
    // In this order: a row must not promise bytes that are gone, while bytes without a row are merely found again.
    const removedBytes = await metadata.remove(digests);
    this.#usedBytes -= removedBytes;
    for (const digest of digests) await content.remove(digest);
  }

  /** How many bytes would be too many with so many more of an upload, or of other content; at most 0 when all is well. */
  async #lackingBytes(wantedBytes: number, of: 'upload' | 'content'): Promise<number> {
    const known = await this.#free.atLeast();
    if (known !== undefined) {
      const lacking = this.#lackingOf(known, this.#reservedNow(), wantedBytes, of);
      if (lacking <= 0) return lacking;
    }
    const reserved = this.#reservedNow();
    // Asked for last: what is written meanwhile then counts twice rather than not at all.
    return this.#lackingOf(await this.#free.ask(), reserved, wantedBytes, of);
  }

  #reservedNow(): ReservedNow {
    const all = { upload: 0, content: 0, written: 0 };
    for (const { isUpload, bytes, written } of this.#reserved) {
      all[isUpload ? 'upload' : 'content'] += bytes;
      all.written += Math.min(bytes, written());
    }
    return all;
  }

  #lackingOf(free: Free, reserved: ReservedNow, wantedBytes: number, of: 'upload' | 'content'): number {
    const { maxSizeBytes, minFreeBytes, pushesOff } = this.#options;
    const bytes = { upload: reserved.upload, content: this.#usedBytes + reserved.content };
    bytes[of] += wantedBytes;
    const unwrittenBytes = wantedBytes + reserved.upload + reserved.content - reserved.written;
    // A byte is enough to have something evicted, which gives its file back whatever its size.
    const overFiles = free.files < MIN_FREE_FILES ? 1 : 0;
    const onDisk = Math.max(0, this.#usedBytes + reserved.written + free.bytes - minFreeBytes);
    const share = pushesOff ? 0 : UPLOADS_SHARE * Math.min(maxSizeBytes, onDisk);
    const beyondShare = Math.max(0, bytes.upload - share);
    const overDisk = unwrittenBytes + minFreeBytes - free.bytes;
    const overCap = bytes.content + beyondShare - maxSizeBytes;
    if (of === 'content') return Math.ceil(Math.max(overCap, overFiles, overDisk + Math.max(0, share - bytes.upload)));
    return Math.ceil(Math.max(overFiles, overDisk, beyondShare > 0 ? overCap : 0));
  }
}

function assertEnough(wantedBytes: number, lackingBytes: number): void {
  if (lackingBytes <= 0) return;
  throw new StorageFailure(`${wantedBytes} bytes were asked for, and ${lackingBytes} are lacking`);
}
