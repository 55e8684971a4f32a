// One HTTP exchange with an upstream or one of its hosts, and nothing more: where it may go, whether that host is up,
// connection reuse, timeouts, proxies from the environment, additional certificate authorities. Redirects and statuses are
// the callers' business.
import { type LookupAddress, lookup } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { createSecureContext, getCACertificates } from 'node:tls';
import { buildConnector, type Dispatcher, EnvHttpProxyAgent, errors } from 'undici';
import type { Clock } from '../../base/clock.ts';
import { ExpiringCache } from '../../base/expiring-cache.ts';
import { isOutOfDescriptors, RegistryError } from '../../oci/errors.ts';
import { targetOf } from './address.ts';
import { BlobSockets, hasProxy } from './blob-sockets.ts';
import { CircuitBreakers, type CircuitBreakersOptions, type Subject } from './circuit-breakers.ts';
import { withoutContinue } from './continue.ts';
import { Destinations, type DestinationsOptions } from './destinations.ts';
import { networkError, ResponseReceiver, type UpstreamResponse } from './response.ts';
import { Trouble } from './trouble.ts';

export interface Timeouts {
  readonly connectMs: number;
  /** How long the headers of a response may take. */
  readonly headersMs: number;
  /** How long a body may pause. */
  readonly stallMs: number;
  /** As headersMs, for writes: a registry may have to copy an upload before it answers. */
  readonly uploadMs: number;
}

export interface DialerOptions extends DestinationsOptions, Omit<CircuitBreakersOptions, 'clock'> {
  readonly clock: Pick<Clock, 'monotonic' | 'every'>;
  readonly timeouts: Timeouts;
  /** PEM text of certificate authorities to trust beside the system's. */
  readonly ca?: string | undefined;
  /** Default: the system's. */
  readonly resolve?: Resolve;
}

/** All addresses of a name. */
export type Resolve = (
  hostname: string,
  options: { all: true; family?: number; hints?: number },
  callback: (error: Error | null, addresses: LookupAddress[]) => void,
) => void;

export interface DialRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** Default: the upstream itself. */
  readonly subject?: Subject | undefined;
  /** An iterable is asked for the next chunk when the one before has left. */
  readonly body?: Buffer | AsyncIterable<Uint8Array> | undefined;
  /** How long the headers may take once the body is out, and how long the upstream may take none of the body. */
  readonly headersMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** A GET of a blob, which may be large. */
  readonly isBlob?: boolean | undefined;
  /** It can be done without: its failure is no evidence about the host. */
  readonly isSpare?: boolean | undefined;
}

const UPSTREAM: Subject = { repository: '', image: '' };
/**
 * Connections per host: more than concurrent downloads and uploads (client.ts, writes.ts) and than the reads of several
 * repositories that wait for their headers (requests.ts), so that no other request waits for one of them.
 */
const CONNECTIONS = 256;
/** What comes is held to a digest as it is. */
const OURS = { 'user-agent': 'ghcr-cache', 'accept-encoding': 'identity' };
/** How long an answer of DNS serves: the system does not tell for how long it may. */
const RESOLVED_MS = 10_000;
const NAMES_LIMIT = 100;
const UNMEASURED_LIMIT = 100;
const UNMEASURED_MS = 60_000;

/** What is known of a request that has failed. */
interface Sending {
  /** There was a connection, and the request was sent on it. */
  isConnected: boolean;
  /** Why its body could not be read, which is not the upstream's fault. */
  bodyError: unknown;
}

export class Dialer {
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #headersMs: number;
  readonly #destinations: Destinations;
  readonly #breakers: CircuitBreakers;
  readonly #dispatcher: Dispatcher;
  /** For bodies of the hosts that the registry sends us to. Undefined behind a proxy. */
  readonly #sockets: BlobSockets | undefined;
  /** Hosts whose bodies have no known length. */
  readonly #unmeasured: ExpiringCache<true>;

  constructor(options: DialerOptions) {
    const { connectMs, headersMs, stallMs } = options.timeouts;
    this.#clock = options.clock;
    this.#headersMs = headersMs;
    this.#destinations = new Destinations(options);
    this.#breakers = new CircuitBreakers(options);
    const trusted = options.ca === undefined ? {} : { ca: [...getCACertificates('default'), options.ca] };
    // One for all connections: to read all certificates takes 10 ms, and they take 1.5 MB.
    const secureContext = createSecureContext(trusted);
    // One connection of HTTP/2 would make all downloads share one flow-control window.
    const allowH2 = false;
    const connecting = { timeout: connectMs, allowH2, secureContext };
    const within = lookupWithin(this.#destinations, options.resolve ?? lookup, options.clock);
    const connector = buildConnector({ ...connecting, lookup: within });
    const { clock, timeouts } = options;
    this.#sockets = hasProxy(process.env)
      ? undefined
      : new BlobSockets({ clock, timeouts, lookup: within, secureContext });
    this.#unmeasured = new ExpiringCache({ clock, max: UNMEASURED_LIMIT, ttlMs: UNMEASURED_MS });
    this.#dispatcher = new EnvHttpProxyAgent({
      connections: CONNECTIONS,
      allowH2,
      pipelining: 1,
      keepAliveTimeout: 30_000,
      headersTimeout: headersMs,
      bodyTimeout: stallMs,
      connect: (target, callback) =>
        connector(target, (...[error, socket]) =>
          error === null ? callback(null, withoutContinue(socket)) : callback(error, null),
        ),
      // The same behind a proxy, where the connection to the upstream is inside the proxy's.
      requestTls: connecting,
    });
  }

  /**
   * Resolves when the headers are here. Throws UPSTREAM_UNAVAILABLE or UPSTREAM_TIMEOUT when there is no response or its
   * host is left alone, UPSTREAM_INVALID when it may not be asked, the signal's reason when it is aborted first, and what
   * the request body fails with.
   */
  async dial(request: DialRequest): Promise<UpstreamResponse> {
    const { url, subject = UPSTREAM, signal, isSpare = false } = request;
    signal?.throwIfAborted();
    this.#destinations.check(url);
    this.#breakers.check(url, !isSpare);
    const sending: Sending = { isConnected: false, bodyError: undefined };
    try {
      const response = (await this.#getBlob(request, sending)) ?? (await this.#dispatch(request, sending));
      if (!isSpare || response.status < 500) this.#breakers.answered(url, response.status, subject);
      return response;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (sending.bodyError !== undefined) throw sending.bodyError;
      // Our own trouble, of which the upstream is not to be suspected.
      if (isOutOfDescriptors(error)) throw error;
      throw this.#failure(url, isSpare ? undefined : subject, error, sending.isConnected);
    }
  }

  /** Closes what is open for the future alone, as far as it can. */
  shrink(): void {
    this.#sockets?.shrink();
  }

  close(): Promise<void> {
    this.#sockets?.close();
    return this.#dispatcher.destroy();
  }

  /** What a host answers that the registry has sent us to; undefined when it is to be asked in the other way. */
  async #getBlob({ url, isBlob, headers, signal }: DialRequest, sending: Sending) {
    if (!isBlob || this.#destinations.isTrusted(url) || this.#unmeasured.get(url.origin)) return undefined;
    const onConnect = () => {
      sending.isConnected = true;
    };
    const response = await this.#sockets?.get(url, { ...headers, ...OURS }, { signal, onConnect });
    if (response === undefined) this.#unmeasured.set(url.origin, true);
    return response;
  }

  async #dispatch(request: DialRequest, sending: Sending): Promise<UpstreamResponse> {
    const { url, method, headers, body, headersMs, signal } = request;
    const lateMs = this.#clock.monotonic() + (headersMs ?? this.#headersMs);
    const isLate = () => body === undefined && this.#clock.monotonic() > lateMs;
    const receiver = new ResponseReceiver(url, signal, isLate, sending);
    this.#dispatcher.dispatch(
      {
        origin: url.origin,
        path: targetOf(url),
        method,
        headers: { ...headers, ...OURS },
        // undici takes iterables, which its types do not say.
        body: (body === undefined || Buffer.isBuffer(body) ? (body ?? null) : sent(body, sending)) as Buffer | null,
        ...(headersMs !== undefined && { headersTimeout: headersMs }),
      },
      receiver,
    );
    return receiver.response;
  }

  /** The error that there was no response, once its breaker knows of it, if it is to know. */
  #failure(url: URL, subject: Subject | undefined, cause: unknown, isConnected: boolean): RegistryError {
    if (cause instanceof RegistryError) return cause;
    const error = networkError(url, cause);
    if (cause instanceof errors.InvalidArgumentError) return error;
    if (subject !== undefined && isConnected) this.#breakers.unanswered(url, error, subject);
    else if (subject !== undefined) this.#breakers.unreachable(url, error);
    // An image whose answer takes too long is in trouble itself.
    if (isConnected && error.code === 'UPSTREAM_TIMEOUT') return error;
    const { code, message } = error;
    return new Trouble(code, message, { of: 'host', mayRetry: code === 'UPSTREAM_UNAVAILABLE', cause });
  }
}

/** Resolves names for connections, to those addresses that they may be made to. */
function lookupWithin(destinations: Destinations, resolve: Resolve, clock: Pick<Clock, 'monotonic'>): LookupFunction {
  const answers = new ExpiringCache<LookupAddress[]>({ clock, max: NAMES_LIMIT, ttlMs: RESOLVED_MS });
  return (hostname, options, callback) => {
    const { family, hints } = options;
    const wanted = { all: true, ...(typeof family === 'number' && { family }), ...(hints && { hints }) } as const;
    const key = `${hostname} ${family} ${hints}`;
    const found = (error: Error | null, addresses: LookupAddress[]) => {
      if (error !== null) return callback(error, '');
      try {
        const allowed = destinations.filter(hostname, addresses);
        const [first] = allowed;
        if (options.all) callback(null, allowed);
        else callback(null, first?.address ?? '', first?.family);
      } catch (refusal) {
        callback(refusal as Error, '');
      }
    };
    const known = answers.get(key);
    if (known !== undefined) return found(null, known);
    resolve(hostname, wanted, (error, addresses) => {
      if (error === null) answers.set(key, addresses);
      found(error, addresses);
    });
  };
}

/** Keeps the error of a request body that cannot be read. */
async function* sent(body: AsyncIterable<Uint8Array>, sending: Sending): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    sending.bodyError = error;
    throw error;
  }
}
