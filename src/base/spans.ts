// Sets of positions, kept as spans: which bytes of a blob have come, or are still to be asked for.

/** The positions from `start` up to, but not including, `end`. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** Spans in their order, none of which touch. There are few, so they are looked through one by one. */
export class Spans {
  #list: readonly Span[] = [];

  constructor(spans: Iterable<Span> = []) {
    for (const span of spans) this.add(span);
  }

  get list(): readonly Span[] {
    return this.#list;
  }

  /** How many positions there are in all. */
  get size(): number {
    return this.#list.reduce((sum, { start, end }) => sum + end - start, 0);
  }

  /** Nothing is done for an empty span. */
  add({ start, end }: Span): void {
    if (start >= end) return;
    const before = this.#list.filter(span => span.end < start);
    const after = this.#list.filter(span => span.start > end);
    const touching = this.#list.slice(before.length, this.#list.length - after.length);
    const merged = {
      start: Math.min(start, ...touching.map(s => s.start)),
      end: Math.max(end, ...touching.map(s => s.end)),
    };
    this.#list = [...before, merged, ...after];
  }

  remove({ start, end }: Span): void {
    if (start >= end) return;
    this.#list = this.#list.flatMap(span => {
      if (span.end <= start || span.start >= end) return [span];
      return [
        { start: span.start, end: Math.min(span.end, start) },
        { start: Math.max(span.start, end), end: span.end },
      ].filter(rest => rest.start < rest.end);
    });
  }

  /** Where the positions end that follow on this one without a gap; the position itself if it is in none of the spans. */
  endOf(position: number): number {
    return this.#list.find(({ start, end }) => start <= position && position < end)?.end ?? position;
  }
}
