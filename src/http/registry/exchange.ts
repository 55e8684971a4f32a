// One request under /v2/ on its way to its answer: what was asked, what came of it, and the headers and the
// log line that say so.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Log } from '../../base/log.ts';
import { RegistryError, reasonOf } from '../../oci/errors.ts';
import { imageName } from '../../oci/reference.ts';
import type { Outcome, Staleness } from '../../pull/outcome.ts';
import { ClientDisconnected } from '../body/receive.ts';
import { type Headers, send } from '../body/send.ts';
import { errorAnswer, printable } from './errors.ts';
import type { ParsedRequest } from './request.ts';

export class Exchange {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  /** Undefined until the request line has been understood. */
  parsed: ParsedRequest | undefined;
  /** `bypass` as long as the cache has not been asked: what is refused at the door is neither hit nor miss. */
  outcome: Outcome = 'bypass';
  #error: unknown;

  constructor(incoming: IncomingMessage, outgoing: ServerResponse) {
    this.incoming = incoming;
    this.outgoing = outgoing;
  }

  get isHead(): boolean {
    return this.incoming.method === 'HEAD';
  }

  header(name: string): string | undefined {
    return this.incoming.headers[name]?.toString();
  }

  /** The headers that each answer carries, after the outcome is known. */
  headers(stale?: Staleness): Headers {
    const headers: Headers = { 'docker-distribution-api-version': 'registry/2.0', 'x-cache': this.outcome };
    if (this.parsed?.namespace !== undefined) headers['oci-namespace'] = this.parsed.namespace;
    if (stale !== undefined) {
      headers.age = Math.max(0, Math.floor(stale.ageMs / 1000));
      headers.warning = `299 - "${printable(stale.why).replace(/["\\]/g, "'")}"`;
    }
    return headers;
  }

  /** Answers with the error, if it is not too late for that. */
  fail(error: unknown): void {
    this.#error = error;
    if (this.outgoing.headersSent || error instanceof ClientDisconnected) return;
    const { status, headers, body, phrase } = errorAnswer(error);
    if (phrase !== undefined) this.outgoing.statusMessage = phrase;
    // What is still to come of the request is of no use to anybody.
    if (!this.incoming.complete) this.outgoing.setHeader('connection', 'close');
    send(this.outgoing, status, { ...this.headers(), ...headers, 'content-type': 'application/json' }, body);
  }

  /** One line, when the answer is out or the client has left. */
  log(log: Log, ms: number): void {
    const { incoming, outgoing } = this;
    const error = this.#error;
    if (error === undefined && log.isLevelEnabled?.('info') === false) return;
    const image = this.#image();
    const fields = {
      method: incoming.method,
      ...(image === undefined ? { path: incoming.url?.slice(0, 200) } : { image }),
      status: outgoing.statusCode,
      outcome: this.outcome,
      ms,
      client: incoming.socket.remoteAddress,
      ...(error === undefined ? {} : { reason: reasonOf(error) }),
    };
    if (error instanceof ClientDisconnected) log.info(fields, 'client left');
    else if (error !== undefined && !(error instanceof RegistryError)) {
      log.error({ ...fields, err: error }, 'request failed by an unexpected error');
    } else if (error !== undefined && outgoing.statusCode < 400) log.warn(fields, 'answer cut short');
    else if (!outgoing.writableFinished) log.info(fields, 'client left');
    else log.info(fields, 'request');
  }

  #image(): string | undefined {
    const asked = this.parsed?.asked;
    switch (asked?.kind) {
      case 'manifest':
        return imageName(asked.repository, asked.reference);
      case 'blob':
      case 'referrers':
        return imageName(asked.repository, { digest: asked.digest });
      case 'tags':
      case 'upload':
        return imageName(asked.repository);
      default:
        return undefined;
    }
  }
}
