// Sending answers: headers, then the body in large pieces at the pace of the reader, spoiled as a fault asks.
// What is sent is recorded before it leaves, so a client that has seen the end finds the record complete.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import { parseRange, type Span } from '../../../src/oci/range.ts';
import { type Source, sourceOf } from '../images.ts';
import type { ActiveFault, Answer } from './faults.ts';
import type { RequestLog, RequestRecord } from './log.ts';
import type { RequestBody } from './receive.ts';

/** How many bytes may wait in a socket: two pieces, so that the next is at hand when one has left. */
export const SEND_BUFFER_BYTES = 2 * 1024 * 1024;

export interface Reply {
  status: number;
  headers?: Record<string, string>;
  body?: Source;
  /** The part of the body to send. Default: all. */
  span?: Span;
}

/** One request on its way to an answer. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly record: RequestRecord;
  readonly fault: ActiveFault | undefined;
  readonly body: RequestBody;
  /** Resolves when the connection has ended. */
  readonly gone: Promise<void>;
}

export function replyOf({ status, headers = {}, body }: Answer): Reply {
  if (body === undefined) return { status, headers };
  if (body instanceof Uint8Array) return { status, headers, body: sourceOf(body) };
  if (typeof body === 'string') return { status, headers, body: sourceOf(Buffer.from(body)) };
  return {
    status,
    headers: { 'content-type': 'application/json', ...headers },
    body: sourceOf(Buffer.from(JSON.stringify(body))),
  };
}

/** Content, or the one range of it that a GET asks for. More than one range gets everything. */
export function contentReply(
  { request, fault }: Exchange,
  body: Source,
  headers: Record<string, string>,
): Reply {
  const { sizeBytes } = body;
  const ifRange = request.headers['if-range'];
  const ignored =
    request.method !== 'GET' ||
    fault?.action.ignoreRange ||
    (ifRange !== undefined && ifRange !== headers.etag);
  const spans = ignored ? undefined : parseRange(request.headers.range, sizeBytes);
  if (spans?.length === 0) return { status: 416, headers: { 'content-range': `bytes */${sizeBytes}` } };
  const [span] = spans ?? [];
  if (span === undefined || spans?.length !== 1) return { status: 200, headers, body };

  const sentSpan = { ...span, end: span.end - (fault?.action.short ?? 0) };
  const contentRange =
    fault?.action.contentRange?.(sentSpan, sizeBytes) ??
    `bytes ${sentSpan.start}-${sentSpan.end - 1}/${sizeBytes}`;
  return { status: 206, headers: { ...headers, 'content-range': contentRange }, body, span };
}

export async function send(
  exchange: Exchange,
  log: RequestLog,
  reply: Reply,
  chunked: boolean,
): Promise<void> {
  const { request, response, record, fault } = exchange;
  const action = fault?.action ?? {};
  const body = reply.body ?? sourceOf(new Uint8Array());
  const whole = reply.span ?? { start: 0, end: body.sizeBytes };
  const span = { ...whole, end: Math.max(whole.start, whole.end - (action.short ?? 0)) };
  const length = span.end - span.start;

  const bodyless = reply.status === 304 || reply.status === 204;
  const headers: Record<string, string> = { ...reply.headers };
  if (!bodyless && !chunked && !action.chunked) headers['content-length'] ??= String(length);
  record.status = reply.status;
  log.changed();
  response.writeHead(reply.status, headers);

  if (request.method !== 'HEAD' && !bodyless) {
    if (!(await sendBody(exchange, body, span))) return;
  }
  // To end the answer can be to end the connection, and then a client that is still sending would lose it.
  if (!exchange.body.drained) {
    response.flushHeaders();
    await exchange.body.drain();
    if (response.destroyed) return;
  }
  record.state = 'finished';
  log.changed();
  response.end();
}

/** Sends a span with all that its fault does to it; false when the answer is not to be ended any more. */
async function sendBody(
  { response, record, fault, gone }: Exchange,
  body: Source,
  span: Span,
): Promise<boolean> {
  const { cutAfter, reset, stallAfter, shortClaimed, tooLong, corruptAt, throttle } = fault?.action ?? {};
  const length = span.end - span.start;

  const sendUpTo = async (from: number, to: number): Promise<void> => {
    let at = from;
    for (const chunk of body.chunks(from, to)) {
      const bytes = corruptAt === undefined ? chunk : flipped(chunk, corruptAt - at);
      at += chunk.length;
      for (const piece of throttle === undefined ? [bytes] : slices(bytes, Math.ceil(throttle / 20))) {
        if (throttle !== undefined) await wait((piece.length / throttle) * 1000);
        if (response.destroyed) return;
        record.bytesSent += piece.length;
        if (!response.write(piece)) await Promise.race([drained(response), gone]);
      }
    }
  };

  const stop = cutAfter ?? stallAfter ?? (shortClaimed === undefined ? undefined : length - shortClaimed);
  if (stop === undefined || stop > length) {
    await sendUpTo(span.start, span.end);
  } else {
    const middle = span.start + Math.max(0, stop);
    await sendUpTo(span.start, middle);
    await flushed(response);
    if (shortClaimed !== undefined) {
      response.socket?.end();
      return false;
    }
    fault?.tookEffect();
    if (cutAfter !== undefined) {
      if (reset) response.socket?.resetAndDestroy();
      else response.destroy();
      return false;
    }
    await Promise.race([fault?.removed, gone]);
    if (!response.destroyed) await sendUpTo(middle, span.end);
  }

  if (tooLong !== undefined && !response.destroyed) {
    record.bytesSent += tooLong;
    response.write(Buffer.alloc(tooLong, '+'));
  }
  return !response.destroyed;
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise(resolve => response.once('drain', resolve));
}

/** Resolves when all that was written has left the process, or cannot any more. */
async function flushed(response: ServerResponse): Promise<void> {
  response.flushHeaders();
  await new Promise(resolve => {
    if (response.socket) response.socket.write('', resolve);
    else resolve(undefined);
  });
}

/** The chunk with the byte at `offset` flipped, when the chunk has that offset. */
function flipped(chunk: Uint8Array, offset: number): Uint8Array {
  const byte = chunk[offset];
  if (byte === undefined) return chunk;
  const copy = Uint8Array.from(chunk);
  copy[offset] = byte ^ 0xff;
  return copy;
}

function* slices(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
