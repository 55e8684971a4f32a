// Bodies that never enter this process: sendfile(2) from the file that a source lends to the socket of the response.
// It never waits for the client. When the socket is full, one piece is written in the ordinary way, whose end comes
// when the client has made room: so the waiting is the event loop's, and no thread's.
import type { Socket } from 'node:net';
import { availableParallelism } from 'node:os';
import type { Span } from '../oci/range.ts';
import type { Outlet, Pump } from './outlet.ts';
import type { Sendfile } from './sendfile.ts';

/** A shorter span is not worth waiting for the head to be out. */
const WORTH_BYTES = 256 * 1024;
/** As much as one call may send, so that none keeps a thread for long. */
const CALL_BYTES = 4 * 1024 * 1024;
/** The piece that waits for room: as long as a client does not read, it keeps so much memory. */
const PIECE_BYTES = 16 * 1024;

/**
 * Calls at a time. More would keep busy the cores that the event loop and the clients need, and all the threads of
 * libuv's pool, which are four, and have files to open and read for others.
 */
const CALLS_AT_ONCE = Math.min(3, Math.max(2, availableParallelism() - 1));

/** A pump that spares the copying wherever it can be spared, and else reads and writes. */
export function zerocopy(sendfile: Sendfile): Pump {
  const slots = new Slots(CALLS_AT_ONCE);
  const inTurn: Sendfile = (...call) => slots.hold(() => sendfile(...call));
  return async (outlet, span) => {
    const isWorth = span.end - span.start >= WORTH_BYTES;
    const position = isWorth ? await sendFiles(inTurn, outlet, span) : span.start;
    await outlet.pump({ start: position, end: span.end });
  };
}

/** Sends from files as far as there are any; resolves to where that ended. */
async function sendFiles(sendfile: Sendfile, outlet: Outlet, span: Span): Promise<number> {
  const { socket } = outlet.outgoing;
  // It has none yet when the answer to an earlier request of the client is not out.
  if (outlet.source.lend === undefined || socket === null) return span.start;
  await outlet.flushed();
  let position = span.start;
  while (position < span.end && !outlet.gone) {
    const next = await sendFile(sendfile, socket, outlet, { start: position, end: span.end });
    if (next === undefined) break;
    position = next;
    noteActivity(socket);
  }
  return position;
}

/** One call, and the piece that waits if the socket is full. Where that ended; undefined when it cannot be done. */
async function sendFile(
  sendfile: Sendfile,
  socket: Socket,
  outlet: Outlet,
  { start, end }: Span,
): Promise<number | undefined> {
  const file = await outlet.source.lend?.(start);
  if (file === undefined) return undefined;
  const lentEnd = Math.min(end, file.end);
  const wanted = Math.min(CALL_BYTES, lentEnd - start);
  let sent: number | undefined;
  try {
    // What ends before its end is read, which says so.
    if (wanted > 0) sent = await sendfile(socket, file.fd, start, wanted);
  } finally {
    file.release();
  }
  if (sent === undefined) return undefined;
  if (sent === wanted) return start + sent;
  // Also what came of an error: reading or writing the piece meets it again, and says what it is.
  const piece = { start: start + sent, end: Math.min(lentEnd, start + sent + PIECE_BYTES) };
  await outlet.pump(piece);
  await outlet.written();
  return piece.end;
}

/** Node sees nothing of these bytes, and takes a connection on which it sees none for a dead one. */
function noteActivity(socket: Socket): void {
  if (socket.timeout !== undefined) socket.setTimeout(socket.timeout);
}

/** Lets so many work at a time, the others in the order in which they came. */
class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async hold<T>(work: () => T): Promise<Awaited<T>> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>(turn => this.#waiting.push(turn));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
