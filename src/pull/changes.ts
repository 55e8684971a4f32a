// What our own pushes and deletes have changed since it was last heard from the upstream: a list that was asked
// for before a change and comes after it must not be taken for the new one.
import { LRUCache } from 'lru-cache';

const REMEMBERED_LIMIT = 10_000;

export class Changes {
  #count = 0;
  readonly #changed = new LRUCache<string, number>({ max: REMEMBERED_LIMIT });

  /** It has changed now. */
  note(key: string): void {
    this.#changed.set(key, ++this.#count);
  }

  /** Whether it has changed since it was last heard. */
  has(key: string): boolean {
    return this.#changed.has(key);
  }

  /** To be called before a question; the answer is up to date if isCurrent() then holds with what this gave. */
  ask(key: string): number | undefined {
    return this.#changed.get(key);
  }

  /** Whether nothing has changed since ask(); if so it counts as heard. */
  isCurrent(key: string, asked: number | undefined): boolean {
    if (this.#changed.get(key) !== asked) return false;
    this.#changed.delete(key);
    return true;
  }
}
