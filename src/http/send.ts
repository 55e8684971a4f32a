// The one place that writes answers of the distribution API: straight to Node's response, because a web
// stream in between halves the throughput of blobs.
//
// Bodies are read into pooled buffers and written from them; nothing is allocated for a chunk. A body that
// cannot be completed is cut: the socket is destroyed, so no client takes what it got for the whole.
import type { ServerResponse } from 'node:http';
import type { Source } from '../content/content.ts';
import type { Span } from '../oci/range.ts';

/** How much is read and written at a time; two such buffers serve one answer. */
const BUFFER_BYTES = 256 * 1024;
/** Buffers that are kept for the next answer. */
const KEPT_BUFFERS = 32;
const kept: Buffer[] = [];

export type Headers = Record<string, string | number>;

/** An answer whose body, if any, is at hand. To HEAD, the headers speak of the body that is left out. */
export function send(
  outgoing: ServerResponse,
  status: number,
  headers: Headers,
  body?: string | Buffer,
): void {
  if (body !== undefined) headers['content-length'] = Buffer.byteLength(body);
  outgoing.writeHead(status, headers);
  if (body === undefined || outgoing.req.method === 'HEAD') outgoing.end();
  else outgoing.end(body);
}

/**
 * Writes the head, then the spans of the source: all of it, one range, or several as multipart/byteranges
 * (RFC 9110, section 14.6). Resolves when the client has it all or has left; rejects, with the connection cut,
 * when the source failed. Closes the source.
 */
export async function sendSource(
  outgoing: ServerResponse,
  headers: Headers,
  source: Source,
  spans: readonly Span[] | undefined,
): Promise<void> {
  const outlet = new Outlet(outgoing, source);
  try {
    if (spans === undefined) {
      outgoing.writeHead(200, { ...headers, 'content-length': source.sizeBytes });
      await outlet.pump({ start: 0, end: source.sizeBytes });
    } else {
      const parts = partsOf(spans, source.sizeBytes, headers);
      outgoing.writeHead(206, parts.headers);
      // The bytes of a range may be far from here yet; that it is accepted can be said at once.
      outgoing.flushHeaders();
      for (const { before, span } of parts.parts) {
        if (before !== '') outgoing.write(before);
        await outlet.pump(span);
      }
      if (parts.after !== '') outgoing.write(parts.after);
    }
    if (!outlet.gone) outgoing.end();
  } catch (error) {
    outgoing.destroy();
    if (!outlet.gone) throw error;
  } finally {
    outlet.close();
  }
}

function partsOf(spans: readonly Span[], sizeBytes: number, headers: Headers) {
  const contentRange = ({ start, end }: Span) => `bytes ${start}-${end - 1}/${sizeBytes}`;
  const [span] = spans;
  if (spans.length === 1 && span !== undefined) {
    return {
      headers: { ...headers, 'content-range': contentRange(span), 'content-length': span.end - span.start },
      parts: [{ before: '', span }],
      after: '',
    };
  }
  const boundary = `ghcr-cache-${Math.random().toString(36).slice(2)}`;
  const parts = spans.map(span => ({
    before: `\r\n--${boundary}\r\nContent-Type: ${headers['content-type']}\r\nContent-Range: ${contentRange(span)}\r\n\r\n`,
    span,
  }));
  const after = `\r\n--${boundary}--\r\n`;
  const length = parts.reduce(
    (sum, { before, span }) => sum + before.length + span.end - span.start,
    after.length,
  );
  const type = `multipart/byteranges; boundary=${boundary}`;
  return { headers: { ...headers, 'content-type': type, 'content-length': length }, parts, after };
}

/** A source on its way into a response: reads into one buffer while the other is being written. */
class Outlet {
  /** The client has left, or the answer is complete. */
  gone = false;
  readonly #outgoing: ServerResponse;
  readonly #source: Source;
  readonly #buffers: [Buffer, Buffer] = [takeBuffer(), takeBuffer()];
  #isClosed = false;
  /** Whether the buffer that was written last is still in use. */
  #writing = false;
  #wake = () => {};

  constructor(outgoing: ServerResponse, source: Source) {
    this.#outgoing = outgoing;
    this.#source = source;
    outgoing.once('close', () => this.#leave());
    // It may have left while the source was waited for; then there is no more close to come.
    if (outgoing.destroyed) this.#leave();
  }

  async pump(span: Span): Promise<void> {
    for (let position = span.start; position < span.end && !this.gone; ) {
      const [buffer] = this.#buffers;
      const wanted = span.end - position;
      const into = wanted < buffer.byteLength ? buffer.subarray(0, wanted) : buffer;
      const count = await this.#source.read(into, position);
      if (count === 0) throw new Error(`the content ends at byte ${position} of ${this.#source.sizeBytes}`);
      await this.#free();
      if (this.gone) return;
      this.#writing = true;
      this.#outgoing.write(into.subarray(0, count), () => this.#written());
      this.#buffers.reverse();
      position += count;
    }
  }

  /** To be called when no read is under way. */
  close(): void {
    this.#closeSource();
    // What is still being written is left to the garbage collector.
    keepBuffer(this.#buffers[0]);
    if (!this.#writing) keepBuffer(this.#buffers[1]);
  }

  /** Waits until what was written before has left its buffer. */
  async #free(): Promise<void> {
    while (this.#writing && !this.gone) {
      await new Promise<void>(wake => {
        this.#wake = wake;
      });
    }
  }

  #leave(): void {
    this.gone = true;
    this.#closeSource();
    this.#written();
  }

  #written(): void {
    this.#writing = false;
    this.#wake();
  }

  #closeSource(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#source.close();
  }
}

function takeBuffer(): Buffer {
  return kept.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
}

function keepBuffer(buffer: Buffer): void {
  if (kept.length < KEPT_BUFFERS) kept.push(buffer);
}
