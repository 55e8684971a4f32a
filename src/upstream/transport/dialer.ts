// One HTTP exchange with an upstream or one of its hosts, and nothing more: connection reuse, time-outs,
// proxies from the environment, further certificate authorities. Redirects and statuses are for others.
import type { IncomingHttpHeaders } from 'node:http';
import { getCACertificates } from 'node:tls';
import { type Dispatcher, EnvHttpProxyAgent, errors } from 'undici';
import { RegistryError, reasonOf } from '../../oci/errors.ts';
import { connector } from './connector.ts';

export interface Timeouts {
  readonly connectMs: number;
  readonly headersMs: number;
  /** How long a body may pause. */
  readonly stallMs: number;
  /** How long a registry may think about an upload, which it may have to copy before it answers. */
  readonly uploadMs: number;
}

export const defaultTimeouts: Timeouts = {
  connectMs: 3_000,
  headersMs: 10_000,
  stallMs: 10_000,
  uploadMs: 60_000,
};

export interface DialRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** An iterable is asked for the next chunk when the one before has left. */
  readonly body?: Buffer | AsyncIterable<Uint8Array> | undefined;
  /** How long the answer may take once the body is out, and the upstream not take any of the body. */
  readonly headersMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Answer {
  readonly url: URL;
  readonly status: number;
  /** The first value of a header, by its name in lower case. */
  header(name: string): string | undefined;
  /** To be read or abandoned, or the connection is never free again. */
  readonly body: Body;
}

/** Who reads a body. What it throws, or rejects with, ends the reading. */
export type OnChunk = (chunk: Buffer) => Promise<void> | undefined;

export interface Body {
  /**
   * Hands over each chunk the moment it comes, with its memory, which may be given back (slabs.ts); the next one waits
   * for the promise of the one before, if it gave one. Resolves to what broke the body, or to undefined at its end;
   * rejects with what `take` failed with. No chunk that came is lost when the body breaks, so who reads knows exactly
   * where to go on.
   */
  read(take: OnChunk): Promise<unknown>;
  /** Ends it, and its connection if there is more to come. */
  abandon(): void;
}

/** Connections per host: more than the places for downloads, so that a question never waits for a blob. */
const CONNECTIONS = 128;
/** What is read of a body nobody wants, to keep its connection. */
const DISCARDED_BYTES = 64 * 1024;

export class Dialer {
  readonly #dispatcher: Dispatcher;

  constructor(options: { timeouts: Timeouts; ca?: string | undefined }) {
    const { connectMs, headersMs, stallMs } = options.timeouts;
    const trusted = options.ca === undefined ? {} : { ca: [...getCACertificates('default'), options.ca] };
    // One connection of HTTP/2 would make all downloads share one window.
    const allowH2 = false;
    const connecting = { timeout: connectMs, allowH2, ...trusted };
    this.#dispatcher = new EnvHttpProxyAgent({
      connections: CONNECTIONS,
      allowH2,
      pipelining: 1,
      keepAliveTimeout: 30_000,
      headersTimeout: headersMs,
      bodyTimeout: stallMs,
      connect: connector(connecting),
      // The same behind a proxy, where the connection to the upstream is inside the proxy's.
      requestTls: connecting,
    });
  }

  /** Throws UPSTREAM_UNAVAILABLE or UPSTREAM_TIMEOUT when there was no answer. */
  async dial(request: DialRequest): Promise<Answer> {
    const { url, method, headers, body, headersMs, signal } = request;
    signal?.throwIfAborted();
    const exchange = new Exchange(url, signal);
    const own = new OwnTrouble();
    try {
      this.#dispatcher.dispatch(
        {
          origin: url.origin,
          path: url.pathname + url.search,
          method,
          headers: { ...headers, 'user-agent': 'ghcr-cache' },
          // undici takes iterables, which its types do not say.
          body: (body === undefined || Buffer.isBuffer(body)
            ? (body ?? null)
            : own.watch(body)) as Buffer | null,
          ...(headersMs !== undefined && { headersTimeout: headersMs }),
        },
        exchange,
      );
      return await exchange.answered;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (own.trouble !== undefined) throw own.trouble;
      throw unanswered(url, error);
    }
  }

  close(): Promise<void> {
    return this.#dispatcher.destroy();
  }
}

/** What goes wrong with the body that we send, which is not the upstream's fault. */
class OwnTrouble {
  trouble: unknown;

  async *watch(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* body;
    } catch (error) {
      this.trouble = error;
      throw error;
    }
  }
}

/** The receiving end of one request: chunks go straight from the parser to who reads, with nothing in between. */
class Exchange implements Dispatcher.DispatchHandler, Body {
  readonly answered: Promise<Answer>;
  readonly #url: URL;
  readonly #signal: AbortSignal | undefined;
  readonly #answer = Promise.withResolvers<Answer>();
  readonly #end = Promise.withResolvers<unknown>();
  #controller: Dispatcher.DispatchController | undefined;
  #take: OnChunk | undefined;
  /** What came of the body together with the head, while nobody reads. */
  #early: Buffer | undefined;
  #isOver = false;

  constructor(url: URL, signal: AbortSignal | undefined) {
    this.#url = url;
    this.#signal = signal;
    this.answered = this.#answer.promise;
    this.#end.promise.catch(() => {});
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  read(take: OnChunk): Promise<unknown> {
    this.#take = take;
    if (this.#early !== undefined) void this.#goOn(take, this.#early);
    this.#early = undefined;
    return this.#end.promise;
  }

  /** Hands over what came before anybody read, and has the rest come. */
  async #goOn(take: OnChunk, early: Buffer): Promise<void> {
    await this.#hand(take, early);
    if (!this.#isOver) this.#controller?.resume();
  }

  abandon(): void {
    if (this.#isOver) return;
    this.#controller?.abort(new Error('the rest of the answer is not wanted'));
    this.#over();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#signal?.aborted) this.#onAbort();
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    if (status < 200) return;
    const header = (name: string) => {
      const value = headers[name];
      return Array.isArray(value) ? value[0] : value;
    };
    this.#answer.resolve({ url: this.#url, status, header, body: this });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    // As it does whenever it goes on.
    if (chunk.length === 0) return;
    if (this.#take === undefined) {
      this.#early = chunk;
      controller.pause();
      return;
    }
    const wait = this.#hand(this.#take, chunk);
    if (wait === undefined) return;
    controller.pause();
    void wait.then(() => this.#isOver || controller.resume());
  }

  /** What comes back waits for the reader, and never rejects. */
  #hand(take: OnChunk, chunk: Buffer): Promise<void> | undefined {
    try {
      return take(chunk)?.catch(error => this.#fail(error));
    } catch (error) {
      this.#fail(error);
    }
  }

  onResponseEnd(): void {
    this.#over();
    this.#end.resolve(undefined);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#over();
    this.#answer.reject(error);
    this.#end.resolve(error);
  }

  readonly #onAbort = () => this.#controller?.abort(new Error('aborted', { cause: this.#signal?.reason }));

  /** Who reads has failed, which is not the network's fault. */
  #fail(error: unknown): void {
    this.#end.reject(error);
    this.abandon();
  }

  #over(): void {
    this.#isOver = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }
}

/** Reads and forgets a body of no interest, to keep its connection; a long one is not worth that. */
export async function discard(answer: Answer): Promise<void> {
  let left = DISCARDED_BYTES;
  await answer.body.read(chunk => {
    left -= chunk.length;
    if (left < 0) answer.body.abandon();
    return undefined;
  });
}

/** The body as a whole; undefined when it is longer than `limitBytes`. Network errors as of dial(). */
export async function readAll(answer: Answer, limitBytes: number): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  const trouble = await answer.body.read(chunk => {
    chunks.push(chunk);
    length += chunk.length;
    if (length > limitBytes) answer.body.abandon();
    return undefined;
  });
  if (length > limitBytes) return undefined;
  if (trouble !== undefined) throw unanswered(answer.url, trouble);
  return Buffer.concat(chunks, length);
}

function unanswered(url: URL, error: unknown): RegistryError {
  const slow =
    error instanceof errors.HeadersTimeoutError ||
    error instanceof errors.BodyTimeoutError ||
    error instanceof errors.ConnectTimeoutError;
  return slow
    ? new RegistryError('UPSTREAM_TIMEOUT', `${url.host} does not answer in time (${reasonOf(error)})`, {
        cause: error,
      })
    : new RegistryError('UPSTREAM_UNAVAILABLE', `${url.host} cannot be reached (${reasonOf(error)})`, {
        cause: error,
      });
}
