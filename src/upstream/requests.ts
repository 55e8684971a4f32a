// One request to an upstream: breaker → grant → dial, redirects followed → renew the grant if it has expired → go on
// anonymously if our credential is denied → success, or the error that fits. It is retried with growing pauses when the
// upstream failed, and not at all when it answered. Which requests there are is in client.ts and writes.ts.
import { type Backoff, backoffMs } from '../base/backoff.ts';
import type { Clock, Random } from '../base/clock.ts';
import type { Digest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import { type Access, PULL } from './auth/access.ts';
import { type Grant, Grants, type GrantsOptions } from './auth/grants.ts';
import { Mask } from './auth/mask.ts';
import { CircuitBreaker } from './circuit-breaker.ts';
import { type ErrorResponse, isDenial, readErrorResponse, toDeniedError, toError } from './error-response.ts';
import { Dialer, type DialRequest, defaultTimeouts, type Timeouts } from './transport/dialer.ts';
import { dialFollowing, isRedirect } from './transport/redirect.ts';
import type { UpstreamResponse } from './transport/response.ts';
import { isUnavailable } from './upstream.ts';

export interface UpstreamOptions extends Omit<GrantsOptions, 'dialer' | 'mask'> {
  /** As in requests and in the config: `ghcr.io`. */
  readonly name: string;
  readonly offline: boolean;
  /** PEM text of certificate authorities to trust beside the system's. */
  readonly ca?: string | undefined;
  readonly timeouts?: Timeouts;
  readonly random: Random;
}

export interface RequestSpec extends Pick<DialRequest, 'method' | 'signal'>, Partial<Pick<DialRequest, 'headers'>> {
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
  readonly #breaker: CircuitBreaker;
  readonly #mask = new Mask();
  readonly #grants: Grants;

  /** Connects nothing yet. */
  constructor(options: UpstreamOptions) {
    this.name = options.name;
    this.offline = options.offline;
    this.url = options.url;
    const { timeouts = defaultTimeouts } = options;
    this.#uploadMs = timeouts.uploadMs;
    this.clock = options.clock;
    this.random = options.random;
    this.dialer = new Dialer({ timeouts, ca: options.ca });
    this.#breaker = new CircuitBreaker(options);
    this.#grants = new Grants({ ...options, dialer: this.dialer, mask: this.#mask });
  }

  /** Sends a request and resolves to what `read` makes of the response; retries both, since a body may break. */
  ask<T>(
    repository: Repository,
    spec: RequestSpec,
    read: (response: UpstreamResponse) => T | Promise<T>,
    attempts?: number,
  ): Promise<T> {
    return this.withRetry(async () => read(await this.send(repository, spec)), spec.signal, attempts);
  }

  /** Does the work unless the breaker is open, and again if the upstream failed; reports to the breaker. */
  async withRetry<T>(work: () => Promise<T>, signal?: AbortSignal, attempts = ATTEMPTS): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      this.#breaker.check();
      try {
        const result = await work();
        this.#breaker.succeeded();
        return result;
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        this.#report(error);
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
      if (grant.accepted || (isChallenged && grant.authorization === undefined)) {
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

  #report(error: RegistryError): void {
    if (isUnavailable(error)) this.#breaker.failed(error);
    else this.#breaker.succeeded();
    if (error.code === 'TOOMANYREQUESTS' && error.retryAfterMs !== undefined) {
      this.#breaker.rateLimited(error.retryAfterMs);
    }
  }

  /** How long to wait before the next attempt; undefined when there should be none. */
  #pauseMs({ code, retryAfterMs }: RegistryError, attempt: number): number | undefined {
    // A timeout has cost enough time.
    if (code === 'UPSTREAM_UNAVAILABLE') return backoffMs(attempt, BACKOFF, this.random.fraction());
    const isWaitedFor = code === 'TOOMANYREQUESTS' && retryAfterMs !== undefined && retryAfterMs <= LONGEST_WAIT_MS;
    return isWaitedFor ? Math.ceil(retryAfterMs) + TIMER_SLACK_MS : undefined;
  }

  async #try(repository: Repository, spec: RequestSpec, grant: Grant): Promise<Attempt> {
    const { method, signal } = spec;
    const headers: Record<string, string> = { ...spec.headers };
    const url = spec.path instanceof URL ? spec.path : new URL(`/v2/${repository.name}/${spec.path}`, this.url);
    // An upload may be sent to another host, which must not learn our credential.
    if (grant.authorization !== undefined && url.origin === this.url.origin) {
      headers.authorization = grant.authorization;
    }
    const headersMs = isRead(spec) ? undefined : this.#uploadMs;
    const request = { method, url, headers, signal, headersMs, body: spec.body?.() };
    const isFollowed = isRead(spec) && !spec.stopAtRedirect;
    const response = await (isFollowed ? dialFollowing(this.dialer, request) : this.dialer.dial(request));
    const { status } = response;
    const isSuccess = (status >= 200 && status < 300) || status === 304;
    if (isSuccess || (spec.stopAtRedirect && isRedirect(response))) return { response };
    const mask = (text: string) => this.#mask.hide(text, grant.authorization);
    const error = await readErrorResponse(response, this.clock.now(), mask, method === 'HEAD');
    // A blob host does not speak for the registry, whatever it says: its address may merely have expired.
    if (response.url.origin !== this.url.origin && error.retryAfterMs === undefined) {
      throw new RegistryError(
        'UPSTREAM_UNAVAILABLE',
        `${response.url.host} does not serve ${spec.what}: ${status} ${error.message}`,
      );
    }
    return { error };
  }
}

function isDenied(attempt: Attempt): attempt is { error: ErrorResponse } {
  return 'error' in attempt && isDenial(attempt.error);
}

function isRead({ method }: RequestSpec): boolean {
  return method === 'GET' || method === 'HEAD';
}
