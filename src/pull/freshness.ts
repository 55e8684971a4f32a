// How long ago the upstream said what is recorded of it: when a tag was confirmed, a list of tags or of referrers heard.
// The age decides whether that is served without asking, and whether it may stand in for a failing upstream.
//
// What this process has heard ages on the monotonic clock, whatever is done to the wall clock. What an earlier process
// has recorded has only a wall time, which is compared once; from then on it ages like the rest.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import { reasonOf, StorageFailure } from '../oci/errors.ts';
import type { Staleness } from './outcome.ts';

/** A recorded answer. */
interface Checked {
  /** Wall time, in milliseconds since the epoch. */
  readonly checkedAtMs: number;
}

/** One that is pushed out ages by its wall time again. */
const REMEMBERED_LIMIT = 20_000;

/** Keys are the names of what was asked for, as `imageName` writes them. */
export class Freshness {
  readonly #clock: Clock;
  readonly #staleIfErrorMs: number;
  /** When each answer was heard, on the monotonic clock. */
  readonly #heardAtMs = new LRUCache<string, number>({ max: REMEMBERED_LIMIT });

  /** `staleIfErrorMs`: how old an answer may be when the upstream fails. */
  constructor(clock: Clock, staleIfErrorMs: number) {
    this.#clock = clock;
    this.#staleIfErrorMs = staleIfErrorMs;
  }

  /** The upstream has just said what is now recorded. To be called after it was recorded, not before. */
  confirmed(key: string): void {
    this.#heardAtMs.set(key, this.#clock.monotonic());
  }

  /** Records what the upstream has just said; `bypass` when it cannot be stored. */
  async record(key: string, save: Promise<void>): Promise<'miss' | 'bypass'> {
    try {
      await save;
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
      return 'bypass';
    }
    this.confirmed(key);
    return 'miss';
  }

  /** Whether it was heard less than `lifetimeMs` ago. Not when that is in the future of a clock that was set back. */
  isFresh(key: string, known: Checked, lifetimeMs: number): boolean {
    const ageMs = this.ageMs(key, known);
    return ageMs >= 0 && ageMs < lifetimeMs;
  }

  /** What is told of an answer that stands in for one that failed; undefined when it is too old and `hasLimit`. */
  staleness(key: string, known: Checked, error: unknown, hasLimit: boolean): Staleness | undefined {
    const ageMs = this.ageMs(key, known);
    return hasLimit && ageMs > this.#staleIfErrorMs ? undefined : { ageMs, why: reasonOf(error) };
  }

  /** Negative when it was recorded by an earlier process, and the wall clock was set back since. */
  ageMs(key: string, { checkedAtMs }: Checked): number {
    const heardAtMs = this.#heardAtMs.get(key);
    if (heardAtMs !== undefined) return this.#clock.monotonic() - heardAtMs;
    const ageMs = this.#clock.now() - checkedAtMs;
    if (ageMs >= 0) this.#heardAtMs.set(key, this.#clock.monotonic() - ageMs);
    return ageMs;
  }
}
