// One request to an upstream: rate limit, troubles → grant → dial, redirects followed → renew the grant if it has expired
// → go on anonymously if our credential is denied → success, or the error that fits. It is retried with growing pauses when
// the upstream failed, and not at all when it answered. Which requests there are is in client.ts and writes.ts.
//
// Every error leaves through here, without secrets and fit to be printed, whatever the upstream said.
import { type Backoff, backoffMs } from '../base/backoff.ts';
import type { Clock, Random } from '../base/clock.ts';
import { KeyedSemaphore } from '../base/keyed-semaphore.ts';
import type { Digest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import { type Access, PULL } from './auth/access.ts';
import { type Grant, Grants, type GrantsOptions } from './auth/grants.ts';
import { Mask } from './auth/mask.ts';
import {
  type ErrorResponse,
  isDenial,
  readErrorResponse,
  toDeniedError,
  toElsewhereError,
  toError,
} from './error-response.ts';
import { RateLimit } from './rate-limit.ts';
import type { CircuitBreakersOptions } from './transport/circuit-breakers.ts';
import { Dialer, type DialerOptions, type DialRequest } from './transport/dialer.ts';
import { dialFollowing, isRedirect } from './transport/redirect.ts';
import { discard, type UpstreamResponse } from './transport/response.ts';
import { Trouble } from './transport/trouble.ts';
import { Troubles } from './troubles.ts';
import { isUnavailable } from './upstream.ts';

export interface UpstreamOptions
  extends Omit<GrantsOptions, 'dialer' | 'mask'>,
    Pick<DialerOptions, 'timeouts' | 'ca' | 'resolve'>,
    Pick<CircuitBreakersOptions, 'onDown' | 'onUp'> {
  /** As in requests and in the config: `ghcr.io`. */
  readonly name: string;
  readonly offline: boolean;
  /** The API that packages are deleted through. */
  readonly api?: URL | undefined;
  /** `host`, `host:port` or `*.suffix` of hosts that blobs may be redirected to. */
  readonly blobHosts: readonly string[];
  /** Whether to those alone. */
  readonly onlyBlobHosts: boolean;
  readonly random: Random;
}

export interface RequestSpec
  extends Pick<DialRequest, 'method' | 'signal'>,
    Partial<Pick<DialRequest, 'headers' | 'isBlob'>> {
  /** What follows `/v2/<name>/`, or an address that the upstream gave. */
  readonly path: string | URL;
  /** Default: PULL. */
  readonly access?: Access;
  /** Called again for each try. */
  readonly body?: () => NonNullable<DialRequest['body']>;
  /** The body can be had only once: a denial of the first try stands. */
  readonly isSingleUse?: boolean;
  /** What errors call the image. */
  readonly what: string;
  /** The code of a 404. */
  readonly notFound: ErrorCode;
  /** Whether a redirect is the result, and not followed. */
  readonly stopAtRedirect?: boolean;
  /** It goes on with something: it is sent also when the image was in trouble a moment ago. */
  readonly isResumed?: boolean;
  /** As of OpenOptions. */
  readonly isSpare?: boolean | undefined;
  readonly address?: URL | undefined;
}

export function manifestSpec(method: RequestSpec['method'], repository: Repository, reference: Reference): RequestSpec {
  const path = `manifests/${reference.tag ?? reference.digest}`;
  return { method, path, what: imageName(repository, reference), notFound: 'MANIFEST_UNKNOWN' };
}

export function blobSpec(method: RequestSpec['method'], repository: Repository, digest: Digest): RequestSpec {
  return { method, path: `blobs/${digest}`, what: imageName(repository, { digest }), notFound: 'BLOB_UNKNOWN' };
}

type Attempt = { readonly response: UpstreamResponse } | { readonly error: ErrorResponse };

const ATTEMPTS = 3;
const BACKOFF: Backoff = { firstMs: 100 };
/** Of one repository: a slow one does not take all connections to the host. */
const WAITING_PER_REPOSITORY = 32;
/** A rate limit of up to this long is waited for: ghcr.io names microseconds at times. */
const LONGEST_WAIT_MS = 2_000;
/** Timers count whole milliseconds, and may be early by one. */
const TIMER_SLACK_MS = 2;

export class Requests {
  readonly name: string;
  readonly offline: boolean;
  readonly url: URL;
  readonly dialer: Dialer;
  readonly clock: Clock;
  readonly random: Random;
  readonly #uploadMs: number;
  readonly #rateLimit: RateLimit;
  readonly #troubles: Troubles;
  /** For reads that wait for their headers. */
  readonly #waiting = new KeyedSemaphore(WAITING_PER_REPOSITORY);
  readonly #mask = new Mask();
  readonly #grants: Grants;

  /** Connects nothing yet. */
  constructor(options: UpstreamOptions) {
    this.name = options.name;
    this.offline = options.offline;
    this.url = options.url;
    this.#uploadMs = options.timeouts.uploadMs;
    this.clock = options.clock;
    this.random = options.random;
    this.#rateLimit = new RateLimit(options);
    this.#troubles = new Troubles(options.clock);
    this.dialer = this.#newDialer(options);
    this.#grants = new Grants({ ...options, dialer: this.dialer, mask: this.#mask });
  }

  /** Sends a request and resolves to what `read` makes of the response; retries both, since a body may break. */
  async ask<T>(
    repository: Repository,
    spec: RequestSpec,
    read: (response: UpstreamResponse) => T | Promise<T>,
    attempts?: number,
  ): Promise<T> {
    const work = async () => read(await this.send(repository, spec));
    // Pushes have attempts of their own, and people behind them.
    const isPull = isRead(spec) && (spec.access ?? PULL) === PULL;
    if (!isPull) return this.withRetry(work, spec.signal, attempts);
    if (spec.isSpare) return this.withRetry(work, spec.signal, 1);
    if (!spec.isResumed) this.#troubles.check(spec.what);
    try {
      const result = await this.withRetry(work, spec.signal, attempts);
      this.#troubles.forget(spec.what);
      return result;
    } catch (error) {
      if (isUnavailable(error)) this.#troubles.remember(spec.what, error);
      throw error;
    }
  }

  /** Does the work unless the upstream must not be asked, and again if it failed. */
  async withRetry<T>(work: () => Promise<T>, signal?: AbortSignal, attempts = ATTEMPTS): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      this.#rateLimit.check();
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        this.#mask.cleanError(error);
        const isLimit = error.code === 'TOOMANYREQUESTS' && !(error instanceof Trouble);
        if (isLimit) this.#rateLimit.limited(error.retryAfterMs ?? 0);
        const pauseMs = this.#pauseMs(error, attempt);
        if (pauseMs === undefined || attempt === attempts) throw error;
        await this.clock.sleep(pauseMs, signal);
      }
    }
  }

  /**
   * One request with the right authorization. Resolves to a success (2xx, 304, a redirect that was asked for); throws
   * the error that anything else means.
   */
  async send(repository: Repository, spec: RequestSpec): Promise<UpstreamResponse> {
    const access = spec.access ?? PULL;
    let grant = await this.#grants.grant(repository, access);
    let attempt = await this.#try(repository, spec, grant);
    if (isDenied(attempt) && !spec.isSingleUse) {
      const isChallenged = this.#grants.record(attempt.error.challenge);
      // A token may be refused the moment it was issued, where it has not reached all servers yet.
      const isFresh = attempt.error.status === 401 && isToken(grant);
      if (grant.accepted || isFresh || (isChallenged && grant.authorization === undefined)) {
        this.#grants.remove(repository, access, grant);
        grant = await this.#grants.grant(repository, access);
        attempt = await this.#try(repository, spec, grant);
      }
    }
    // Only pulls: no one may write anonymously.
    if (isDenied(attempt) && grant.credential !== undefined && access.actions === 'pull') {
      // If anonymous access is denied as well, the denial of our credential says more.
      const denied = toDeniedError(attempt.error, repository, grant.credential, access);
      grant = await this.#grants.anonymous(repository, grant.credential).catch(error => {
        throw isUnavailable(error) ? error : denied;
      });
      attempt = await this.#try(repository, spec, grant);
      if (isDenied(attempt)) throw denied;
      if ('response' in attempt) this.#grants.cache(repository, grant);
    }
    // Whatever else it is, an answer that denies nothing shows that the grant is good, also one that finds nothing.
    if (!isDenied(attempt)) grant.accepted = true;
    if ('response' in attempt) return attempt.response;
    const { error } = attempt;
    // One that never worked is not kept: the realm may have forgotten it.
    if (error.status === 401 && !grant.accepted) this.#grants.remove(repository, access, grant);
    throw isDenial(error)
      ? toDeniedError(error, repository, grant.credential ?? grant.denied, access)
      : toError(error, spec.what, spec.notFound, !isRead(spec));
  }

  /** As Upstream.identity. */
  identity(repository: Repository): Promise<string> {
    return this.#grants.identity(repository);
  }

  close(): Promise<void> {
    return this.dialer.close();
  }

  /** What the upstream said, in one line, at most so long, without our secrets. */
  clean(text: string, limit?: number): string {
    return this.#mask.clean(text, limit);
  }

  /** Names that the upstream gave, without our secrets. */
  hideAll(names: string[]): string[] {
    return this.#mask.isIn(names.join('\n')) ? names.map(name => this.#mask.hide(name)) : names;
  }

  /** An error that is about what the upstream said. */
  cleanError<E>(error: E): E {
    return this.#mask.cleanError(error);
  }

  #newDialer(options: UpstreamOptions): Dialer {
    const { name, url, realms, api, blobHosts, onlyBlobHosts, clock, timeouts, ca, resolve } = options;
    return new Dialer({
      ...{ registry: url, trusted: api === undefined ? realms : [...realms, api.host] },
      ...{ blobHosts, areAll: onlyBlobHosts, clock, timeouts, ca, ...(resolve && { resolve }) },
      nameOf: ({ origin, host }) => (origin === url.origin && host !== name ? `${name} (${host})` : host),
      onDown: (host, why) => options.onDown(this.clean(host), this.clean(why)),
      onUp: (host, awayMs) => {
        // The troubles of images may have been those of the host.
        this.#troubles.clear();
        options.onUp(this.clean(host), awayMs);
      },
    });
  }

  /** How long to wait before the next attempt; undefined when there should be none. */
  #pauseMs(error: RegistryError, attempt: number): number | undefined {
    const { code, retryAfterMs } = error;
    if (error instanceof Trouble && !error.mayRetry) return undefined;
    if (code !== 'UPSTREAM_UNAVAILABLE' && code !== 'TOOMANYREQUESTS') return undefined;
    if (retryAfterMs === undefined) return backoffMs(attempt, BACKOFF, this.random.fraction());
    return retryAfterMs <= LONGEST_WAIT_MS ? Math.ceil(retryAfterMs) + TIMER_SLACK_MS : undefined;
  }

  async #try(repository: Repository, spec: RequestSpec, grant: Grant): Promise<Attempt> {
    const { method, signal, address, isBlob, isSpare } = spec;
    const headers: Record<string, string> = { ...spec.headers };
    const url = spec.path instanceof URL ? spec.path : new URL(`/v2/${repository.name}/${spec.path}`, this.url);
    // An upload may be sent to another host, which must not learn our credential.
    if (grant.authorization && url.origin === this.url.origin) headers.authorization = grant.authorization;
    const headersMs = isRead(spec) ? undefined : this.#uploadMs;
    const subject = { repository: repository.name, image: spec.what };
    const request: DialRequest = { method, url, headers, subject, signal, headersMs, isBlob, isSpare };
    const isFollowed = isRead(spec) && !spec.stopAtRedirect;
    const send = (asked: DialRequest) =>
      isFollowed ? dialFollowing(this.dialer, asked) : this.dialer.dial({ ...asked, body: spec.body?.() });
    const dial = (asked: DialRequest) =>
      isRead(spec) ? this.#waiting.run(repository.name, signal, () => send(asked)) : send(asked);
    const known = address && { ...request, url: address, headers: { ...spec.headers } };
    let response = await dial(known ?? request);
    // The address of a blob may have expired, or be spoilt: the registry is asked for a fresh one, once.
    if (isFollowed && this.#isElsewhere(response) && isRefusal(response)) {
      await discard(response);
      response = await dial(request);
    }
    const { status } = response;
    const isSuccess = (status >= 200 && status < 300) || status === 304;
    if (isSuccess || (spec.stopAtRedirect && isRedirect(response))) return { response };
    const error = await readErrorResponse(response, this.clock.now(), this.#mask, method === 'HEAD');
    if (this.#isElsewhere(response)) throw toElsewhereError(error, response.url.host, spec.what);
    return { error };
  }

  #isElsewhere({ url }: UpstreamResponse): boolean {
    return url.origin !== this.url.origin;
  }
}

/** Another answer is not to be had by asking again. */
function isRefusal({ status }: UpstreamResponse): boolean {
  return status >= 400 && status < 500 && status !== 429;
}

function isToken({ authorization }: Grant): boolean {
  return authorization?.startsWith('Bearer ') === true;
}

function isDenied(attempt: Attempt): attempt is { error: ErrorResponse } {
  return 'error' in attempt && isDenial(attempt.error);
}

function isRead({ method }: RequestSpec): boolean {
  return method === 'GET' || method === 'HEAD';
}
