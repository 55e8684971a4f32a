// The one place that writes responses of the distribution API: directly to Node's response, because a web stream in
// between halves the throughput of blobs.
//
// A body that cannot be completed is cut: the socket is destroyed, so no client takes what it got for the whole.
import type { ServerResponse } from 'node:http';
import type { Random } from '../../base/clock.ts';
import type { Span } from '../../base/spans.ts';
import type { Source } from '../../content/content.ts';
import type { Pump } from './pump.ts';
import { ResponseWriter, type Sent } from './response-writer.ts';

export type Headers = Record<string, string | number>;

/** How bodies of blobs are sent. */
export interface BodySending {
  readonly pump: Pump;
  readonly random: Random;
}

/** Sends a response whose body, if any, is in memory. For HEAD, the headers describe the body that is left out. */
export function send(to: Sent, status: number, headers: Headers, body?: string | Buffer): void {
  const { outgoing } = to;
  const length = body === undefined ? 0 : Buffer.byteLength(body);
  if (body !== undefined) headers['content-length'] = length;
  outgoing.writeHead(status, headers);
  const isHead = outgoing.req.method === 'HEAD';
  if (!isHead) to.sentBytes += length;
  if (ready.push({ outgoing, body: isHead ? undefined : body }) === 1) setImmediate(sendReady);
}

/**
 * Responses that are sent together, once all requests that have arrived are read. A client that is written to wakes up,
 * which costs more the more often it happens, and between two requests it falls asleep again.
 */
let ready: { outgoing: ServerResponse; body: string | Buffer | undefined }[] = [];

function sendReady(): void {
  const all = ready;
  ready = [];
  for (const { outgoing, body } of all) outgoing.end(body);
}

/**
 * Sends the head, then the spans of the source: all of it, one range, or several as multipart/byteranges (RFC 9110,
 * section 14.6). Resolves when the client has everything or has disconnected; rejects, with the connection cut, when
 * the source fails. Closes the source.
 */
export async function sendSource(
  to: Sent,
  headers: Headers,
  source: Source,
  spans: readonly Span[] | undefined,
  { pump, random }: BodySending,
): Promise<void> {
  if (spans === undefined && source.bytes !== undefined) {
    source.close();
    send(to, 200, headers, source.bytes);
    return;
  }
  const { outgoing } = to;
  const writer = new ResponseWriter(to, source);
  try {
    if (spans === undefined) {
      outgoing.writeHead(200, { ...headers, 'content-length': source.sizeBytes });
      await pump(writer, { start: 0, end: source.sizeBytes });
    } else {
      const parts = partsOf(spans, source.sizeBytes, headers, random);
      outgoing.writeHead(206, parts.headers);
      // The bytes of the range may still be far away; that it is satisfiable can be said now.
      outgoing.flushHeaders();
      for (const { before, span } of parts.parts) {
        writer.text(before);
        await pump(writer, span);
      }
      writer.text(parts.after);
    }
    if (!writer.ended) outgoing.end();
  } catch (error) {
    outgoing.destroy();
    if (!writer.ended) throw error;
  } finally {
    writer.close();
  }
}

function partsOf(spans: readonly Span[], sizeBytes: number, headers: Headers, random: Random) {
  const contentRange = ({ start, end }: Span) => `bytes ${start}-${end - 1}/${sizeBytes}`;
  const [span] = spans;
  if (spans.length === 1 && span !== undefined) {
    return {
      headers: { ...headers, 'content-range': contentRange(span), 'content-length': span.end - span.start },
      parts: [{ before: '', span }],
      after: '',
    };
  }
  const boundary = `ghcr-cache-${random.uuid()}`;
  const parts = spans.map(span => ({
    before: `\r\n--${boundary}\r\nContent-Type: ${headers['content-type']}\r\nContent-Range: ${contentRange(span)}\r\n\r\n`,
    span,
  }));
  const after = `\r\n--${boundary}--\r\n`;
  const length = parts.reduce((sum, { before, span }) => sum + before.length + span.end - span.start, after.length);
  const type = `multipart/byteranges; boundary=${boundary}`;
  return { headers: { ...headers, 'content-type': type, 'content-length': length }, parts, after };
}
