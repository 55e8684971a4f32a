// What pushes and deletes through here have changed since the upstream last told of it: a list that was asked for before
// such a write and comes after it must not be taken for current.
import { LRUCache } from 'lru-cache';

const REMEMBERED_LIMIT = 10_000;

export class LocalWrites {
  #count = 0;
  readonly #noted = new LRUCache<string, { changedAt: number; isHeard: boolean }>({ max: REMEMBERED_LIMIT });

  /** It was written now. */
  note(key: string): void {
    this.#noted.set(key, { changedAt: ++this.#count, isHeard: false });
  }

  /** Whether it was written since it was last heard. */
  has(key: string): boolean {
    return this.#noted.get(key)?.isHeard === false;
  }

  /** To be called when a request goes out; the result is for isCurrent(). */
  ask(): number {
    return this.#count;
  }

  /** Whether it was not written since the request went out, so that the response counts as heard. */
  isCurrent(key: string, askedAt: number): boolean {
    const noted = this.#noted.get(key);
    if (noted === undefined) return true;
    if (noted.changedAt > askedAt) return false;
    noted.isHeard = true;
    return true;
  }
}
