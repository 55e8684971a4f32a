import { LRUCache } from 'lru-cache';
import type { Clock } from './clock.ts';

export interface ExpiringCacheOptions {
  readonly clock: Pick<Clock, 'monotonic'>;
  /** How many entries; beyond them the least recently used goes. */
  readonly max: number;
  /** The lifetime of entries that are set without one of their own. Default: until they are pushed out. */
  readonly ttlMs?: number;
}

/**
 * A bounded cache whose entries end with their lifetime, to the millisecond. lru-cache's own ttl is not used: it
 * serves an entry whose age equals its lifetime, and takes time 0 for no time at all.
 */
export class ExpiringCache<V extends {}> {
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #ttlMs: number;
  readonly #entries: LRUCache<string, { value: V; untilMs: number }>;

  constructor({ clock, max, ttlMs = Infinity }: ExpiringCacheOptions) {
    this.#clock = clock;
    this.#ttlMs = ttlMs;
    this.#entries = new LRUCache({ max });
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    if (this.#clock.monotonic() < entry.untilMs) return entry.value;
    this.#entries.delete(key);
    return undefined;
  }

  set(key: string, value: V, ttlMs = this.#ttlMs): void {
    this.#entries.set(key, { value, untilMs: this.#clock.monotonic() + ttlMs });
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }

  /** All that has not ended. */
  *values(): Generator<V> {
    const nowMs = this.#clock.monotonic();
    for (const { value, untilMs } of this.#entries.values()) if (nowMs < untilMs) yield value;
  }
}
