// The requests of a download's first connection, each within a permit. It asks for all that is free at once, as any client
// does, unless the blob is known beforehand to be large: then by segments, so that nothing is on its way that another
// connection fetches as well.
import type { Connection } from './connection.ts';
import type { Blob, DownloadOptions } from './download-options.ts';
import { acquireFor, type Permit, SMALL_BLOB_BYTES } from './permits.ts';
import { LARGE_BYTES, type Segment, type Segments } from './segments.ts';
import { type BlobBody, isInvalid, isLimited, isUnavailable, type OpenSpan } from './upstream.ts';

export class Opener {
  /** Of the blob, once the upstream has told it. */
  sizeBytes: number | undefined;
  permit: Permit | undefined;
  readonly #options: DownloadOptions;
  readonly #blob: Blob;
  readonly #segments: Segments;
  readonly #signal: AbortSignal;
  readonly #isLarge: boolean;
  #isAnswered = false;
  /** Ranges of it cannot be had. */
  #asksForAll = false;
  /** Where the last body came from. */
  #address: URL | undefined;

  constructor(options: DownloadOptions, blob: Blob, segments: Segments, signal: AbortSignal) {
    const { permit, inAnyOrder, expectedBytes = 0, upstream } = options;
    this.#options = options;
    this.#blob = blob;
    this.#segments = segments;
    this.#signal = signal;
    this.permit = permit;
    this.#isLarge = inAnyOrder === true && expectedBytes >= LARGE_BYTES && upstream.spares.perBlob > 0;
    if (this.#isLarge && upstream.spares.hasRanges) segments.limit(expectedBytes);
  }

  /** What to ask for next. Undefined when nothing is free. `isAlone`: there are no other connections. */
  next(isAlone: boolean): Segment | undefined {
    const isWhole = isAlone && !(this.#isLarge && this.#options.upstream.spares.hasRanges);
    return isWhole ? this.#segments.takeRun() : this.#segments.take();
  }

  /**
   * Opens a body for the connection's segment, which may become another one. Resolves to what went wrong where that
   * counts as a break. Throws as Upstream.openBlob, for the first request.
   */
  async open(connection: Connection): Promise<BlobBody | { broken: unknown }> {
    const { upstream, client, onPermit } = this.#options;
    const { repository, digest } = this.#blob;
    for (;;) {
      this.permit ??= await acquireFor(upstream.downloads, connection.leftBytes, { repository, client }, this.#signal);
      if (!this.#isAnswered) onPermit?.();
      const span = { ...this.#spanOf(connection.segment), address: this.#address };
      let body: BlobBody;
      try {
        body = await upstream.openBlob(repository, digest, span, this.#signal);
      } catch (error) {
        const isRange = span.start > 0 || span.end !== undefined;
        if (isRange && isInvalid(error)) {
          // It does not honour ranges, or not this one: what it sends from the start on is skipped.
          this.#asksForAll = true;
          continue;
        }
        // A failure of the first request has had its retries; later ones count as one more break.
        const isTransient = isUnavailable(error) || isLimited(error);
        if (isTransient && this.#options.permit !== undefined) upstream.spares.limited();
        if (!this.#isAnswered || !isTransient) throw error;
        return { broken: error };
      }
      const isNoRange = this.#asksForAll || (span.end !== undefined && body.isRange === false);
      if (isNoRange) upstream.spares.gaveNoRange();
      this.#hearSize(body.sizeBytes);
      if (!this.permit.isForSmall || connection.leftBytes <= SMALL_BLOB_BYTES) {
        this.#isAnswered = true;
        this.#address = body.address;
        return body;
      }
      body.close();
      this.release();
    }
  }

  /** The registry is asked for a fresh one. */
  forgetAddress(): void {
    this.#address = undefined;
  }

  release(): void {
    this.permit?.release();
    this.permit = undefined;
  }

  #hearSize(sizeBytes: number | undefined): void {
    if (sizeBytes === undefined || this.sizeBytes !== undefined) return;
    this.sizeBytes = sizeBytes;
    this.#segments.limit(sizeBytes);
  }

  /** To its end, if that is the blob's. */
  #spanOf({ position, end }: Segment = { position: 0, end: Infinity }): OpenSpan {
    if (this.#asksForAll) return { start: 0 };
    return end === Infinity || end === this.sizeBytes ? { start: position } : { start: position, end };
  }
}
