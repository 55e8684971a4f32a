// How long ago the upstream said what is recorded of it: when a tag was confirmed, a list of tags or of referrers heard.
// The age decides whether that is served without asking, and whether it may stand in for a failing upstream. What was
// changed through here since is asked for again, whatever its age.
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

/** An answer that is pushed out ages by its wall time again. */
const REMEMBERED_LIMIT = 20_000;

/** Keys are the names of what was asked for, as `imageName` writes them. */
export class Freshness {
  readonly #clock: Clock;
  readonly #staleIfErrorMs: number;
  /** When each answer was heard, on the monotonic clock. */
  readonly #heardAtMs = new LRUCache<string, number>({ max: REMEMBERED_LIMIT });
  /** Counts what pushes and deletes through here have changed. */
  #changes = 0;
  readonly #changed = new LRUCache<string, { at: number; isHeard: boolean }>({ max: REMEMBERED_LIMIT });

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

  /** A push or delete through here has changed it now. */
  changed(key: string): void {
    this.#changed.set(key, { at: ++this.#changes, isHeard: false });
  }

  /** To be called when a request goes out; the result is for isCurrent(). */
  asking(): number {
    return this.#changes;
  }

  /** Whether it was not changed since the request went out, so that the response counts as heard. */
  isCurrent(key: string, askedAt: number): boolean {
    const changed = this.#changed.get(key);
    if (changed === undefined) return true;
    if (changed.at > askedAt) return false;
    changed.isHeard = true;
    return true;
  }

  /**
   * Whether it was heard less than `lifetimeMs` ago, and not changed since. Not when that is in the future of a clock
   * that was set back.
   */
  isFresh(key: string, known: Checked, lifetimeMs: number): boolean {
    const ageMs = this.ageMs(key, known);
    return ageMs >= 0 && ageMs < lifetimeMs && this.#changed.get(key)?.isHeard !== false;
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
