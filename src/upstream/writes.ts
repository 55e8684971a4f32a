// What is written to an upstream over HTTP: uploads, manifests, deletes. It speaks what ghcr.io takes: one
// streamed PATCH without Content-Range and a closing PUT, or one PUT with everything; never a chunk with a
// range, of which ghcr.io refuses all above 4 MiB.
import type { Digest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import { type Answer, discard } from './dial.ts';
import type { Packages } from './packages.ts';
import { Places } from './places.ts';
import type { Ask, Requests } from './requests.ts';
import { type Access, DELETE, PUSH } from './tokens.ts';
import { untag } from './untag.ts';
import {
  type Bytes,
  isNotThere,
  isRefused,
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
  readonly #places = new Places(PLACES);

  constructor(requests: Requests, reads: Upstream, packages: Packages | undefined) {
    this.#requests = requests;
    this.#reads = reads;
    this.#packages = packages;
  }

  get isGitHub(): boolean {
    return this.#packages !== undefined || this.#requests.name === 'ghcr.io';
  }

  async holdsBlob(repository: Repository, digest: Digest): Promise<boolean> {
    const ask: Ask = {
      method: 'HEAD',
      path: `blobs/${digest}`,
      access: PUSH,
      what: imageName(repository, { digest }),
      notThere: 'BLOB_UNKNOWN',
      redirectIsAnswer: true,
    };
    return this.#requests
      .persist(() => this.#done(repository, ask))
      .then(
        () => true,
        error => {
          // A repository that does not exist yet may be refused to whoever asks what is in it.
          if (isNotThere(error) || isRefused(error)) return false;
          throw error;
        },
      );
  }

  async startUpload(repository: Repository): Promise<URL> {
    const ask = uploadAsk('POST', repository, 'blobs/uploads/');
    return this.#requests.persist(async () => this.#location(repository, await this.#done(repository, ask)));
  }

  async streamUpload(
    repository: Repository,
    location: URL,
    bytes: Bytes,
    signal: AbortSignal,
    isOnce = false,
  ): Promise<URL> {
    const ask = { ...uploadAsk('PATCH', repository, location), body: bytes, signal, isOnce };
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
    const ask = { ...uploadAsk('PUT', repository, url), what: imageName(repository, { digest }) };
    const body = whole && {
      body: whole.bytes,
      headers: { 'content-type': BLOB_TYPE, 'content-length': String(whole.sizeBytes) },
    };
    await this.#once(() =>
      this.#done(repository, { ...ask, signal, headers: { 'content-length': '0' }, ...body }),
    );
  }

  async cancelUpload(repository: Repository, location: URL): Promise<void> {
    const ask = uploadAsk('DELETE', repository, location);
    // Registries end uploads that are left alone by themselves, and many know no other way.
    await this.#once(() => this.#done(repository, ask)).catch(() => {});
  }

  async mountBlob(repository: Repository, digest: Digest, from: Repository): Promise<boolean> {
    const query = new URLSearchParams({ mount: digest, from: from.name });
    const access: Access = { ...PUSH, from: from.name };
    const ask = { ...uploadAsk('POST', repository, `blobs/uploads/?${query}`), access };
    const answer = await this.#requests.persist(() => this.#done(repository, ask));
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
    const ask: Ask = {
      method: 'PUT',
      path: `manifests/${reference.tag ?? reference.digest}`,
      headers: { 'content-type': mediaType },
      body: () => bytes,
      access: PUSH,
      headersMs: this.#requests.timeouts.uploadMs,
      what: imageName(repository, reference),
      notThere: 'NAME_UNKNOWN',
    };
    return this.#requests.persist(async () => {
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
      if ((error.code === 'UNSUPPORTED' || isRefused(error)) && this.#packages !== undefined) {
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

  reserveUpload(repository: Repository, signal: AbortSignal): Promise<() => void> {
    return this.#places.take(repository.name, signal);
  }

  #delete(repository: Repository, path: string, what: string, notThere: Ask['notThere']): Promise<Answer> {
    const ask: Ask = { method: 'DELETE', path, what, notThere, access: DELETE };
    return this.#requests.persist(() => this.#done(repository, ask));
  }

  /** Not repeated. */
  #once<T>(work: () => Promise<T>): Promise<T> {
    return this.#requests.persist(work, undefined, 1);
  }

  /** The answer, of which only the head matters. */
  async #done(repository: Repository, ask: Ask): Promise<Answer> {
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

function uploadAsk(method: Ask['method'], repository: Repository, path: string | URL): Ask {
  return {
    method,
    path,
    // A POST without a body says so; a stream has no length to tell.
    headers: method === 'PATCH' ? { 'content-type': BLOB_TYPE } : { 'content-length': '0' },
    access: PUSH,
    what: imageName(repository),
    notThere: path instanceof URL ? 'BLOB_UPLOAD_UNKNOWN' : 'NAME_UNKNOWN',
  };
}
