// The one place that writes answers of the distribution API: straight to Node's response, because a web
// stream in between halves the throughput of blobs.
//
// A body that cannot be completed is cut: the socket is destroyed, so no client takes what it got for the whole.
import type { ServerResponse } from 'node:http';
import type { Source } from '../../content/content.ts';
import type { Span } from '../../oci/range.ts';
import { type Pump, ResponseWriter } from './pump.ts';

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
  if (leaving.push({ outgoing, body: outgoing.req.method === 'HEAD' ? undefined : body }) === 1) {
    setImmediate(leave);
  }
}

/**
 * Answers that are ready. They leave together when all requests that had come are read: a client that is written to
 * wakes up, which costs the more the more often it has to, and between two requests it falls asleep again.
 */
let leaving: { outgoing: ServerResponse; body: string | Buffer | undefined }[] = [];

function leave(): void {
  const all = leaving;
  leaving = [];
  for (const { outgoing, body } of all) outgoing.end(body);
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
  pump: Pump,
): Promise<void> {
  if (spans === undefined && source.bytes !== undefined) {
    source.close();
    send(outgoing, 200, headers, source.bytes);
    return;
  }
  const outlet = new ResponseWriter(outgoing, source);
  try {
    if (spans === undefined) {
      outgoing.writeHead(200, { ...headers, 'content-length': source.sizeBytes });
      await pump(outlet, { start: 0, end: source.sizeBytes });
    } else {
      const parts = partsOf(spans, source.sizeBytes, headers);
      outgoing.writeHead(206, parts.headers);
      // The bytes of a range may be far from here yet; that it is accepted can be said at once.
      outgoing.flushHeaders();
      for (const { before, span } of parts.parts) {
        if (before !== '') outgoing.write(before);
        await pump(outlet, span);
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
