// Permits to move the bytes of blobs with one upstream, in one direction. A permit belongs to work that is moving bytes:
// what waits for its client, or for an upstream that hardly sends, gives its permit back (download.ts, push/relay.ts), so
// no one who stands still holds what others need. Requests for anything but blobs need no permit.
//
// Fair by client, then by repository, and the first blob of a repository waits for no other repository's. Small blobs
// have permits of their own: they never wait behind large ones.
import { FairSemaphore } from '../base/fair-semaphore.ts';
import { imageName, type Repository } from '../oci/reference.ts';

/** Whom a permit is for. */
export interface Mover {
  readonly repository: Repository;
  /** The client that is waited for most. */
  readonly client: string;
}

export interface Permit {
  /** Whether it is for a small blob alone. */
  readonly isForSmall: boolean;
  /** Whether other work waits for one like it. */
  readonly isAwaited: boolean;
  /** May be called more than once. */
  release(): void;
}

/** The contract of Permits. */
export interface TransferPermits {
  /** Resolves to a permit for a blob of unknown size: for any size if one is free, else for a small one. */
  acquire(mover: Mover, signal: AbortSignal): Promise<Permit>;
  /** Resolves to a permit for a blob of any size. */
  acquireLarge(mover: Mover, signal: AbortSignal): Promise<Permit>;
}

/** A permit for so many bytes of a blob; Infinity when that is not known. */
export function acquireFor(
  permits: TransferPermits,
  bytes: number,
  mover: Mover,
  signal: AbortSignal,
): Promise<Permit> {
  const isLarge = bytes < Infinity && bytes > SMALL_BLOB_BYTES;
  return isLarge ? permits.acquireLarge(mover, signal) : permits.acquire(mover, signal);
}

/** Blobs of up to this size, or with no more than this to go, are small. */
export const SMALL_BLOB_BYTES = 1024 * 1024;
const LIMITS = { permits: 32, reserve: 32 };

export class Permits implements TransferPermits {
  readonly #large = new FairSemaphore(LIMITS);
  readonly #small = new FairSemaphore(LIMITS);

  /** Whether large blobs wait. */
  get isContended(): boolean {
    return this.#large.isContended;
  }

  async acquire({ repository, client }: Mover, signal: AbortSignal): Promise<Permit> {
    const key = imageName(repository);
    const release = this.#large.tryAcquire(key);
    if (release !== undefined) return this.#permit(this.#large, release);
    return this.#permit(this.#small, await this.#small.acquire(key, signal, client));
  }

  async acquireLarge({ repository, client }: Mover, signal: AbortSignal): Promise<Permit> {
    return this.#permit(this.#large, await this.#large.acquire(imageName(repository), signal, client));
  }

  #permit(semaphore: FairSemaphore, release: () => void): Permit {
    return {
      isForSmall: semaphore === this.#small,
      get isAwaited() {
        return semaphore.isContended;
      },
      release,
    };
  }
}
