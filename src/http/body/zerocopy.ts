// Bodies that never enter this process: sendfile(2) from the file that a source lends to the socket of the response.
// No thread ever waits for a client. When the socket is full, one piece is written through Node, which completes when
// the client has read enough: so that wait is the event loop's.
import type { Socket } from 'node:net';
import { FairSemaphore } from '../../base/fair-semaphore.ts';
import type { Span } from '../../base/spans.ts';
import type { Pump } from './pump.ts';
import type { ResponseWriter } from './response-writer.ts';
import type { Sendfile } from './sendfile.ts';

/** For a shorter span, waiting until the head is out costs more than copying. */
const WORTH_BYTES = 256 * 1024;
/** What a body that is alone sends from the event loop before others have their turn. */
const AT_ONCE_BYTES = 256 * 1024;
/** What one call in a thread may send: as much as a core's cache still holds when the client reads it. */
const CALL_BYTES = 1024 * 1024;
/** Concurrent calls in threads. libuv's pool has four, and files have to be opened and read too. */
const CALLS_LIMIT = 3;
/** The piece that is written when the socket is full: what a client that does not read holds in memory. */
const PIECE_BYTES = 16 * 1024;

/** A pump that avoids copying wherever possible, and else reads and writes. */
export function zerocopy(sendfile: Sendfile): Pump {
  const calls = new FairSemaphore({ permits: CALLS_LIMIT });
  let inFlight = 0;

  return async (writer, span) => {
    let position = span.start;
    if (span.end - span.start >= WORTH_BYTES) {
      inFlight++;
      try {
        position = await sendFiles(writer, span);
      } finally {
        inFlight--;
      }
    }
    await writer.copy({ start: position, end: span.end });
  };

  /** Sends from files as far as there are any; resolves to the position where that ended. */
  async function sendFiles(writer: ResponseWriter, span: Span): Promise<number> {
    const { socket } = writer.outgoing;
    // There is none yet while an earlier response on the connection is not out.
    if (writer.source.lend === undefined || socket === null) return span.start;
    await writer.flushed();
    let position = span.start;
    while (position < span.end && !writer.ended) {
      const file = await writer.source.lend(position);
      if (file === undefined) break;
      const { start, end } = { start: position, end: Math.min(span.end, file.end) };
      try {
        position = await sendFile(socket, file.fd, writer, { start, end }, end === span.end);
      } finally {
        file.release();
      }
      // If it ended early, reading goes on from there and finds out why.
      if (position < end || position === start) break;
    }
    return position;
  }

  /**
   * Resolves to the position where that ended: before the end when it cannot be done, or the client has disconnected.
   * A body that is alone and complete is sent from the event loop: no other body waits for that, and the way to a thread
   * and back would cost as much as the sending. While bytes are still coming in, the event loop is hashing them.
   */
  async function sendFile(
    socket: Socket,
    fd: number,
    writer: ResponseWriter,
    span: Span,
    isWhole: boolean,
  ): Promise<number> {
    let position = span.start;
    while (position < span.end && !writer.ended) {
      const left = span.end - position;
      const isAlone = inFlight === 1 && isWhole;
      let wanted = Math.min(left, AT_ONCE_BYTES);
      let sent = isAlone ? sendfile.atOnce(socket, fd, position, wanted) : undefined;
      if (sent === undefined) {
        wanted = Math.min(left, CALL_BYTES);
        sent = await inThread(socket, fd, position, wanted);
      } else if (sent === wanted) {
        await new Promise(setImmediate);
      }
      if (sent === undefined) break;
      position += sent;
      writer.count(sent);
      if (sent < wanted) {
        // Also after an error: reading or writing the piece runs into it again, and reports it.
        const piece = { start: position, end: Math.min(span.end, position + PIECE_BYTES) };
        await writer.copy(piece);
        await writer.written();
        position = piece.end;
      }
      noteActivity(socket);
    }
    return position;
  }

  async function inThread(...call: Parameters<Sendfile['inThread']>): Promise<number | undefined> {
    const release = await calls.acquire('');
    try {
      return await sendfile.inThread(...call);
    } finally {
      release();
    }
  }
}

/**
 * Node sees nothing of these bytes, and would take the connection for an idle one. This is what it calls itself at each
 * write. Setting the timeout again would make another timer, thousands a second, which outlive V8's young generation
 * and keep their neighbours in the list of timers in memory.
 */
function noteActivity(socket: Socket): void {
  (socket as { _unrefTimer?: () => void })._unrefTimer?.();
}
