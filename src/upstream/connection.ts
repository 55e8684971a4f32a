// One connection of a download: it receives its segment by one body after another, and goes on with what follows as long as
// no other connection fetches that.
import { abortable } from '../base/abortable.ts';
import type { Clock } from '../base/clock.ts';
import { tooLong } from './download-errors.ts';
import type { Segment, Segments } from './segments.ts';
import type { OnChunk } from './transport/response.ts';
import type { BlobBody } from './upstream.ts';

export class Connection {
  /** What it fetches now. */
  segment: Segment | undefined;
  receivedBytes = 0;
  /** Sent again by an upstream that does not honour ranges. */
  skippedBytes = 0;
  /** How often it was looked at since its body began, and how often in a row without a byte. */
  looks = 0;
  stillLooks = 0;
  #seenBytes = 0;
  readonly #clock: Pick<Clock, 'monotonic'>;
  #openMs = 0;
  #openedMs = 0;
  readonly #what: string;
  readonly #segments: Segments;
  readonly #signal: AbortSignal;
  #body: BlobBody | undefined;
  /** While the receiver asks for time. */
  #taking: Promise<void> | undefined;

  constructor(what: string, segments: Segments, signal: AbortSignal, clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
    this.#what = what;
    this.#segments = segments;
    this.#signal = signal;
  }

  get isOpen(): boolean {
    return this.#body !== undefined;
  }

  /** How long it has had a body, in all. */
  get openMs(): number {
    return this.#openMs + (this.isOpen ? this.#clock.monotonic() - this.#openedMs : 0);
  }

  /** Whether the receiver is being waited for. */
  get isHeldUp(): boolean {
    return this.#taking !== undefined;
  }

  /** How much of its segment is missing. */
  get leftBytes(): number {
    return this.segment === undefined ? 0 : this.segment.end - this.segment.position;
  }

  /** How many bytes have come since the last look. */
  look(): number {
    const moved = this.receivedBytes - this.#seenBytes;
    this.#seenBytes = this.receivedBytes;
    this.looks++;
    this.stillLooks = moved > 0 ? 0 : this.stillLooks + 1;
    return moved;
  }

  /** Ends what it receives now, which counts as a break. */
  close(): void {
    this.#body?.close();
  }

  /** Leaves what is missing of its segment to others. */
  release(): void {
    if (this.segment !== undefined) this.#segments.release(this.segment);
    this.segment = undefined;
  }

  /**
   * Receives the body, which begins at the segment or before it. Resolves to undefined when the segment is
   * fetched, else to what broke the body. Throws what the receiver throws, and UPSTREAM_INVALID when more comes than the
   * blob has.
   */
  async receive(body: BlobBody, segment: Segment, sizeBytes: number | undefined, take: OnChunk): Promise<unknown> {
    this.#body = body;
    this.#openedMs = this.#clock.monotonic();
    this.looks = 0;
    this.stillLooks = 0;
    // An upstream that does not honour ranges sends again what we have.
    let skip = segment.position - body.start;
    try {
      const error = await body.read(arrived => {
        let chunk = skip > 0 ? arrived.subarray(skip) : arrived;
        if (skip > 0) {
          this.skippedBytes += Math.min(skip, arrived.length);
          skip = Math.max(0, skip - arrived.length);
        }
        if (chunk.length > segment.end - segment.position) chunk = this.#cut(chunk, segment, sizeBytes, body.end);
        if (chunk.length === 0) return undefined;
        segment.position += chunk.length;
        this.receivedBytes += chunk.length;
        const taking = take(chunk);
        if (taking !== undefined) this.#waitFor(taking);
        return taking;
      });
      // A body that ends is all there is, where that was not told.
      if (error === undefined && segment.end === Infinity) this.#segments.limit(segment.position);
      if (segment.position === segment.end) return undefined;
      return error ?? new Error(`the body ended after ${segment.position} of ${sizeBytes ?? segment.end} bytes`);
    } finally {
      this.#openMs = this.openMs;
      this.#body = undefined;
    }
  }

  /** Resolves when the receiver has the last chunk; throws the reason when nothing is to be received any more. */
  async taken(): Promise<void> {
    if (this.#taking === undefined || this.#signal.aborted) return;
    await abortable(this.#taking, this.#signal);
  }

  #waitFor(taking: Promise<void>): void {
    this.#taking = taking;
    const taken = () => {
      if (this.#taking === taking) this.#taking = undefined;
    };
    taking.then(taken, () => {});
  }

  /** What of a chunk is still the segment's, which is extended if it can be. */
  #cut(chunk: Buffer, segment: Segment, sizeBytes: number | undefined, bodyEnd: number | undefined): Buffer {
    if (segment.end === sizeBytes) throw tooLong(this.#what, sizeBytes);
    const isLonger = this.#segments.extend(segment, bodyEnd) && chunk.length <= segment.end - segment.position;
    if (isLonger) return chunk;
    this.close();
    return chunk.subarray(0, segment.end - segment.position);
  }
}
