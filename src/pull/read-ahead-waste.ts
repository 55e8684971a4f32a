// What has become of bytes that were read ahead: used when a client asks for their blob within ten minutes, else wasted.
import type { Clock } from '../base/clock.ts';
import { ExpiringCache } from '../base/expiring-cache.ts';
import type { Log } from '../base/log.ts';
import type { Digest } from '../oci/digest.ts';
import { imageName, type Repository } from '../oci/reference.ts';

interface Unasked {
  readonly repository: Repository;
  readonly bytes: number;
  readonly sinceMs: number;
}

interface Balance {
  usedBytes: number;
  wastedBytes: number;
}

const ASKED_MS = 10 * 60_000;
const UNASKED_LIMIT = 10_000;
const REPOSITORIES_LIMIT = 1_000;
const BALANCE_MS = 24 * 3_600_000;
/** Less than this says nothing of a repository. */
const TELLING_BYTES = 32 * 1024 * 1024;

export class ReadAheadWaste {
  /** Of all repositories, since the start. */
  usedBytes = 0;
  wastedBytes = 0;
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #log: Log;
  /** The oldest first. */
  readonly #unasked = new Map<Digest, Unasked>();
  readonly #balances: ExpiringCache<Balance>;

  constructor({ clock, log }: { readonly clock: Pick<Clock, 'monotonic'>; readonly log: Log }) {
    this.#clock = clock;
    this.#log = log;
    this.#balances = new ExpiringCache({ clock, max: REPOSITORIES_LIMIT, ttlMs: BALANCE_MS });
  }

  /** So many bytes were read ahead, which no client has asked for so far. */
  fetched(repository: Repository, digest: Digest, bytes: number): void {
    this.#unasked.set(digest, { repository, bytes, sinceMs: this.#clock.monotonic() });
    this.sweep();
  }

  /** A client has asked for it. To be called for any content. */
  used(digest: Digest): void {
    const found = this.#unasked.get(digest);
    if (found === undefined) return;
    this.#unasked.delete(digest);
    this.usedBytes += found.bytes;
    this.#balanceOf(found.repository).usedBytes += found.bytes;
  }

  /** Whether more was wasted than used of what was read ahead of the repository. */
  isWasteful(repository: Repository): boolean {
    this.sweep();
    const balance = this.#balances.get(imageName(repository));
    return balance !== undefined && balance.wastedBytes > Math.max(TELLING_BYTES, balance.usedBytes);
  }

  /** Gives up on what was not asked for in time. */
  sweep(): void {
    for (const [digest, { repository, bytes, sinceMs }] of this.#unasked) {
      const isLate = this.#clock.monotonic() - sinceMs > ASKED_MS;
      if (!isLate && this.#unasked.size <= UNASKED_LIMIT) return;
      this.#unasked.delete(digest);
      this.#wasted(repository, digest, bytes);
    }
  }

  #wasted(repository: Repository, digest: Digest, bytes: number): void {
    const wasWasteful = this.isWasteful(repository);
    this.wastedBytes += bytes;
    this.#balanceOf(repository).wastedBytes += bytes;
    const what = imageName(repository, { digest });
    this.#log.info({ digest, bytes }, `${what} was read ahead, and no client has asked for it`);
    if (wasWasteful || !this.isWasteful(repository)) return;
    this.#log.info({}, `${imageName(repository)} is not read ahead for a day: too much of it was not asked for`);
  }

  #balanceOf(repository: Repository): Balance {
    const key = imageName(repository);
    const known = this.#balances.get(key);
    if (known !== undefined) return known;
    const balance = { usedBytes: 0, wastedBytes: 0 };
    this.#balances.set(key, balance);
    return balance;
  }
}
