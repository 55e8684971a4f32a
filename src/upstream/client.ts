// An upstream over HTTP. A request is one line: gate → grant → dial, redirects followed → renew the grant
// if it has expired → go on as nobody if our credential is refused → success, or the error that fits. It is
// repeated with growing pauses when the upstream failed, and not at all when it refused.
import type { Clock } from '../clock.ts';
import { type Digest, parseDigest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { MANIFEST_LIMIT_BYTES, MANIFEST_TYPES } from '../oci/manifest.ts';
import { parseContentRange } from '../oci/range.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import { type Answer, Dialer, defaultTimeouts, discard, readAll, type Timeouts } from './dial.ts';
import { Gate } from './gate.ts';
import { Places } from './places.ts';
import { dialFollowing, isRedirect } from './redirect.ts';
import { type Refusal, readRefusal, refusalError } from './refusal.ts';
import { type Credential, type Grant, isRightsProblem, refusedError, Tokens } from './tokens.ts';
import { type BlobBody, isAway, type Upstream, type UpstreamManifest } from './upstream.ts';

export interface UpstreamOptions {
  /** As in requests and in the config: `ghcr.io`. */
  readonly name: string;
  readonly url: URL;
  readonly offline: boolean;
  readonly realms: readonly string[];
  readonly credentials: readonly Credential[];
  /** PEM text of certificate authorities beside the system's. */
  readonly ca?: string | undefined;
  readonly timeouts?: Timeouts;
  readonly clock: Clock;
  /** Between 0 and 1; spreads retries. */
  readonly random: () => number;
  /** One of our credentials does not work: somebody should know. */
  readonly onRefused: (credential: string, message: string) => void;
}

interface Ask {
  readonly method: 'GET' | 'HEAD';
  /** What follows `/v2/<name>/`. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** How the image is called in errors. */
  readonly what: string;
  /** The code of a 404. */
  readonly notThere: ErrorCode;
  /** Whether a redirect is the answer, rather than the way to it. */
  readonly redirectIsAnswer?: boolean;
  readonly signal?: AbortSignal;
}

const ATTEMPTS = 3;
const FIRST_PAUSE_MS = 100;
/** A rate limit of up to this long is waited for; ghcr.io names microseconds at times. */
const WAITED_FOR_MS = 2_000;
/** Downloads at the same time. */
const PLACES = 32;
const TAG_PAGE = 1000;
const TAG_PAGES_LIMIT = 1000;
const TAG_PAGE_LIMIT_BYTES = 8 * 1024 * 1024;

export class UpstreamClient implements Upstream {
  readonly name: string;
  readonly offline: boolean;
  readonly #url: URL;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #dialer: Dialer;
  readonly #gate: Gate;
  readonly #tokens: Tokens;
  readonly #places = new Places(PLACES);

  constructor(options: UpstreamOptions) {
    this.name = options.name;
    this.offline = options.offline;
    this.#url = options.url;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#dialer = new Dialer({ timeouts: options.timeouts ?? defaultTimeouts, ca: options.ca });
    this.#gate = new Gate(options);
    this.#tokens = new Tokens({ ...options, dialer: this.#dialer });
  }

  close(): Promise<void> {
    return this.#dialer.close();
  }

  async getManifest(repository: Repository, reference: Reference): Promise<UpstreamManifest> {
    const ask = manifestAsk('GET', repository, reference);
    return this.#persist(async () => readManifest(await this.#send(repository, ask), ask.what));
  }

  async getIfChanged(
    repository: Repository,
    tag: string,
    known: Digest,
  ): Promise<UpstreamManifest | undefined> {
    const ask = manifestAsk('GET', repository, { tag });
    // GET, not HEAD: an answer to HEAD has no body, which is where ghcr.io says that it is a rate limit and
    // for how long. Where If-None-Match is not honoured a manifest comes that is here already: a few KiB.
    const headers = { ...ask.headers, 'if-none-match': `"${known}"` };
    return this.#persist(async () => {
      const answer = await this.#send(repository, { ...ask, headers });
      if (answer.status !== 304 && digestHeader(answer) !== known) return readManifest(answer, ask.what);
      await discard(answer);
      return undefined;
    });
  }

  async confirmManifest(repository: Repository, digest: Digest): Promise<void> {
    await this.#persist(async () =>
      discard(await this.#send(repository, manifestAsk('HEAD', repository, { digest }))),
    );
  }

  async statBlob(repository: Repository, digest: Digest): Promise<number> {
    const ask = blobAsk('HEAD', repository, digest);
    return this.#persist(async () => {
      const answer = await this.#send(repository, { ...ask, redirectIsAnswer: true });
      await discard(answer);
      const sizeBytes = isRedirect(answer) ? undefined : lengthOf(answer);
      if (sizeBytes !== undefined) return sizeBytes;
      // A signed address is often good for GET alone; the answer to a range of one byte names the size.
      const probe = await this.#send(repository, { ...ask, method: 'GET', headers: { range: 'bytes=0-0' } });
      await discard(probe);
      const probed =
        probe.status === 206 ? parseContentRange(probe.header('content-range'))?.size : lengthOf(probe);
      if (probed === undefined) throw invalid(ask.what, 'its size is not told');
      return probed;
    });
  }

  async confirmBlob(repository: Repository, digest: Digest): Promise<void> {
    const ask = { ...blobAsk('HEAD', repository, digest), redirectIsAnswer: true };
    await this.#persist(async () => discard(await this.#send(repository, ask)));
  }

  async openBlob(
    repository: Repository,
    digest: Digest,
    start: number,
    signal: AbortSignal,
  ): Promise<BlobBody> {
    const ask = blobAsk('GET', repository, digest);
    const headers: Record<string, string> = start === 0 ? {} : { range: `bytes=${start}-` };
    return this.#persist(async () => {
      const answer = await this.#send(repository, { ...ask, headers, signal });
      const contentType = answer.header('content-type');
      const { body } = answer;
      const blob = {
        contentType,
        read: (take: Parameters<BlobBody['read']>[0]) => body.read(take),
        close: () => body.abandon(),
      };
      if (answer.status !== 206) return { ...blob, sizeBytes: lengthOf(answer), start: 0 };
      const range = parseContentRange(answer.header('content-range'));
      if (range?.start !== start || (range.size !== undefined && range.end !== range.size)) {
        body.abandon();
        throw invalid(ask.what, `bytes from ${start} were asked for and others came`);
      }
      return { ...blob, sizeBytes: range.size, start };
    }, signal);
  }

  async listTags(repository: Repository): Promise<string[]> {
    const tags: string[] = [];
    let path = `tags/list?n=${TAG_PAGE}`;
    for (let page = 0; page < TAG_PAGES_LIMIT; page++) {
      const what = `the tags of ${imageName(repository)}`;
      const ask: Ask = { method: 'GET', path, what: imageName(repository), notThere: 'NAME_UNKNOWN' };
      const { found, next } = await this.#persist(async () => {
        const answer = await this.#send(repository, ask);
        const body = await readAll(answer, TAG_PAGE_LIMIT_BYTES);
        return { found: parseTags(body, what), next: nextPage(answer) };
      });
      tags.push(...found);
      const prefix = `/v2/${repository.name}/`;
      // A page that leads nowhere new would lead there for ever.
      if (next === undefined || !next.startsWith(prefix) || found.length === 0) return tags;
      path = next.slice(prefix.length);
    }
    return tags;
  }

  reservePlace(repository: Repository, signal: AbortSignal): Promise<() => void> {
    return this.#places.take(repository.name, signal);
  }

  /** Does the work when the gate is open, and again if the upstream failed; reports to the gate. */
  async #persist<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      this.#gate.check();
      let pauseMs = FIRST_PAUSE_MS * 2 ** (attempt - 1) * (0.5 + this.#random());
      try {
        const result = await work();
        this.#gate.answered();
        return result;
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        if (isAway(error)) this.#gate.failed(error);
        else this.#gate.answered();
        if (error.code === 'TOOMANYREQUESTS' && error.retryAfterMs !== undefined) {
          this.#gate.limited(error.retryAfterMs);
          if (error.retryAfterMs > WAITED_FOR_MS) throw error;
          pauseMs = error.retryAfterMs;
        } else if (error.code !== 'UPSTREAM_UNAVAILABLE') throw error; // a time-out has cost enough time
        if (attempt === ATTEMPTS) throw error;
      }
      await this.#clock.sleep(pauseMs, signal);
    }
  }

  /** One request with the right authorization; what comes back is a success (2xx, 304, a wanted redirect). */
  async #send(repository: Repository, ask: Ask): Promise<Answer> {
    let grant = await this.#tokens.grant(repository);
    let result = await this.#try(repository, ask, grant);
    if ('refusal' in result && isRightsProblem(result.refusal)) {
      const asked = this.#tokens.learn(result.refusal.challenge);
      if (grant.proven || (asked && grant.authorization === undefined)) {
        this.#tokens.drop(repository, grant);
        grant = await this.#tokens.grant(repository);
        result = await this.#try(repository, ask, grant);
      }
    }
    if ('refusal' in result && isRightsProblem(result.refusal) && grant.credential !== undefined) {
      const { refusal } = result;
      const { credential } = grant;
      // What nobody may have either is answered with the refusal of our credential, which says more.
      grant = await this.#tokens.withoutCredential(repository, credential).catch(error => {
        throw isAway(error) ? error : refusedError(refusal, repository, credential);
      });
      result = await this.#try(repository, ask, grant);
      if (!('refusal' in result)) this.#tokens.prefer(repository, grant);
      else if (isRightsProblem(result.refusal)) throw refusedError(refusal, repository, credential);
    }
    if (!('refusal' in result)) {
      grant.proven = true;
      return result.answer;
    }
    throw isRightsProblem(result.refusal)
      ? refusedError(result.refusal, repository, grant.credential ?? grant.refused)
      : refusalError(result.refusal, ask.what, ask.notThere);
  }

  async #try(
    repository: Repository,
    ask: Ask,
    grant: Grant,
  ): Promise<{ answer: Answer } | { refusal: Refusal }> {
    const headers: Record<string, string> = { ...ask.headers };
    if (grant.authorization !== undefined) headers.authorization = grant.authorization;
    const url = new URL(`/v2/${repository.name}/${ask.path}`, this.#url);
    const request = { method: ask.method, url, headers, signal: ask.signal };
    const answer = ask.redirectIsAnswer
      ? await this.#dialer.dial(request)
      : await dialFollowing(this.#dialer, request);
    const { status } = answer;
    if ((status >= 200 && status < 300) || status === 304 || (ask.redirectIsAnswer && isRedirect(answer))) {
      return { answer };
    }
    const refusal = await readRefusal(answer, this.#clock.now(), text => this.#tokens.mask(text, grant));
    // Whatever a blob host says, it does not speak for the registry: its address may merely have expired.
    if (answer.url.origin !== this.#url.origin && refusal.retryAfterMs === undefined) {
      throw new RegistryError(
        'UPSTREAM_UNAVAILABLE',
        `${answer.url.host} does not serve ${ask.what}: ${status} ${refusal.message}`,
      );
    }
    return { refusal };
  }
}

function manifestAsk(method: Ask['method'], repository: Repository, reference: Reference): Ask {
  return {
    method,
    path: `manifests/${reference.tag ?? reference.digest}`,
    headers: { accept: MANIFEST_TYPES.join(', ') },
    what: imageName(repository, reference),
    notThere: 'MANIFEST_UNKNOWN',
  };
}

function blobAsk(method: Ask['method'], repository: Repository, digest: Digest): Ask {
  return {
    method,
    path: `blobs/${digest}`,
    what: imageName(repository, { digest }),
    notThere: 'BLOB_UNKNOWN',
  };
}

async function readManifest(answer: Answer, what: string): Promise<UpstreamManifest> {
  const bytes = await readAll(answer, MANIFEST_LIMIT_BYTES);
  if (bytes === undefined) {
    const limit = `${MANIFEST_LIMIT_BYTES / 1024 / 1024} MiB`;
    throw new RegistryError(
      'UPSTREAM_INVALID',
      `the manifest of ${what} is larger than ${limit}, the most that is taken`,
    );
  }
  return { bytes, contentType: answer.header('content-type'), digest: digestHeader(answer) };
}

function digestHeader(answer: Answer): Digest | undefined {
  return parseDigest(answer.header('docker-content-digest') ?? '');
}

function lengthOf(answer: Answer): number | undefined {
  const header = answer.header('content-length');
  return header !== undefined && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

function parseTags(body: Buffer | undefined, what: string): string[] {
  try {
    const { tags } = JSON.parse(body?.toString('utf8') ?? '') as { tags: unknown };
    if (tags === null) return [];
    if (Array.isArray(tags) && tags.every(tag => typeof tag === 'string')) return tags;
  } catch {
    // Falls through to the error below.
  }
  throw invalid(what, 'what came is not a list of tags');
}

/** Path and query of the next page (RFC 8288), which must be on the same host. */
function nextPage(answer: Answer): string | undefined {
  const match = /<([^>]*)>\s*;\s*rel="?next"?/i.exec(answer.header('link') ?? '');
  const url = match?.[1] === undefined ? null : URL.parse(match[1], answer.url.href);
  return url?.origin === answer.url.origin ? url.pathname + url.search : undefined;
}

function invalid(what: string, why: string): RegistryError {
  return new RegistryError('UPSTREAM_INVALID', `the upstream's answer for ${what} cannot be used: ${why}`);
}
