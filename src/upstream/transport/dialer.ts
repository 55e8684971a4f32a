// One HTTP exchange with an upstream or one of its hosts, and nothing more: connection reuse, timeouts, proxies from the
// environment, additional certificate authorities. Redirects and statuses are the callers' business.
import { getCACertificates } from 'node:tls';
import { type Dispatcher, EnvHttpProxyAgent } from 'undici';
import { networkError, ResponseReceiver, type UpstreamResponse } from './response.ts';

export interface Timeouts {
  readonly connectMs: number;
  readonly headersMs: number;
  /** How long a body may pause. */
  readonly stallMs: number;
  /** As headersMs, for writes: a registry may have to copy an upload before it answers. */
  readonly uploadMs: number;
}

export const defaultTimeouts: Timeouts = { connectMs: 3_000, headersMs: 10_000, stallMs: 10_000, uploadMs: 60_000 };

export interface DialRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** An iterable is asked for the next chunk when the one before has left. */
  readonly body?: Buffer | AsyncIterable<Uint8Array> | undefined;
  /** How long the headers may take once the body is out, and how long the upstream may take none of the body. */
  readonly headersMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Connections per host: more than concurrent downloads (client.ts), so that no other request waits for a blob. */
const CONNECTIONS = 128;

export class Dialer {
  readonly #dispatcher: Dispatcher;

  /** `ca`: PEM text of certificate authorities to trust beside the system's. */
  constructor(options: { timeouts: Timeouts; ca?: string | undefined }) {
    const { connectMs, headersMs, stallMs } = options.timeouts;
    const trusted = options.ca === undefined ? {} : { ca: [...getCACertificates('default'), options.ca] };
    // One connection of HTTP/2 would make all downloads share one flow-control window.
    const allowH2 = false;
    const connecting = { timeout: connectMs, allowH2, ...trusted };
    this.#dispatcher = new EnvHttpProxyAgent({
      connections: CONNECTIONS,
      allowH2,
      pipelining: 1,
      keepAliveTimeout: 30_000,
      headersTimeout: headersMs,
      bodyTimeout: stallMs,
      connect: connecting,
      // The same behind a proxy, where the connection to the upstream is inside the proxy's.
      requestTls: connecting,
    });
  }

  /**
   * Resolves when the headers are here. Throws UPSTREAM_UNAVAILABLE or UPSTREAM_TIMEOUT when there is no response, the
   * signal's reason when it is aborted first, and what the request body fails with.
   */
  async dial(request: DialRequest): Promise<UpstreamResponse> {
    const { url, method, headers, body, headersMs, signal } = request;
    signal?.throwIfAborted();
    const receiver = new ResponseReceiver(url, signal);
    const sender = new BodySender();
    try {
      this.#dispatcher.dispatch(
        {
          origin: url.origin,
          path: url.pathname + url.search,
          method,
          headers: { ...headers, 'user-agent': 'ghcr-cache' },
          // undici takes iterables, which its types do not say.
          body: (body === undefined || Buffer.isBuffer(body) ? (body ?? null) : sender.send(body)) as Buffer | null,
          ...(headersMs !== undefined && { headersTimeout: headersMs }),
        },
        receiver,
      );
      return await receiver.response;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (sender.error !== undefined) throw sender.error;
      throw networkError(url, error);
    }
  }

  close(): Promise<void> {
    return this.#dispatcher.destroy();
  }
}

/** Keeps the error of a request body that cannot be read, which is not the upstream's fault. */
class BodySender {
  error: unknown;

  async *send(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* body;
    } catch (error) {
      this.error = error;
      throw error;
    }
  }
}
