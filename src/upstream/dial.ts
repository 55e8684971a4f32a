// One HTTP exchange with an upstream or one of its hosts, and nothing more: connection reuse, time-outs,
// proxies from the environment, further certificate authorities. Redirects and statuses are for others.
import { getCACertificates } from 'node:tls';
import { type Dispatcher, EnvHttpProxyAgent, errors } from 'undici';
import { RegistryError, reasonOf } from '../oci/errors.ts';

export interface Timeouts {
  readonly connectMs: number;
  readonly headersMs: number;
  /** How long a body may pause. */
  readonly stallMs: number;
}

export const defaultTimeouts: Timeouts = { connectMs: 3_000, headersMs: 10_000, stallMs: 10_000 };

export interface DialRequest {
  readonly method: 'GET' | 'HEAD';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
}

export interface Answer {
  readonly url: URL;
  readonly status: number;
  /** The first value of a header, by its name in lower case. */
  header(name: string): string | undefined;
  readonly body: Dispatcher.ResponseData['body'];
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
    this.#dispatcher = new EnvHttpProxyAgent({
      connections: CONNECTIONS,
      // One connection of HTTP/2 would make all downloads share one window.
      allowH2: false,
      pipelining: 1,
      keepAliveTimeout: 30_000,
      headersTimeout: headersMs,
      bodyTimeout: stallMs,
      connect: { timeout: connectMs, ...trusted },
      // The same behind a proxy, where the connection to the upstream is inside the proxy's.
      requestTls: { timeout: connectMs, ...trusted },
    });
  }

  /** Throws UPSTREAM_UNAVAILABLE or UPSTREAM_TIMEOUT when there was no answer. */
  async dial(request: DialRequest): Promise<Answer> {
    const { url, method, headers, signal } = request;
    try {
      const answer = await this.#dispatcher.request({
        origin: url.origin,
        path: url.pathname + url.search,
        method,
        headers,
        signal: signal ?? null,
      });
      const header = (name: string) => {
        const value = answer.headers[name];
        return Array.isArray(value) ? value[0] : value;
      };
      return { url, status: answer.statusCode, header, body: answer.body };
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw unanswered(url, error);
    }
  }

  close(): Promise<void> {
    return this.#dispatcher.destroy();
  }
}

/** Lets go of an answer whose body is of no interest. */
export async function discard(answer: Answer): Promise<void> {
  await answer.body.dump({ limit: DISCARDED_BYTES }).catch(() => {});
}

/** The body as a whole; undefined when it is longer than `limitBytes`. Network errors as of dial(). */
export async function readAll(answer: Answer, limitBytes: number): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      length += chunk.length;
      // Leaving the loop destroys the connection, which is what so long a body deserves.
      if (length > limitBytes) return undefined;
      chunks.push(chunk);
    }
  } catch (error) {
    throw unanswered(answer.url, error);
  }
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
