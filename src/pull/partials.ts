// Downloads that were not finished: what has come of a blob when its flight ended early, be it by a failing upstream, for
// want of clients or with the process, is kept for the next flight of it, which goes on with a range. It is bounded in all
// and by age, and its bytes count for the budget.
//
// A flight's ingest has the name of its digest from the start, so what is here after a crash can be gone on with too.
import type { Clock } from '../base/clock.ts';
import type { Ingests, SparseIngest } from '../content/ingest.ts';
import { algorithmOf, type Digest, hexOf, parseDigest } from '../oci/digest.ts';
import type { Budget, Reservation } from '../retention/budget.ts';

export interface PartialsDependencies {
  readonly ingests: Ingests;
  readonly budget: Pick<Budget, 'reserveUpload'>;
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly maxSizeBytes: number;
}

/** What is smaller is downloaded again as quickly as it is hashed. */
const LEAST_BYTES = 1024 * 1024;
/** Of the budget, or so much where that has no bound. */
const SHARE = 0.05;
const LARGEST_TOTAL_BYTES = 8 * 1024 ** 3;
const COUNT_LIMIT = 64;
const KEPT_MS = 24 * 3_600_000;
const PREFIX = 'download-';

interface Partial {
  readonly sizeBytes: number;
  readonly sinceMs: number;
  readonly reservation: Reservation;
}

export class Partials {
  readonly #dependencies: PartialsDependencies;
  readonly #limitBytes: number;
  /** The oldest first. */
  readonly #kept = new Map<Digest, Partial>();

  /** `found`: the ingests of an earlier process, by name, with their sizes in bytes. */
  constructor(dependencies: PartialsDependencies, found: ReadonlyMap<string, number>) {
    this.#dependencies = dependencies;
    this.#limitBytes = Math.min(dependencies.maxSizeBytes * SHARE, LARGEST_TOTAL_BYTES);
    for (const [name, sizeBytes] of found) {
      const digest = digestIn(name);
      if (digest !== undefined && this.#isWorth(sizeBytes)) this.#add(digest, sizeBytes);
    }
  }

  /** Of the ingests that are kept. */
  get names(): string[] {
    return [...this.#kept.keys()].map(nameOf);
  }

  has(digest: Digest): boolean {
    return this.#kept.has(digest);
  }

  /** The ingest for a flight of this digest, with what there is of it. Throws StorageFailure. */
  async begin(digest: Digest): Promise<SparseIngest> {
    const { ingests } = this.#dependencies;
    const wasKept = this.#forget(digest);
    const resumed = wasKept
      ? await ingests.resume(algorithmOf(digest), nameOf(digest), { isSparse: true }).catch(() => undefined)
      : undefined;
    if (resumed !== undefined) return resumed;
    if (wasKept) await ingests.discard(nameOf(digest));
    return ingests.begin(algorithmOf(digest), nameOf(digest), { isDurable: false });
  }

  /** Ends the ingest of a flight that ended early, and keeps what it holds if that is worth it. Never throws. */
  async keep(digest: Digest, ingest: SparseIngest): Promise<void> {
    await ingest.flush().catch(() => {});
    const { storedBytes } = ingest;
    if (!this.#isWorth(storedBytes)) return ingest.abort();
    await ingest.suspend();
    this.#add(digest, storedBytes);
    await this.sweep();
  }

  /** Discards what is too old, or too much. To be called from time to time. */
  async sweep(): Promise<void> {
    let bytes = 0;
    for (const { sizeBytes } of this.#kept.values()) bytes += sizeBytes;
    for (const [digest, { sizeBytes, sinceMs }] of this.#kept) {
      const isOld = this.#dependencies.clock.monotonic() - sinceMs > KEPT_MS;
      if (!isOld && bytes <= this.#limitBytes && this.#kept.size <= COUNT_LIMIT) return;
      bytes -= sizeBytes;
      this.#forget(digest);
      await this.#dependencies.ingests.discard(nameOf(digest));
    }
  }

  #isWorth(sizeBytes: number): boolean {
    return sizeBytes >= LEAST_BYTES && sizeBytes <= this.#limitBytes;
  }

  #add(digest: Digest, sizeBytes: number): void {
    const { budget, clock } = this.#dependencies;
    const reservation = budget.reserveUpload(() => sizeBytes);
    this.#kept.set(digest, { sizeBytes, sinceMs: clock.monotonic(), reservation });
  }

  #forget(digest: Digest): boolean {
    this.#kept.get(digest)?.reservation.release();
    return this.#kept.delete(digest);
  }
}

function nameOf(digest: Digest): string {
  return `${PREFIX}${algorithmOf(digest)}-${hexOf(digest)}`;
}

function digestIn(name: string): Digest | undefined {
  return name.startsWith(PREFIX) ? parseDigest(name.slice(PREFIX.length).replace('-', ':')) : undefined;
}
