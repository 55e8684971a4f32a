// Which bytes of a blob are still to be fetched, and which connection fetches which. Segments are given out in the order
// of their positions, so the head of the blob grows at the speed of all connections together. A segment is of 16 MiB at
// least, and a blob has no more than 64 of them: several connections must not cost many more requests than one. Less is in
// one only at the end of a blob, and where a slow connection is relieved of its second half.
import { type Span, Spans } from '../base/spans.ts';

/** What one connection fetches: the bytes from `position`, which it moves on, to `end`, which others may bring forward. */
export interface Segment {
  position: number;
  end: number;
}

const LEAST_BYTES = 16 * 1024 * 1024;
/** What is shorter is not worth a request of its own. */
const LEAST_REST_BYTES = 8 * 1024 * 1024;
/** What is smaller is one segment. */
export const LARGE_BYTES = LEAST_BYTES + LEAST_REST_BYTES;
const SEGMENTS_LIMIT = 64;
/** What is nearer to where a connection stands comes soon enough. */
const SOON_BYTES = 8 * 1024 * 1024;
/** Where segments begin, unless it is where bytes end that are here: a multiple of content's WRITER_ALIGNMENT. */
const ALIGNMENT_BYTES = 1024 * 1024;

export class Segments {
  /** Fetched by no connection. */
  readonly #free: Spans;
  readonly #taken = new Set<Segment>();
  readonly #wantedEnd: number;
  #end: number;
  /** Positions that someone waits for, in the order in which they were asked for. */
  #wanted: number[] = [];
  #segmentBytes = LEAST_BYTES;

  /** `here`: what need not be fetched. The end of what is wanted is Infinity while the size is not known. */
  constructor(wanted: Span, here: readonly Span[]) {
    this.#free = new Spans([wanted]);
    this.#wantedEnd = wanted.end;
    this.#end = wanted.end;
    for (const span of here) this.#free.remove(span);
  }

  get isComplete(): boolean {
    return this.#taken.size === 0 && !this.hasFree;
  }

  get hasFree(): boolean {
    return this.#free.list.length > 0;
  }

  /** How large the blob is: nothing behind that is to be fetched. It may be said again, when it was not true. */
  limit(sizeBytes: number): void {
    const end = Math.min(this.#wantedEnd, sizeBytes);
    if (this.#end < end) this.#free.add({ start: this.#end, end });
    this.#end = end;
    this.#free.remove({ start: sizeBytes, end: Infinity });
    for (const segment of this.#taken) segment.end = Math.min(segment.end, sizeBytes);
    this.#segmentBytes = Math.max(LEAST_BYTES, alignedUp(sizeBytes / SEGMENTS_LIMIT, ALIGNMENT_BYTES));
  }

  /** All from the first free byte to the next that is not. Undefined when there is none. */
  takeRun(): Segment | undefined {
    const [first] = this.#free.list;
    return first && this.#take(first);
  }

  /** The first free segment; one is freed first of what another connection is not going to reach soon, if need be. */
  take(): Segment | undefined {
    const wanted = this.#takeWanted();
    if (wanted !== undefined) return wanted;
    if (!this.hasFree) this.#splitLongest();
    const [first] = this.#free.list;
    return first && this.#take({ start: first.start, end: this.#endIn(first) });
  }

  /** Whether take() would give one. */
  get canTake(): boolean {
    return this.hasFree || [...this.#taken].some(segment => this.#splitOf(segment) !== undefined);
  }

  /** Has the bytes at this position taken next, if no connection comes to them soon; false when one does, or has. */
  want(position: number): boolean {
    const taken = [...this.#taken].find(segment => segment.position <= position && position < segment.end);
    const at = Math.floor(position / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    if (taken !== undefined && at - taken.position > SOON_BYTES) this.#cut(taken, at);
    if (!this.#isFree(position)) return false;
    this.#wanted.push(position);
    return true;
  }

  /** Whether someone waits for what no connection fetches. */
  get hasWanted(): boolean {
    return this.#wanted.some(position => this.#isFree(position));
  }

  /** Nobody waits for it any more. */
  unwant(position: number): void {
    this.#wanted = this.#wanted.filter(each => each !== position);
  }

  /** Has the segment go on with what follows, up to a position, if that is free; false when it ends. */
  extend(segment: Segment, upTo = Infinity): boolean {
    const next = this.#free.list.find(({ start }) => start === segment.end);
    if (next === undefined || upTo <= segment.end) return false;
    segment.end = Math.min(this.#endIn(next), upTo);
    this.#free.remove({ start: next.start, end: segment.end });
    return true;
  }

  /** It is fetched, or no further: the rest of it is free again. */
  release(segment: Segment): void {
    this.#taken.delete(segment);
    this.#free.add({ start: segment.position, end: segment.end });
  }

  /** Frees the second half of the segment, of a slow connection; false when that is too little. */
  halve(segment: Segment): boolean {
    const middle = alignedUp((segment.position + segment.end) / 2, ALIGNMENT_BYTES);
    if (middle >= segment.end) return false;
    this.#cut(segment, middle);
    return true;
  }

  #takeWanted(): Segment | undefined {
    for (const position of this.#wanted) {
      const span = this.#free.list.find(({ start, end }) => start <= position && position < end);
      if (span === undefined) continue;
      const start = Math.max(span.start, Math.floor(position / ALIGNMENT_BYTES) * ALIGNMENT_BYTES);
      return this.#take({ start, end: this.#endIn({ start, end: span.end }) });
    }
    return undefined;
  }

  #isFree(position: number): boolean {
    return this.#free.endOf(position) > position;
  }

  #take({ start, end }: Span): Segment {
    const segment = { position: start, end };
    this.#free.remove({ start, end });
    this.#taken.add(segment);
    return segment;
  }

  #splitLongest(): void {
    const [longest] = [...this.#taken]
      .filter(segment => this.#splitOf(segment) !== undefined)
      .sort((a, b) => b.end - b.position - (a.end - a.position));
    const at = longest && this.#splitOf(longest);
    if (at !== undefined) this.#cut(longest as Segment, at);
  }

  /** Where a segment that is longer than one should be is cut. */
  #splitOf({ position, end }: Segment): number | undefined {
    const at = alignedUp(position + this.#segmentBytes / 2, this.#segmentBytes);
    return end < Infinity && end - at >= LEAST_REST_BYTES ? at : undefined;
  }

  #cut(segment: Segment, at: number): void {
    this.#free.add({ start: at, end: segment.end });
    segment.end = at;
  }

  /** Where the segment ends that begins with this span. */
  #endIn({ start, end }: Span): number {
    const at = Math.floor(start / this.#segmentBytes + 1.5) * this.#segmentBytes;
    return end - at < LEAST_REST_BYTES ? end : at;
  }
}

function alignedUp(position: number, alignment: number): number {
  return Math.ceil(position / alignment) * alignment;
}
