// What is read from an upstream over HTTP.

import { FairSemaphore } from '../base/fair-semaphore.ts';
import { type Digest, parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { MANIFEST_LIMIT_BYTES, MANIFEST_TYPES, mediaTypeOf } from '../oci/manifest.ts';
import { parseContentRange } from '../oci/range.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import { INDEX_TYPE, indexEntries } from '../oci/referrers.ts';
import type { RequestSpec, Requests } from './requests.ts';
import { type Answer, discard, readAll } from './transport/dialer.ts';
import { isRedirect } from './transport/redirect.ts';
import { type BlobBody, isNotFound, type Upstream, type UpstreamManifest } from './upstream.ts';

/** Downloads at the same time. */
const PLACES = 32;
const TAG_PAGE = 1000;
const REFERRER_PAGES_LIMIT = 100;
const TAG_PAGES_LIMIT = 1000;
const TAG_PAGE_LIMIT_BYTES = 8 * 1024 * 1024;

export class UpstreamClient implements Upstream {
  readonly name: string;
  readonly offline: boolean;
  readonly #requests: Requests;
  readonly #places = new FairSemaphore(PLACES);

  constructor(requests: Requests) {
    this.name = requests.name;
    this.offline = requests.offline;
    this.#requests = requests;
  }

  async getManifest(repository: Repository, reference: Reference): Promise<UpstreamManifest> {
    const ask = manifestSpec('GET', repository, reference);
    return this.#requests.withRetry(async () =>
      readManifest(await this.#requests.send(repository, ask), ask.what),
    );
  }

  async getIfChanged(
    repository: Repository,
    tag: string,
    known: Digest,
  ): Promise<UpstreamManifest | undefined> {
    const ask = manifestSpec('GET', repository, { tag });
    // GET, not HEAD: an answer to HEAD has no body, which is where ghcr.io says that it is a rate limit and
    // for how long. Where If-None-Match is not honoured a manifest comes that is here already: a few KiB.
    const headers = { ...ask.headers, 'if-none-match': `"${known}"` };
    return this.#requests.withRetry(async () => {
      const answer = await this.#requests.send(repository, { ...ask, headers });
      if (answer.status !== 304 && digestHeader(answer) !== known) return readManifest(answer, ask.what);
      await discard(answer);
      return undefined;
    });
  }

  async confirmManifest(repository: Repository, digest: Digest): Promise<void> {
    await this.#requests.withRetry(async () =>
      discard(await this.#requests.send(repository, manifestSpec('HEAD', repository, { digest }))),
    );
  }

  async statBlob(repository: Repository, digest: Digest): Promise<number> {
    const ask = blobSpec('HEAD', repository, digest);
    return this.#requests.withRetry(async () => {
      const answer = await this.#requests.send(repository, { ...ask, redirectIsAnswer: true });
      await discard(answer);
      const sizeBytes = isRedirect(answer) ? undefined : lengthOf(answer);
      if (sizeBytes !== undefined) return sizeBytes;
      // A signed address is often good for GET alone; the answer to a range of one byte names the size.
      const probe = await this.#requests.send(repository, {
        ...ask,
        method: 'GET',
        headers: { range: 'bytes=0-0' },
      });
      await discard(probe);
      const probed =
        probe.status === 206 ? parseContentRange(probe.header('content-range'))?.size : lengthOf(probe);
      if (probed === undefined) throw invalid(ask.what, 'its size is not told');
      return probed;
    });
  }

  async confirmBlob(repository: Repository, digest: Digest): Promise<void> {
    const ask = { ...blobSpec('HEAD', repository, digest), redirectIsAnswer: true };
    await this.#requests.withRetry(async () => discard(await this.#requests.send(repository, ask)));
  }

  async openBlob(
    repository: Repository,
    digest: Digest,
    start: number,
    signal: AbortSignal,
  ): Promise<BlobBody> {
    const ask = blobSpec('GET', repository, digest);
    const headers: Record<string, string> = start === 0 ? {} : { range: `bytes=${start}-` };
    return this.#requests.withRetry(async () => {
      const answer = await this.#requests.send(repository, { ...ask, headers, signal });
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
      const ask: RequestSpec = { method: 'GET', path, what: imageName(repository), notFound: 'NAME_UNKNOWN' };
      const { found, next } = await this.#requests.withRetry(async () => {
        const answer = await this.#requests.send(repository, ask);
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

  async listReferrers(repository: Repository, digest: Digest): Promise<readonly unknown[] | undefined> {
    const what = `the referrers of ${imageName(repository, { digest })}`;
    const descriptors: unknown[] = [];
    let path = `referrers/${digest}`;
    for (let page = 0; page < REFERRER_PAGES_LIMIT; page++) {
      // ghcr.io redirects to a web page: whatever is no index on the spot is an upstream without this API.
      const ask: RequestSpec = {
        method: 'GET',
        path,
        what,
        notFound: 'MANIFEST_UNKNOWN',
        redirectIsAnswer: true,
      };
      const answer = await this.#requests
        .withRetry(() => this.#requests.send(repository, ask))
        .catch(error => {
          if (lacksReferrers(error)) return undefined;
          throw error;
        });
      if (answer === undefined || mediaTypeOf(answer.header('content-type')) !== INDEX_TYPE) {
        if (answer !== undefined) await discard(answer);
        return undefined;
      }
      const found = indexEntries(await readAll(answer, MANIFEST_LIMIT_BYTES));
      if (found === undefined) throw invalid(what, 'what came is not an image index');
      descriptors.push(...found);
      const next = nextPage(answer);
      const prefix = `/v2/${repository.name}/`;
      if (next === undefined || !next.startsWith(prefix) || found.length === 0) break;
      path = next.slice(prefix.length);
    }
    return descriptors;
  }

  acquireDownload(repository: Repository, signal: AbortSignal): Promise<() => void> {
    return this.#places.acquire(repository.name, signal);
  }
}

function manifestSpec(
  method: RequestSpec['method'],
  repository: Repository,
  reference: Reference,
): RequestSpec {
  return {
    method,
    path: `manifests/${reference.tag ?? reference.digest}`,
    headers: { accept: MANIFEST_TYPES.join(', ') },
    what: imageName(repository, reference),
    notFound: 'MANIFEST_UNKNOWN',
  };
}

function blobSpec(method: RequestSpec['method'], repository: Repository, digest: Digest): RequestSpec {
  return {
    method,
    path: `blobs/${digest}`,
    what: imageName(repository, { digest }),
    notFound: 'BLOB_UNKNOWN',
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

/** An upstream that has the API never answers 404; 405 and the like come from one that does not know the path. */
function lacksReferrers(error: unknown): boolean {
  return (
    isNotFound(error) ||
    (error instanceof RegistryError && ['UNSUPPORTED', 'UPSTREAM_INVALID'].includes(error.code))
  );
}

function invalid(what: string, why: string): RegistryError {
  return new RegistryError('UPSTREAM_INVALID', `the upstream's answer for ${what} cannot be used: ${why}`);
}
