// What is written to an upstream over HTTP: uploads, manifests, deletes. It speaks what ghcr.io takes: one
// streamed PATCH without Content-Range and a closing PUT, or one PUT with everything; never a chunk with a
// range, of which ghcr.io refuses all above 4 MiB.

import { FairSemaphore } from '../base/fair-semaphore.ts';
import type { Digest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import { type Access, DELETE, PUSH } from './auth/grants.ts';
import type { Packages } from './github/packages.ts';
import type { RequestSpec, Requests } from './requests.ts';
import { type Answer, discard } from './transport/dialer.ts';
import { untag } from './untag.ts';
import {
  type Bytes,
  isDenied,
  isNotFound,
  type ManifestAnswer,
  type PushedManifest,
  type Upstream,
  type UpstreamWrites,
} from './upstream.ts';

/** Uploads at the same time. */
const PLACES = 32;
/** How registries that delete by digest alone refuse a tag. */
const NOT_BY_TAG: ReadonlySet<ErrorCode> = new Set([
  'UNSUPPORTED',
  'DIGEST_INVALID',
  'TAG_INVALID',
  'UPSTREAM_INVALID',
]);
const BLOB_TYPE = 'application/octet-stream';

export class WriteClient implements UpstreamWrites {
  readonly #requests: Requests;
  readonly #reads: Upstream;
  /** GitHub's interface for packages, where manifests of ghcr.io are deleted. */
  readonly #packages: Packages | undefined;
  readonly #places = new FairSemaphore(PLACES);

  constructor(requests: Requests, reads: Upstream, packages: Packages | undefined) {
    this.#requests = requests;
    this.#reads = reads;
    this.#packages = packages;
  }

  get isGitHub(): boolean {
    return this.#packages !== undefined || this.#requests.name === 'ghcr.io';
  }

  async holdsBlob(repository: Repository, digest: Digest): Promise<boolean> {
    const ask: RequestSpec = {
      method: 'HEAD',
      path: `blobs/${digest}`,
      access: PUSH,
      what: imageName(repository, { digest }),
      notFound: 'BLOB_UNKNOWN',
      redirectIsAnswer: true,
    };
    return this.#requests
      .withRetry(() => this.#done(repository, ask))
      .then(
        () => true,
        error => {
          // A repository that does not exist yet may be refused to whoever asks what is in it.
          if (isNotFound(error) || isDenied(error)) return false;
          throw error;
        },
      );
  }

  async startUpload(repository: Repository): Promise<URL> {
    const ask = uploadSpec('POST', repository, 'blobs/uploads/');
    return this.#requests.withRetry(async () =>
      this.#location(repository, await this.#done(repository, ask)),
    );
  }

  async streamUpload(
    repository: Repository,
    location: URL,
    bytes: Bytes,
    signal: AbortSignal,
    isOnce = false,
  ): Promise<URL> {
    const ask = { ...uploadSpec('PATCH', repository, location), body: bytes, signal, isOnce };
    // Half an upload cannot be repeated: who has the bytes begins another one.
    return this.#once(async () => {
      const answer = await this.#done(repository, ask);
      return answer.header('location') === undefined ? location : this.#location(repository, answer);
    });
  }

  async finishUpload(
    repository: Repository,
    location: URL,
    digest: Digest,
    signal: AbortSignal,
    whole?: { sizeBytes: number; bytes: Bytes },
  ): Promise<void> {
    const url = new URL(location);
    url.searchParams.set('digest', digest);
    const ask = { ...uploadSpec('PUT', repository, url), what: imageName(repository, { digest }) };
    const body = whole && {
      body: whole.bytes,
      headers: { 'content-type': BLOB_TYPE, 'content-length': String(whole.sizeBytes) },
    };
    await this.#once(() =>
      this.#done(repository, { ...ask, signal, headers: { 'content-length': '0' }, ...body }),
    );
  }

  async cancelUpload(repository: Repository, location: URL): Promise<void> {
    const ask = uploadSpec('DELETE', repository, location);
    // Registries end uploads that are left alone by themselves, and many know no other way.
    await this.#once(() => this.#done(repository, ask)).catch(() => {});
  }

  async mountBlob(repository: Repository, digest: Digest, from: Repository): Promise<boolean> {
    const query = new URLSearchParams({ mount: digest, from: from.name });
    const access: Access = { ...PUSH, from: from.name };
    const ask = { ...uploadSpec('POST', repository, `blobs/uploads/?${query}`), access };
    const answer = await this.#requests.withRetry(() => this.#done(repository, ask));
    if (answer.status === 201) return true;
    // An upload was opened in its place.
    if (answer.header('location')) void this.cancelUpload(repository, this.#location(repository, answer));
    return false;
  }

  async putManifest(
    repository: Repository,
    reference: Reference,
    { mediaType, bytes }: PushedManifest,
  ): Promise<ManifestAnswer> {
    const ask: RequestSpec = {
      method: 'PUT',
      path: `manifests/${reference.tag ?? reference.digest}`,
      headers: { 'content-type': mediaType },
      body: () => bytes,
      access: PUSH,
      headersMs: this.#requests.timeouts.uploadMs,
      what: imageName(repository, reference),
      notFound: 'NAME_UNKNOWN',
    };
    return this.#requests.withRetry(async () => {
      const answer = await this.#done(repository, ask);
      return { notedSubject: answer.header('oci-subject') !== undefined };
    });
  }

  async deleteManifest(repository: Repository, reference: Reference): Promise<'tag' | 'manifest'> {
    const path = `manifests/${reference.tag ?? reference.digest}`;
    try {
      await this.#delete(repository, path, imageName(repository, reference), 'MANIFEST_UNKNOWN');
      return reference.tag === undefined ? 'manifest' : 'tag';
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      // The rights that GitHub wants for it are not those that a registry wants.
      if ((error.code === 'UNSUPPORTED' || isDenied(error)) && this.#packages !== undefined) {
        await this.#packages.delete(repository, reference);
        return 'manifest';
      }
      if (reference.tag === undefined || !NOT_BY_TAG.has(error.code)) throw error;
      await untag(this.#reads, this, this.#requests.clock, repository, reference.tag);
      return 'tag';
    }
  }

  async deleteBlob(repository: Repository, digest: Digest): Promise<void> {
    await this.#delete(repository, `blobs/${digest}`, imageName(repository, { digest }), 'BLOB_UNKNOWN');
  }

  acquireUpload(repository: Repository, signal: AbortSignal): Promise<() => void> {
    return this.#places.acquire(repository.name, signal);
  }

  #delete(
    repository: Repository,
    path: string,
    what: string,
    notFound: RequestSpec['notFound'],
  ): Promise<Answer> {
    const ask: RequestSpec = { method: 'DELETE', path, what, notFound, access: DELETE };
    return this.#requests.withRetry(() => this.#done(repository, ask));
  }

  /** Not repeated. */
  #once<T>(work: () => Promise<T>): Promise<T> {
    return this.#requests.withRetry(work, undefined, 1);
  }

  /** The answer, of which only the head matters. */
  async #done(repository: Repository, ask: RequestSpec): Promise<Answer> {
    const uploadMs = this.#requests.timeouts.uploadMs;
    const answer = await this.#requests.send(repository, { headersMs: uploadMs, ...ask });
    await discard(answer);
    return answer;
  }

  #location(repository: Repository, answer: Answer): URL {
    const header = answer.header('location');
    const location = header ? URL.parse(header, answer.url.href) : null;
    if (location !== null) return this.#own(location);
    throw new RegistryError(
      'UPSTREAM_INVALID',
      `${repository.upstream} does not say where an upload to ${imageName(repository)} should go`,
    );
  }

  /** Behind a proxy that ends TLS a registry may take itself for one on plain HTTP. */
  #own(location: URL): URL {
    const { url } = this.#requests;
    if (location.host === url.host) location.protocol = url.protocol;
    if (location.protocol === 'https:' || location.origin === url.origin) return location;
    throw new RegistryError(
      'UPSTREAM_INVALID',
      `${url.host} wants uploads to go to ${location.protocol}//${location.host}, which is not safe`,
    );
  }
}

function uploadSpec(method: RequestSpec['method'], repository: Repository, path: string | URL): RequestSpec {
  return {
    method,
    path,
    // A POST without a body says so; a stream has no length to tell.
    headers: method === 'PATCH' ? { 'content-type': BLOB_TYPE } : { 'content-length': '0' },
    access: PUSH,
    what: imageName(repository),
    notFound: path instanceof URL ? 'BLOB_UPLOAD_UNKNOWN' : 'NAME_UNKNOWN',
  };
}
