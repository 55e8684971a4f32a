// One request to an upstream, as a line: gate → grant → dial, redirects followed → renew the grant if it has
// expired → go on as nobody if our credential is refused → success, or the error that fits. It is repeated with
// growing pauses when the upstream failed, and not at all when it refused. Which requests there are is said in
// client.ts and writes.ts.
import type { Clock } from '../base/clock.ts';
import type { Credentials } from '../credentials/credential.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import type { Repository } from '../oci/reference.ts';
import { type Access, type Grant, Grants, isDenial, PULL, toDeniedError } from './auth/grants.ts';
import { CircuitBreaker } from './circuit-breaker.ts';
import { type ErrorResponse, readErrorResponse, toError } from './error-response.ts';
import { type Answer, Dialer, type DialRequest, defaultTimeouts, type Timeouts } from './transport/dialer.ts';
import { dialFollowing, isRedirect } from './transport/redirect.ts';
import { isUnavailable } from './upstream.ts';

export interface UpstreamOptions {
  /** As in requests and in the config: `ghcr.io`. */
  readonly name: string;
  readonly url: URL;
  readonly offline: boolean;
  readonly realms: readonly string[];
  readonly credentials: Credentials;
  /** PEM text of certificate authorities beside the system's. */
  readonly ca?: string | undefined;
  readonly timeouts?: Timeouts;
  readonly clock: Clock;
  /** Between 0 and 1; spreads retries. */
  readonly random: () => number;
  /** One of our credentials does not work: somebody should know. */
  readonly onRefused: (credential: string, message: string) => void;
}

export interface RequestSpec extends Pick<DialRequest, 'method' | 'signal'> {
  readonly headers?: DialRequest['headers'];
  /** What follows `/v2/<name>/`, or an address that the upstream gave. */
  readonly path: string | URL;
  /** What we want to be allowed. Default: to pull. */
  readonly access?: Access;
  /** Made anew for each try. */
  readonly body?: () => NonNullable<DialRequest['body']>;
  /** It cannot be made anew: a refusal of the first try stands. */
  readonly isOnce?: boolean;
  /** How long the answer may take once the body is out, where that is longer than usual. */
  readonly headersMs?: number;
  /** How the image is called in errors. */
  readonly what: string;
  /** The code of a 404. */
  readonly notFound: ErrorCode;
  /** Whether a redirect is the answer, rather than the way to it. */
  readonly redirectIsAnswer?: boolean;
}

const ATTEMPTS = 3;
const FIRST_PAUSE_MS = 100;
/** A rate limit of up to this long is waited for; ghcr.io names microseconds at times. */
const WAITED_FOR_MS = 2_000;

export class Requests {
  readonly name: string;
  readonly offline: boolean;
  readonly timeouts: Timeouts;
  readonly dialer: Dialer;
  readonly url: URL;
  readonly clock: Clock;
  readonly #random: () => number;
  readonly #gate: CircuitBreaker;
  readonly #tokens: Grants;

  constructor(options: UpstreamOptions) {
    this.name = options.name;
    this.offline = options.offline;
    this.timeouts = options.timeouts ?? defaultTimeouts;
    this.url = options.url;
    this.clock = options.clock;
    this.#random = options.random;
    this.dialer = new Dialer({ timeouts: this.timeouts, ca: options.ca });
    this.#gate = new CircuitBreaker(options);
    this.#tokens = new Grants({ ...options, dialer: this.dialer });
  }

  /** Does the work when the gate is open, and again if the upstream failed; reports to the gate. */
  async withRetry<T>(work: () => Promise<T>, signal?: AbortSignal, attempts = ATTEMPTS): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      this.#gate.check();
      let pauseMs = FIRST_PAUSE_MS * 2 ** (attempt - 1) * (0.5 + this.#random());
      try {
        const result = await work();
        this.#gate.answered();
        return result;
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        if (isUnavailable(error)) this.#gate.failed(error);
        else this.#gate.answered();
        if (error.code === 'TOOMANYREQUESTS' && error.retryAfterMs !== undefined) {
          this.#gate.limited(error.retryAfterMs);
          if (error.retryAfterMs > WAITED_FOR_MS) throw error;
          pauseMs = error.retryAfterMs;
        } else if (error.code !== 'UPSTREAM_UNAVAILABLE') throw error; // a time-out has cost enough time
        if (attempt === attempts) throw error;
      }
      await this.clock.sleep(pauseMs, signal);
    }
  }

  close(): Promise<void> {
    return this.dialer.close();
  }

  /** One request with the right authorization; what comes back is a success (2xx, 304, a wanted redirect). */
  async send(repository: Repository, ask: RequestSpec): Promise<Answer> {
    const access = ask.access ?? PULL;
    let grant = await this.#tokens.grant(repository, access);
    let result = await this.#try(repository, ask, grant);
    if ('refusal' in result && isDenial(result.refusal) && !ask.isOnce) {
      const asked = this.#tokens.learn(result.refusal.challenge);
      if (grant.proven || (asked && grant.authorization === undefined)) {
        this.#tokens.drop(repository, access, grant);
        grant = await this.#tokens.grant(repository, access);
        result = await this.#try(repository, ask, grant);
      }
    }
    // Nobody may write without a credential, so nobody is who to go on as for pulls alone.
    if (
      'refusal' in result &&
      isDenial(result.refusal) &&
      grant.credential !== undefined &&
      access === PULL
    ) {
      const { refusal } = result;
      const { credential } = grant;
      // What nobody may have either is answered with the refusal of our credential, which says more.
      grant = await this.#tokens.withoutCredential(repository, credential).catch(error => {
        throw isUnavailable(error) ? error : toDeniedError(refusal, repository, credential, access);
      });
      result = await this.#try(repository, ask, grant);
      if (!('refusal' in result)) this.#tokens.prefer(repository, grant);
      else if (isDenial(result.refusal)) throw toDeniedError(refusal, repository, credential, access);
    }
    if (!('refusal' in result)) {
      grant.proven = true;
      return result.answer;
    }
    // One that never worked is not kept: the realm may have forgotten it.
    if (result.refusal.status === 401 && !grant.proven) this.#tokens.drop(repository, access, grant);
    throw isDenial(result.refusal)
      ? toDeniedError(result.refusal, repository, grant.credential ?? grant.refused, access)
      : toError(result.refusal, ask.what, ask.notFound, !isRead(ask));
  }

  async #try(
    repository: Repository,
    ask: RequestSpec,
    grant: Grant,
  ): Promise<{ answer: Answer } | { refusal: ErrorResponse }> {
    const { method, signal, headersMs } = ask;
    const headers: Record<string, string> = { ...ask.headers };
    const url = ask.path instanceof URL ? ask.path : new URL(`/v2/${repository.name}/${ask.path}`, this.url);
    // An upload may be sent to another host, which is not told who we are.
    if (grant.authorization !== undefined && url.origin === this.url.origin) {
      headers.authorization = grant.authorization;
    }
    const request = { method, url, headers, signal, headersMs, body: ask.body?.() };
    const answer =
      isRead(ask) && !ask.redirectIsAnswer
        ? await dialFollowing(this.dialer, request)
        : await this.dialer.dial(request);
    const { status } = answer;
    if ((status >= 200 && status < 300) || status === 304 || (ask.redirectIsAnswer && isRedirect(answer))) {
      return { answer };
    }
    const refusal = await readErrorResponse(
      answer,
      this.clock.now(),
      text => this.#tokens.mask(text, grant),
      method === 'HEAD',
    );
    // Whatever a blob host says, it does not speak for the registry: its address may merely have expired.
    if (answer.url.origin !== this.url.origin && refusal.retryAfterMs === undefined) {
      throw new RegistryError(
        'UPSTREAM_UNAVAILABLE',
        `${answer.url.host} does not serve ${ask.what}: ${status} ${refusal.message}`,
      );
    }
    return { refusal };
  }
}

function isRead({ method }: RequestSpec): boolean {
  return method === 'GET' || method === 'HEAD';
}
