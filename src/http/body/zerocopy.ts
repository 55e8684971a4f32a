// Bodies that never enter this process: sendfile(2) from the file that a source lends to the socket of the response.
// It never waits for the client. When the socket is full, one piece is written in the ordinary way, whose end comes
// when the client has made room: so the waiting is the event loop's, and no thread's.
import type { Socket } from 'node:net';
import type { Span } from '../../oci/range.ts';
import type { Pump, ResponseWriter } from './pump.ts';
import type { Sendfile } from './sendfile.ts';

/** A shorter span is not worth waiting for the head to be out. */
const WORTH_BYTES = 256 * 1024;
/** As much as a body that is alone sends from the event loop before others have their turn. */
const AT_ONCE_BYTES = 256 * 1024;
/** As much as one call in a thread may send: what a core's cache still holds when the client reads it. */
const CALL_BYTES = 1024 * 1024;
/** Calls in threads at a time. libuv's pool has four, and there are files to open and read for others. */
const CALLS_AT_ONCE = 3;
/** The piece that waits for room: as long as a client does not read, it keeps so much memory. */
const PIECE_BYTES = 16 * 1024;

/** A pump that spares the copying wherever it can be spared, and else reads and writes. */
export function zerocopy(sendfile: Sendfile): Pump {
  const slots = new Slots(CALLS_AT_ONCE);
  let underWay = 0;

  return async (outlet, span) => {
    let position = span.start;
    if (span.end - span.start >= WORTH_BYTES) {
      underWay++;
      try {
        position = await sendFiles(outlet, span);
      } finally {
        underWay--;
      }
    }
    await outlet.pump({ start: position, end: span.end });
  };

  /** Sends from files as far as there are any; resolves to where that ended. */
  async function sendFiles(outlet: ResponseWriter, span: Span): Promise<number> {
    const { socket } = outlet.outgoing;
    // It has none yet when the answer to an earlier request of the client is not out.
    if (outlet.source.lend === undefined || socket === null) return span.start;
    await outlet.flushed();
    let position = span.start;
    while (position < span.end && !outlet.gone) {
      const file = await outlet.source.lend(position);
      if (file === undefined) break;
      const { start, end } = { start: position, end: Math.min(span.end, file.end) };
      try {
        position = await sendFile(socket, file.fd, outlet, { start, end }, end === span.end);
      } finally {
        file.release();
      }
      // What ends before its end is read, which says why.
      if (position < end || position === start) break;
    }
    return position;
  }

  /**
   * Resolves to where that ended: before the end when it cannot be done, or the client has left. A body that is alone
   * and all here is sent from the event loop: nobody else waits for that, and the way to a thread and back would cost
   * as much as the sending. Bytes that are still coming are being hashed on it.
   */
  async function sendFile(
    socket: Socket,
    fd: number,
    outlet: ResponseWriter,
    span: Span,
    isWhole: boolean,
  ): Promise<number> {
    let position = span.start;
    while (position < span.end && !outlet.gone) {
      const left = span.end - position;
      const isAlone = underWay === 1 && isWhole;
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
      if (sent < wanted) {
        // Also what came of an error: reading or writing the piece meets it again, and says what it is.
        const piece = { start: position, end: Math.min(span.end, position + PIECE_BYTES) };
        await outlet.pump(piece);
        await outlet.written();
        position = piece.end;
      }
      noteActivity(socket);
    }
    return position;
  }

  async function inThread(...call: Parameters<Sendfile['inThread']>): Promise<number | undefined> {
    await slots.take();
    try {
      return await sendfile.inThread(...call);
    } finally {
      slots.give();
    }
  }
}

/**
 * Node sees nothing of these bytes, and takes a connection on which it sees none for a dead one. It moves its timer on
 * by what it calls itself at each write; to set the timeout anew makes another timer, thousands in a second, which
 * outlive V8's young generation and keep in memory all that stood beside them in the list of timers.
 */
function noteActivity(socket: Socket): void {
  (socket as { _unrefTimer?: () => void })._unrefTimer?.();
}

/** Lets so many work at a time, the others in the order in which they came. */
class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** A promise comes back only when there is none free. */
  take(): Promise<void> | undefined {
    if (this.#free === 0) return new Promise(turn => this.#waiting.push(turn));
    this.#free--;
  }

  give(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}
