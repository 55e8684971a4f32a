// One request under /v2/ and its response: what was requested, how it was served, and the headers and the log line
// that say so. Every response of the distribution API leaves through send(), fail() or sendSource().
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Log } from '../../base/log.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError, reasonOf } from '../../oci/errors.ts';
import { imageName } from '../../oci/reference.ts';
import type { Caller } from '../../pull/caller.ts';
import type { Outcome, Staleness } from '../../pull/outcome.ts';
import { ClientDisconnected } from '../body/receive.ts';
import { type Headers, send } from '../body/send.ts';
import { errorResponse, printable } from './errors.ts';
import type { ParsedRequest } from './request.ts';

export class Exchange implements Caller {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  /** Undefined until the request target has been parsed. */
  parsed: ParsedRequest | undefined;
  /** `bypass` until the cache is involved: a request that is rejected before is neither a hit nor a miss. */
  outcome: Outcome = 'bypass';
  /** Set when the connection is about to be closed by us, because the server stops. */
  isCut = false;
  #error: unknown;

  constructor(incoming: IncomingMessage, outgoing: ServerResponse) {
    this.incoming = incoming;
    this.outgoing = outgoing;
  }

  get isHead(): boolean {
    return this.incoming.method === 'HEAD';
  }

  get client(): string {
    return this.incoming.socket.remoteAddress ?? '';
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
    send(this.outgoing, status, Object.assign(this.headers(stale), further), body);
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
    const path = (this.incoming.url ?? '').split('?', 1)[0] ?? '';
    const repository = path.replace(/\/(?:blobs\/uploads(?:\/[^/]*)?|manifests\/[^/]*)$/, '');
    const namespace = this.parsed?.namespace;
    return `${repository}/${rest}${namespace === undefined ? '' : `?${new URLSearchParams({ ns: namespace })}`}`;
  }

  /** Responds with the error, unless the response has begun or the client has disconnected. */
  fail(error: unknown): void {
    this.#error = error;
    if (this.outgoing.headersSent || error instanceof ClientDisconnected) return;
    const { status, headers, body, phrase } = errorResponse(error);
    if (phrase !== undefined) this.outgoing.statusMessage = phrase;
    headers['content-type'] = 'application/json';
    // The rest of the request is of no use any more.
    if (!this.incoming.complete) headers.connection = 'close';
    this.send(status, headers, body);
  }

  /** Logs one line, once the response is out or the client has disconnected. */
  log(log: Log, ms: number): void {
    const { incoming, outgoing } = this;
    const error = this.#error;
    const isCut = this.isCut && !outgoing.writableFinished;
    if (error === undefined && !isCut && log.isLevelEnabled?.('info') === false) return;
    const { image } = this;
    const fields = {
      method: incoming.method,
      ...(image === undefined ? { path: incoming.url?.slice(0, 200) } : { image }),
      status: outgoing.statusCode,
      outcome: this.outcome,
      ms: Math.round(ms),
      client: this.client,
      ...(error === undefined ? {} : { reason: reasonOf(error) }),
    };
    if (isCut) log.warn(fields, 'cut by the shutdown of the server');
    else if (error instanceof ClientDisconnected) log.info(fields, 'client disconnected');
    else if (error !== undefined && !(error instanceof RegistryError)) {
      log.error({ ...fields, err: error }, 'request failed with an unexpected error');
    } else if (error !== undefined && outgoing.statusCode < 400) log.warn(fields, 'response cut short');
    else if (!outgoing.writableFinished) log.info(fields, 'client disconnected');
    else log.info(fields, 'request');
  }

  /** As a person writes it; undefined when the request names none. */
  get image(): string | undefined {
    const resource = this.parsed?.resource;
    if (resource === undefined || !('repository' in resource)) return undefined;
    if (resource.kind === 'manifest') return imageName(resource.repository, resource.reference);
    return imageName(resource.repository, 'digest' in resource ? { digest: resource.digest } : undefined);
  }
}
