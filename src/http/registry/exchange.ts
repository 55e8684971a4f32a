// One request and its response: what was requested, how it was served, and the headers and the log line that say so.
// Every response of the distribution API leaves through send(), fail() or sendSource().
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Log } from '../../base/log.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError, reasonOf } from '../../oci/errors.ts';
import { imageName } from '../../oci/reference.ts';
import type { Caller } from '../../pull/caller.ts';
import type { Outcome, Staleness } from '../../pull/outcome.ts';
import { ClientDisconnected } from '../body/receive.ts';
import type { Sent } from '../body/response-writer.ts';
import { type Headers, send } from '../body/send.ts';
import { errorResponse, printable } from './errors.ts';
import type { Kind, ParsedRequest } from './request.ts';

/** What the parts of the app are handed with a request. */
export interface Bindings {
  readonly exchange: Exchange;
}

export class Exchange implements Caller, Sent {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  /** Undefined until the request target has been parsed. */
  parsed: ParsedRequest | undefined;
  /** `bypass` until the cache is involved: a request that is rejected before is neither a hit nor a miss. */
  outcome: Outcome = 'bypass';
  /** Set when the connection is about to be closed by us, because the server stops. */
  isCut = false;
  /** Of the body of the response, as far as the system has them. */
  sentBytes = 0;
  /** Set by who handles it; what nothing handles is `other`. */
  kind: Kind | 'health' | 'other' = 'other';
  /** The address of the client, which a closed socket does not know any more. */
  readonly client: string;
  #error: unknown;

  constructor(incoming: IncomingMessage, outgoing: ServerResponse) {
    this.incoming = incoming;
    this.outgoing = outgoing;
    this.client = incoming.socket.remoteAddress ?? '';
  }

  get isPartial(): boolean {
    return this.incoming.headers.range !== undefined;
  }

  get isHead(): boolean {
    return this.incoming.method === 'HEAD';
  }

  gone(): AbortSignal {
    const gone = new AbortController();
    const abort = () => gone.abort(new ClientDisconnected('the client disconnected before it was answered'));
    if (this.outgoing.destroyed) abort();
    else this.outgoing.once('close', abort);
    return gone.signal;
  }

  /** Whether it changes something: a delete too. */
  get isPush(): boolean {
    return this.incoming.method !== 'GET' && !this.isHead;
  }

  /** Whether the request has a body, which may be still to come. */
  get hasBody(): boolean {
    return this.header('transfer-encoding') !== undefined || Number(this.header('content-length') ?? 0) > 0;
  }

  /** The request target without its query, which may hold anything. */
  get path(): string {
    const { url = '' } = this.incoming;
    const end = url.search(/[?#]/);
    return end < 0 ? url : url.slice(0, end);
  }

  header(name: string): string | undefined {
    return this.incoming.headers[name]?.toString();
  }

  /** The headers of every response, once the outcome is known. */
  headers(stale?: Staleness): Headers {
    const headers: Headers = { 'docker-distribution-api-version': 'registry/2.0', 'x-cache': this.outcome };
    if (this.parsed?.namespace !== undefined) headers['oci-namespace'] = this.parsed.namespace;
    if (stale !== undefined) {
      headers.age = Math.max(0, Math.floor(stale.ageMs / 1000));
      headers.warning = `299 - "${printable(stale.why).replace(/["\\]/g, "'")}"`;
    }
    return headers;
  }

  /** Responds with `further` beside the headers of every response. */
  send(status: number, further?: Headers, body?: string | Buffer, stale?: Staleness): void {
    send(this, status, Object.assign(this.headers(stale), further), body);
  }

  /** Responds outside of the distribution API. */
  sendText(status: number, text: string): void {
    send(this, status, { ...this.#ending(), 'content-type': 'text/plain; charset=utf-8' }, text);
  }

  /** Responds that content is now in the repository, 201, and where. */
  sendCreated(kind: 'blobs' | 'manifests', digest: Digest, further?: Headers): void {
    this.send(201, {
      location: this.location(`${kind}/${digest}`),
      'docker-content-digest': digest,
      ...further,
      'content-length': 0,
    });
  }

  /** A path in the request's repository, written and routed as in the request. Relative: proxies may be in front. */
  location(rest: string): string {
    const repository = this.path.replace(/\/(?:blobs\/uploads(?:\/[^/]*)?|manifests\/[^/]*)$/, '');
    const namespace = this.parsed?.namespace;
    return `${repository}/${rest}${namespace === undefined ? '' : `?${new URLSearchParams({ ns: namespace })}`}`;
  }

  /** Responds with the error, unless the response has begun or the client has disconnected. */
  fail(error: unknown): void {
    this.#error = error;
    if (this.outgoing.headersSent || error instanceof ClientDisconnected) return;
    const { status, headers, body, phrase } = errorResponse(error);
    if (phrase !== undefined) this.outgoing.statusMessage = phrase;
    if (/^\/v2(?:\/|$)/.test(this.path)) {
      this.send(status, { ...headers, ...this.#ending(), 'content-type': 'application/json' }, body);
    } else this.sendText(status, `${reasonOf(error)}\n`);
  }

  /** Logs one line, once the response is out or the client has disconnected. */
  log(log: Log, ms: number): void {
    const [level, message] = this.#verdict();
    if (log.isLevelEnabled?.(level) === false) return;
    const { incoming } = this;
    const error = this.#error;
    const { image } = this;
    const isUnexpected =
      error !== undefined && !(error instanceof RegistryError || error instanceof ClientDisconnected);
    const fields = {
      method: incoming.method,
      kind: this.kind,
      ...(image === undefined ? { path: this.path.slice(0, 200) } : { image }),
      outcome: this.outcome,
      status: this.outgoing.statusCode,
      bytes: this.sentBytes,
      ms: Math.round(ms),
      client: this.client,
      agent: incoming.headers['user-agent']?.slice(0, 200),
      ...(error === undefined ? {} : { reason: reasonOf(error) }),
      ...(isUnexpected && { err: error }),
    };
    log[level](fields, message);
  }

  /** At which level, and as what, this exchange is logged. */
  #verdict(): [level: 'debug' | 'info' | 'warn' | 'error', message: string] {
    const error = this.#error;
    const { statusCode, writableFinished } = this.outgoing;
    if (this.isCut && !writableFinished) return ['warn', 'cut by the shutdown of the server'];
    if (error instanceof ClientDisconnected) return ['info', 'client disconnected'];
    if (error !== undefined && !(error instanceof RegistryError)) {
      return ['error', 'request failed with an unexpected error'];
    }
    if (error !== undefined && statusCode < 400) return ['warn', 'response cut short'];
    if (!writableFinished) return ['info', 'client disconnected'];
    if (statusCode >= 500) return ['warn', 'request'];
    const isRoutine = statusCode < 400 && (this.kind === 'base' || this.kind === 'health');
    return [isRoutine ? 'debug' : 'info', 'request'];
  }

  /** The rest of a request that has its response is of no use. */
  #ending(): Headers {
    return this.hasBody && !this.incoming.complete ? { connection: 'close' } : {};
  }

  /** As a person writes it; undefined when the request names none. */
  get image(): string | undefined {
    const resource = this.parsed?.resource;
    if (resource === undefined || !('repository' in resource)) return undefined;
    if (resource.kind === 'manifest') return imageName(resource.repository, resource.reference);
    return imageName(resource.repository, 'digest' in resource ? { digest: resource.digest } : undefined);
  }
}
