// Receiving requests: holding them up before anything is read, and reading their bodies at the pace of whoever
// takes them. Bytes are recorded as they are taken, so a body that nobody reads waits with its client.
import type { IncomingMessage } from 'node:http';
import type { Exchange } from './send.ts';

/** Thrown to whoever reads a body that will not come to its end: there is nobody left to answer. */
export class RequestGone extends Error {}

/** Holds the request up as its fault asks; false when there is nothing left to answer. */
export async function hold({ response, fault, gone }: Omit<Exchange, 'body'>): Promise<boolean> {
  const { at = 'headers', refuse, hang, gate } = fault?.action ?? {};
  if (at !== 'headers') fault?.tookEffect();
  if (gate) await Promise.race([gate, gone]);
  if (hang) await Promise.race([fault?.removed, gone]);
  if (refuse === 'reset') response.socket?.resetAndDestroy();
  else if (refuse) response.destroy();
  return !refuse && !response.destroyed;
}

export class RequestBody {
  readonly #exchange: Omit<Exchange, 'body'>;
  readonly #empty: boolean;
  /** Whether the fault's cut or stall has come true. */
  #stopped = false;
  /** Whether the end was reached, with the holding up that a fault asks for there. */
  #ended = false;

  constructor(exchange: Omit<Exchange, 'body'>) {
    this.#exchange = exchange;
    this.#empty = isEmpty(exchange.request);
    // Nothing will come of it, but the end of its connection is only noticed while it is being read.
    if (this.#empty) exchange.request.resume();
  }

  /** The length that the client announced; undefined for a chunked body. */
  get announcedBytes(): number | undefined {
    const length = this.#exchange.request.headers['content-length'];
    return length === undefined ? undefined : Number(length);
  }

  /**
   * The body, piece by piece. Whoever stops early leaves the rest to `drain`. Throws RequestGone when the
   * client went away or a fault ended the connection.
   */
  async *chunks(): AsyncGenerator<Uint8Array, void, void> {
    const { request, record, fault, response } = this.#exchange;
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
    if (fault?.action.at === 'body' && !(await hold(this.#exchange))) throw new RequestGone();
    if (response.destroyed) throw new RequestGone();
  }

  async #stop(): Promise<void> {
    const { fault, gone, response } = this.#exchange;
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

  /** Reads what is left of the body, for nobody. Throws RequestGone as `chunks` does. */
  async skip(): Promise<void> {
    for await (const _ of this.chunks());
  }

  /** True when nothing of the body is left to be read. */
  get drained(): boolean {
    return this.#empty || this.#exchange.request.readableEnded;
  }

  /** As `skip`, for an answer that is sent already: whatever becomes of the body is all right. */
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

/** What the client sends; leaving it does not destroy the connection, unlike the stream's own iterator. */
async function* piecesOf(request: IncomingMessage): AsyncGenerator<Uint8Array, void, void> {
  const pieces = request.iterator({ destroyOnReturn: false });
  for (;;) {
    const next = await pieces.next().catch(() => undefined);
    if (next === undefined) throw new RequestGone();
    if (next.done) return;
    yield next.value;
  }
}
