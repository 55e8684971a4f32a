// What our own pushes and deletes have changed since it was last heard from the upstream: a list that was asked
// for before a change and comes after it must not be taken for the new one.
import { LRUCache } from 'lru-cache';

const REMEMBERED_LIMIT = 10_000;

export class LocalWrites {
  #count = 0;
  readonly #noted = new LRUCache<string, { changedAt: number; isHeard: boolean }>({ max: REMEMBERED_LIMIT });

  /** It has changed now. */
  note(key: string): void {
    this.#noted.set(key, { changedAt: ++this.#count, isHeard: false });
  }

  /** Whether it has changed since it was last heard. */
  has(key: string): boolean {
    return this.#noted.get(key)?.isHeard === false;
  }

  /** When a question goes out, for isCurrent(). */
  ask(): number {
    return this.#count;
  }

  /** Whether it has not changed since the question went out, so that the answer counts as heard. */
  isCurrent(key: string, askedAt: number): boolean {
    const noted = this.#noted.get(key);
    if (noted === undefined) return true;
    if (noted.changedAt > askedAt) return false;
    noted.isHeard = true;
    return true;
  }
}
