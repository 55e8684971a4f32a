// The requests under /v2/ whose responses are not out yet: what a shutdown waits for, and what it cuts.
import type { Exchange } from './exchange.ts';

/** How many images are named; the rest is counted. */
const NAMED = 3;

export class InFlight {
  /**
   * In places that are used again. A Set moves to a new table every so often, which V8 keeps reachable from the old one:
   * once an old table has left the young generation, so does all that passes through the Set from then on.
   */
  readonly #places: (Exchange | undefined)[] = [];
  readonly #free: number[] = [];

  /** Returns its place, for delete(). */
  add(exchange: Exchange): number {
    const place = this.#free.pop() ?? this.#places.length;
    this.#places[place] = exchange;
    return place;
  }

  delete(place: number): void {
    this.#places[place] = undefined;
    this.#free.push(place);
  }

  /** What there is, for a sentence: `2 pulls and 1 push (ghcr.io/owner/app:v1, …)`; undefined when there is nothing. */
  describe(): string | undefined {
    const all = this.#all;
    if (all.length === 0) return undefined;
    const pushes = all.filter(({ isPush }) => isPush).length;
    const counts = [counted(all.length - pushes, 'pull', 'pulls'), counted(pushes, 'push', 'pushes')];
    const images = new Set(all.map(({ image }) => image?.replace(/(:[0-9a-f]{12})[0-9a-f]{20,}$/, '$1…')));
    const named = [...images].filter(image => image !== undefined).slice(0, NAMED);
    const names = named.length < images.size ? [...named, '…'] : named;
    return `${counts.filter(Boolean).join(' and ')}${named.length === 0 ? '' : ` (${names.join(', ')})`}`;
  }

  /** To be called before their connections are closed. Returns what describe() does. */
  cut(): string | undefined {
    for (const exchange of this.#all) exchange.isCut = true;
    return this.describe();
  }

  get #all(): Exchange[] {
    return this.#places.filter(exchange => exchange !== undefined);
  }
}

function counted(count: number, one: string, many: string): string {
  return count === 0 ? '' : `${count} ${count === 1 ? one : many}`;
}
