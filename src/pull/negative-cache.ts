// What an upstream said is not there, remembered for a moment: somebody asking in a loop must not hammer it.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import type { RegistryError } from '../oci/errors.ts';
import { isNotFound } from '../upstream/upstream.ts';

const REMEMBERED_MS = 10_000;
const REMEMBERED_LIMIT = 10_000;

export class NegativeCache {
  readonly #clock: Clock;
  #forgets = 0;
  readonly #known = new LRUCache<string, { error: RegistryError; untilMs: number }>({
    max: REMEMBERED_LIMIT,
  });

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Does the work, unless it is known that what it looks for is not there; throws what it threw then. */
  async unlessKnown<T>(key: string, work: () => Promise<T>): Promise<T> {
    const known = this.#known.get(key);
    if (known !== undefined && this.#clock.now() < known.untilMs) throw known.error;
    return this.noting(key, work);
  }

  /** Does the work, whatever is known, and remembers when there is nothing. */
  async noting<T>(key: string, work: () => Promise<T>): Promise<T> {
    const forgets = this.#forgets;
    try {
      return await work();
    } catch (error) {
      // It may have come while it was being looked for.
      if (isNotFound(error) && forgets === this.#forgets) {
        this.#known.set(key, { error, untilMs: this.#clock.now() + REMEMBERED_MS });
      }
      throw error;
    }
  }

  /** It is there now, or may be. */
  forget(key: string): void {
    this.#forgets++;
    this.#known.delete(key);
  }
}
