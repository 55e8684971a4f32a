// Remembers for a moment what an upstream does not have, so that a client that asks in a loop does not hammer it.
import type { Clock } from '../base/clock.ts';
import { ExpiringCache } from '../base/expiring-cache.ts';
import type { RegistryError } from '../oci/errors.ts';
import { isNotFound } from '../upstream/upstream.ts';

const REMEMBERED_MS = 10_000;
const REMEMBERED_LIMIT = 10_000;

export class NegativeCache {
  readonly #known: ExpiringCache<RegistryError>;
  #forgets = 0;

  constructor(clock: Clock) {
    this.#known = new ExpiringCache({ clock, max: REMEMBERED_LIMIT, ttlMs: REMEMBERED_MS });
  }

  /** Does the work, unless its object is known to be missing; then throws what was thrown before. */
  async unlessKnown<T>(key: string, work: () => Promise<T>): Promise<T> {
    const known = this.#known.get(key);
    if (known !== undefined) throw known;
    return this.noting(key, work);
  }

  /** Does the work, whatever is known, and remembers when its object is not found. */
  async noting<T>(key: string, work: () => Promise<T>): Promise<T> {
    const forgets = this.#forgets;
    try {
      return await work();
    } catch (error) {
      // It may have come while it was being looked for.
      if (isNotFound(error) && forgets === this.#forgets) this.#known.set(key, error);
      throw error;
    }
  }

  /** It exists now, or may exist. */
  forget(key: string): void {
    this.#forgets++;
    this.#known.delete(key);
  }
}
