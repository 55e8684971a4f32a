// GETs over bare sockets, for the bodies of blobs: undici's parser and streams cost nearly twice as much CPU. Connections
// are kept for a while and bounded in number; a name is resolved, and a certificate verified, as for any other request.
//
// All of them receive into one buffer: Node asks for memory, fills it and hands it over with nothing in between, of plain
// sockets as of TLS (of Windows that is not true). So a chunk is valid only until the callback that gets it returns.
import { connect as connectPlain, isIP, type LookupFunction, type Socket } from 'node:net';
import { connect as connectTls, type SecureContext } from 'node:tls';
import { LRUCache } from 'lru-cache';
import { errors } from 'undici';
import type { Clock } from '../../base/clock.ts';
import { KeyedSemaphore } from '../../base/keyed-semaphore.ts';
import { targetOf } from './address.ts';
import { BlobExchange, type Wire } from './blob-exchange.ts';
import type { UpstreamResponse } from './response.ts';

export interface BlobSocketsOptions {
  readonly clock: Pick<Clock, 'monotonic' | 'every'>;
  /** As a Dialer's. Each is noticed half a second late at most. */
  readonly timeouts: { readonly connectMs: number; readonly headersMs: number; readonly stallMs: number };
  readonly lookup: LookupFunction;
  /** With the certificate authorities that are trusted. */
  readonly secureContext: SecureContext;
}

export interface GetOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called when there is a connection, each time that the request is sent on one. */
  readonly onConnect?: (() => void) | undefined;
}

interface Origin {
  /** Connections that wait for a request, the last used at the end. */
  readonly idle: Connection[];
  /** The last one of TLS. */
  session: Buffer | undefined;
}

/** Of one origin. */
const CONNECTIONS = 256;
const IDLE_CONNECTIONS = 64;
const IDLE_MS = 30_000;
const ORIGINS = 100;
const TICK_MS = 500;
const RECEIVED = Buffer.allocUnsafeSlow(64 * 1024);
const PROXIES = ['http_proxy', 'HTTP_PROXY', 'https_proxy', 'HTTPS_PROXY'];

/** Whether requests may have to go through a proxy, of which BlobSockets knows nothing. */
export function hasProxy(env: Readonly<Record<string, string | undefined>>): boolean {
  return PROXIES.some(name => env[name]);
}

export class BlobSockets {
  readonly #options: BlobSocketsOptions;
  readonly #permits = new KeyedSemaphore(CONNECTIONS);
  readonly #open = new Set<Connection>();
  readonly #origins = new LRUCache<string, Origin>({ max: ORIGINS });
  #stopTicking = () => {};
  #isClosed = false;

  constructor(options: BlobSocketsOptions) {
    this.#options = options;
  }

  /**
   * Resolves when the head of the response is here; to undefined when the length of its body is not known, which has to be
   * asked for in another way. Throws what the lookup or the connection fails with, undici's errors for timeouts, and the
   * signal's reason when it is aborted first. Chunks of the body are borrowed: see BlobExchange.read.
   */
  async get(
    url: URL,
    headers: Readonly<Record<string, string>>,
    options: GetOptions = {},
  ): Promise<UpstreamResponse | undefined> {
    const exchange = new BlobExchange(url, requestOf(url, headers), options.signal);
    const serving = this.#permits.run(url.origin, options.signal, () => this.#serve(url, exchange, options));
    serving.catch(error => exchange.fail(error));
    return exchange.response;
  }

  /** Closes connections that are kept for a next request. */
  shrink(): void {
    for (const { idle } of this.#origins.values()) for (const connection of [...idle]) connection.close();
  }

  /** Ends all that goes on, and all that waits. */
  close(): void {
    this.#isClosed = true;
    for (const connection of this.#open) connection.close();
  }

  /** Resolves when the exchange needs no connection any more. */
  async #serve(url: URL, exchange: BlobExchange, { signal, onConnect }: GetOptions): Promise<void> {
    const origin = this.#originOf(url);
    const kept = origin.idle.pop();
    // The other side may close a connection at the moment at which it is used again.
    if (kept !== undefined && (await kept.serve(exchange, onConnect)) === undefined) return;
    signal?.throwIfAborted();
    if (this.#isClosed) throw new errors.ClientDestroyedError();
    const error = await this.#connect(url, origin).serve(exchange, onConnect);
    if (error !== undefined) throw error;
  }

  #originOf({ origin }: URL): Origin {
    const known = this.#origins.get(origin) ?? { idle: [], session: undefined };
    this.#origins.set(origin, known);
    return known;
  }

  #connect(url: URL, origin: Origin): Connection {
    const { clock, lookup } = this.#options;
    const isSecure = url.protocol === 'https:';
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
    const onread = { buffer: RECEIVED, callback: (length: number) => connection.receive(length) };
    const target = { host, port: Number(url.port) || (isSecure ? 443 : 80), lookup, noDelay: true, onread };
    const socket = isSecure ? this.#connectTls(target, origin) : connectPlain(target);
    const connection: Connection = new Connection(socket, isSecure, origin, this.#options);
    if (this.#open.size === 0) this.#stopTicking = clock.every(TICK_MS, () => this.#look());
    this.#open.add(connection);
    socket.on('close', () => {
      this.#open.delete(connection);
      if (this.#open.size === 0) this.#stopTicking();
    });
    return connection;
  }

  #connectTls(target: { readonly host: string; readonly port: number }, origin: Origin): Socket {
    const secure = { secureContext: this.#options.secureContext, ALPNProtocols: ['http/1.1'], session: origin.session };
    // An address is no name of a server.
    const socket = connectTls({ ...target, ...secure, ...(isIP(target.host) === 0 && { servername: target.host }) });
    return socket.on('session', session => {
      origin.session = session;
    });
  }

  #look(): void {
    const nowMs = this.#options.clock.monotonic();
    for (const connection of this.#open) connection.look(nowMs);
  }
}

/** Serves one exchange at a time. */
class Connection implements Wire {
  readonly #socket: Socket;
  readonly #origin: Origin;
  readonly #options: BlobSocketsOptions;
  #isConnected = false;
  #exchange: BlobExchange | undefined;
  #served = Promise.withResolvers<Error | undefined>();
  #onConnect: (() => void) | undefined;
  /** Whether a byte of the response has come. */
  #isAnswered = false;
  #error: Error | undefined;
  /** When what it is waiting for has taken too long. */
  #lateMs = Infinity;

  constructor(socket: Socket, isSecure: boolean, origin: Origin, options: BlobSocketsOptions) {
    this.#socket = socket;
    this.#origin = origin;
    this.#options = options;
    socket.once(isSecure ? 'secureConnect' : 'connect', () => {
      this.#isConnected = true;
      this.#send();
    });
    socket.on('error', error => {
      this.#error = error;
    });
    socket.on('close', () => this.#onClose());
  }

  /** Resolves when the exchange is done with it; to what broke it, when that was before there was a byte of the response. */
  serve(exchange: BlobExchange, onConnect: (() => void) | undefined): Promise<Error | undefined> {
    exchange.wire = this;
    this.#exchange = exchange;
    this.#onConnect = onConnect;
    this.#isAnswered = false;
    this.#served = Promise.withResolvers();
    this.#limit(this.#options.timeouts.connectMs);
    if (this.#isConnected) this.#send();
    return this.#served.promise;
  }

  /** So many bytes came. Returns whether to go on. */
  receive(length: number): boolean {
    const exchange = this.#exchange;
    // Nobody has asked for them.
    if (exchange === undefined) this.#socket.destroy();
    this.#isAnswered = true;
    const isWanted = exchange?.receive(received(length)) === true;
    // Between two exchanges it is read as well, to know when it is closed.
    if (this.#exchange === undefined) return true;
    if (this.#exchange.isInBody) this.#limit(isWanted ? this.#options.timeouts.stallMs : Infinity);
    return isWanted;
  }

  resume(): void {
    this.#limit(this.#options.timeouts.stallMs);
    this.#socket.resume();
  }

  release(isReusable: boolean): void {
    this.#exchange = undefined;
    if (isReusable && this.#origin.idle.length < IDLE_CONNECTIONS) {
      this.#origin.idle.push(this);
      this.#limit(IDLE_MS);
      this.#socket.unref();
      this.#socket.resume();
    } else {
      this.#socket.destroy();
    }
    this.#served.resolve(undefined);
  }

  look(nowMs: number): void {
    if (nowMs < this.#lateMs) return;
    this.#exchange?.fail(this.#lateError(this.#exchange));
    this.#socket.destroy();
  }

  close(): void {
    this.#exchange?.fail(new errors.ClientDestroyedError());
    this.#socket.destroy();
  }

  #send(): void {
    if (this.#exchange === undefined) return;
    this.#onConnect?.();
    this.#limit(this.#options.timeouts.headersMs);
    this.#socket.ref();
    this.#socket.write(this.#exchange.request, 'latin1');
  }

  #onClose(): void {
    const at = this.#origin.idle.indexOf(this);
    if (at !== -1) this.#origin.idle.splice(at, 1);
    if (this.#isAnswered) this.#exchange?.broke(this.#error);
    this.#served.resolve(this.#isAnswered ? undefined : this.#reason());
  }

  #reason(): Error {
    const error = this.#error ?? new Error('the connection was closed before there was a response');
    const isTimeout = error instanceof AggregateError && error.errors.some(each => each.code === 'ETIMEDOUT');
    return isTimeout ? Object.assign(new errors.ConnectTimeoutError(), { cause: error }) : error;
  }

  #lateError({ isInBody }: BlobExchange): Error {
    const { connectMs, headersMs, stallMs } = this.#options.timeouts;
    if (!this.#isConnected) return new errors.ConnectTimeoutError(`no connection within ${connectMs} ms`);
    if (!isInBody) return new errors.HeadersTimeoutError(`no response within ${headersMs} ms`);
    return new errors.BodyTimeoutError(`no byte of the body for ${stallMs} ms`);
  }

  #limit(ms: number): void {
    this.#lateMs = this.#options.clock.monotonic() + ms;
  }
}

/** The bytes that came last. Most pieces have the length of the one before. */
let view = RECEIVED;

function received(length: number): Buffer {
  if (view.length !== length) view = RECEIVED.subarray(0, length);
  return view;
}

function requestOf(url: URL, headers: Readonly<Record<string, string>>): string {
  const fields = Object.entries({ host: url.host, ...headers }).map(([name, value]) => `${name}: ${value}`);
  const lines = [`GET ${targetOf(url)} HTTP/1.1`, ...fields];
  if (!lines.every(line => /^[\t\x20-\x7e]*$/.test(line))) throw new errors.InvalidArgumentError('no valid request');
  return `${lines.join('\r\n')}\r\n\r\n`;
}
