// Receiving requests: holding one up before anything of it is read, and reading its body at the pace of the consumer.
// Bytes are recorded as they are read, so an unread body stays with the client.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ActiveFault } from './faults.ts';
import type { RequestRecord } from './log.ts';

/** A request whose headers have arrived. */
export interface Arrival {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly record: RequestRecord;
  readonly fault: ActiveFault | undefined;
  /** Resolves when the connection has ended. */
  readonly gone: Promise<void>;
}

/** Thrown to the reader of a body that will never be complete: no client is left to answer. */
export class RequestGone extends Error {}

/** Holds the request up as its fault says; false when no response is possible any more. */
export async function hold({ response, fault, gone }: Arrival): Promise<boolean> {
  const { at = 'headers', refuse, hang, gate } = fault?.action ?? {};
  if (at !== 'headers') fault?.tookEffect();
  if (gate) await Promise.race([gate, gone]);
  if (hang) await Promise.race([fault?.removed, gone]);
  if (refuse === 'reset') response.socket?.resetAndDestroy();
  else if (refuse) response.destroy();
  return !refuse && !response.destroyed;
}

export class RequestBody {
  readonly #arrival: Arrival;
  readonly #empty: boolean;
  /** Whether the fault's cut or stall has happened. */
  #stopped = false;
  /** Whether the end was reached, including the hold that a fault asks for there. */
  #ended = false;

  constructor(arrival: Arrival) {
    this.#arrival = arrival;
    this.#empty = isEmpty(arrival.request);
    // Nothing will come, but the end of the connection is noticed only while reading.
    if (this.#empty) arrival.request.resume();
  }

  /** The Content-Length; undefined for a chunked body. */
  get announcedBytes(): number | undefined {
    const length = this.#arrival.request.headers['content-length'];
    return length === undefined ? undefined : Number(length);
  }

  /**
   * The body, piece by piece. A consumer that stops early leaves the rest to `drain`. Throws RequestGone when the
   * client disconnected or a fault ended the connection.
   */
  async *chunks(): AsyncGenerator<Uint8Array, void, void> {
    const { request, record, fault, response } = this.#arrival;
    if (!this.#empty && !request.readableEnded) {
      const { cutRequestAfter, stallRequestAfter } = fault?.action ?? {};
      const stop = cutRequestAfter ?? stallRequestAfter ?? Number.POSITIVE_INFINITY;
      for await (const chunk of piecesOf(request)) {
        const room = this.#stopped ? Number.POSITIVE_INFINITY : stop - record.bytesReceived;
        const first = chunk.subarray(0, room);
        record.bytesReceived += first.length;
        if (first.length > 0) yield first;
        if (chunk.length < room) continue;
        await this.#stop();
        const rest = chunk.subarray(first.length);
        record.bytesReceived += rest.length;
        if (rest.length > 0) yield rest;
      }
    }
    if (this.#ended) return;
    this.#ended = true;
    if (fault?.action.at === 'body' && !(await hold(this.#arrival))) throw new RequestGone();
    if (response.destroyed) throw new RequestGone();
  }

  async #stop(): Promise<void> {
    const { fault, gone, response } = this.#arrival;
    this.#stopped = true;
    fault?.tookEffect();
    if (fault?.action.cutRequestAfter === undefined) {
      await Promise.race([fault?.removed, gone]);
      if (response.destroyed) throw new RequestGone();
      return;
    }
    if (fault.action.reset) response.socket?.resetAndDestroy();
    else response.destroy();
    throw new RequestGone();
  }

  /** The whole body, or undefined when it is larger than `limitBytes`. */
  async bytes(limitBytes: number): Promise<Buffer | undefined> {
    if ((this.announcedBytes ?? 0) > limitBytes) return undefined;
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of this.chunks()) {
      size += chunk.length;
      if (size > limitBytes) return undefined;
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  /** Reads the rest of the body and discards it. Throws RequestGone as `chunks` does. */
  async skip(): Promise<void> {
    for await (const _ of this.chunks());
  }

  /** True when nothing is left to read. */
  get drained(): boolean {
    return this.#empty || this.#arrival.request.readableEnded;
  }

  /** As `skip`, once the response has been sent: it no longer matters what becomes of the body. */
  async drain(): Promise<void> {
    try {
      await this.skip();
    } catch (error) {
      if (!(error instanceof RequestGone)) throw error;
    }
  }
}

function isEmpty({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] === undefined && (headers['content-length'] ?? '0') === '0';
}

/** What the client sends; stopping early does not destroy the connection, unlike with the stream's own iterator. */
async function* piecesOf(request: IncomingMessage): AsyncGenerator<Uint8Array, void, void> {
  const pieces = request.iterator({ destroyOnReturn: false });
  for (;;) {
    const next = await pieces.next().catch(() => undefined);
    if (next === undefined) throw new RequestGone();
    if (next.done) return;
    yield next.value;
  }
}
