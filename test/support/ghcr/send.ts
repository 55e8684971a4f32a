// Sending responses: headers, then the body in large pieces at the pace of the reader, spoiled as the fault says. Bytes
// are recorded before they are written, so a client that has seen the end finds the record complete. Those of pieces
// that a client was gone for are taken out again.
import type { ServerResponse } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import type { Span } from '../../../src/base/spans.ts';
import { type Source, sourceOf } from '../images.ts';
import type { Exchange, Reply } from './exchange.ts';
import type { Answer } from './faults.ts';
import type { RequestLog } from './log.ts';

/** How many bytes may wait in a socket: two pieces, so that the next is ready when one has been sent. */
export const SEND_BUFFER_BYTES = 2 * 1024 * 1024;

export async function send(exchange: Exchange, log: RequestLog, reply: Reply, chunked: boolean): Promise<void> {
  const { request, response, record, fault } = exchange;
  const action = fault?.action ?? {};
  const content = reply.content ?? sourceOf(bodyBytes(reply));
  const whole = reply.span ?? { start: 0, end: content.sizeBytes };
  const span = { ...whole, end: Math.max(whole.start, whole.end - (action.short ?? 0)) };

  const bodyless = reply.status === 304 || reply.status === 204;
  const headers: Record<string, string> = { ...(isJson(reply) && JSON_TYPE), ...reply.headers };
  if (!bodyless && !chunked && !action.chunked) headers['content-length'] ??= String(span.end - span.start);
  record.status = reply.status;
  log.changed();
  response.writeHead(reply.status, headers);

  if (request.method !== 'HEAD' && !bodyless) {
    if (!(await sendBody(exchange, content, span))) return;
  }
  // Ending the response may end the connection, and a client that is still sending would never read it.
  if (!exchange.body.drained) {
    response.flushHeaders();
    await exchange.body.drain();
    if (response.destroyed) return;
  }
  record.state = 'finished';
  log.changed();
  response.end();
}

const JSON_TYPE = { 'content-type': 'application/json' };

function isJson({ body }: Answer): boolean {
  return typeof body === 'object' && !(body instanceof Uint8Array);
}

function bodyBytes({ body = '' }: Answer): Uint8Array {
  if (body instanceof Uint8Array) return body;
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
}

/** Sends a span with all that its fault does to it; false when the response must not be ended any more. */
async function sendBody({ response, record, fault, gone }: Exchange, content: Source, span: Span): Promise<boolean> {
  const { cutAfter, reset, stallAfter, shortClaimed, tooLong, corruptAt, throttle } = fault?.action ?? {};
  const length = span.end - span.start;

  const sendUpTo = async (from: number, to: number): Promise<void> => {
    let at = from;
    for (const chunk of content.chunks(from, to)) {
      const bytes = corruptAt === undefined ? chunk : flipped(chunk, corruptAt - at);
      at += chunk.length;
      for (const piece of throttle === undefined ? [bytes] : slices(bytes, Math.ceil(throttle / 20))) {
        if (throttle !== undefined) await wait((piece.length / throttle) * 1000);
        if (response.destroyed) return;
        record.bytesSent += piece.length;
        const took = response.write(piece, error => {
          if (error) record.bytesSent -= piece.length;
        });
        if (!took) await Promise.race([drained(response), gone]);
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

/** Resolves when all that was written has left the process, or never will. */
async function flushed(response: ServerResponse): Promise<void> {
  response.flushHeaders();
  await new Promise(resolve => {
    if (response.socket) response.socket.write('', resolve);
    else resolve(undefined);
  });
}

/** The chunk with the byte at `offset` flipped, if the chunk has that offset. */
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
