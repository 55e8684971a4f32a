// Writes to an upstream over HTTP: uploads, manifests, deletes. It speaks what ghcr.io takes: one streamed PATCH without
// Content-Range and a closing PUT, or one PUT with everything; never a chunk with a range, of which ghcr.io rejects all
// above 4 MiB.
import type { Digest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import { type Access, DELETE, PUSH } from './auth/access.ts';
import type { Packages } from './github/packages.ts';
import { Permits } from './permits.ts';
import { blobSpec, manifestSpec, type RequestSpec, type Requests } from './requests.ts';
import { Address } from './transport/address.ts';
import { discard, type UpstreamResponse } from './transport/response.ts';
import { untag } from './untag.ts';
import {
  type Bytes,
  type Capabilities,
  isDenied,
  isNotFound,
  type PushedManifest,
  type PushReceipt,
  type Upstream,
  type UpstreamWrites,
} from './upstream.ts';

export interface WriteClientOptions {
  readonly requests: Requests;
  readonly reads: Upstream;
  readonly capabilities: Capabilities;
  /** Deletes manifests where the registry itself does not. */
  readonly packages?: Packages | undefined;
}

/** Without retries: half an upload cannot be repeated; the caller has the bytes, and begins another one. */
const ONCE = 1;
/** How registries that delete by digest alone reject a tag. */
const BY_DIGEST_ALONE: readonly ErrorCode[] = ['UNSUPPORTED', 'DIGEST_INVALID', 'TAG_INVALID', 'UPSTREAM_INVALID'];
const BLOB_TYPE = 'application/octet-stream';

export class WriteClient implements UpstreamWrites {
  readonly capabilities: Capabilities;
  readonly uploads = new Permits();
  readonly #requests: Requests;
  readonly #reads: Upstream;
  readonly #packages: Packages | undefined;

  constructor({ requests, reads, capabilities, packages }: WriteClientOptions) {
    this.capabilities = capabilities;
    this.#requests = requests;
    this.#reads = reads;
    this.#packages = packages;
  }

  async holdsBlob(repository: Repository, digest: Digest): Promise<boolean> {
    const spec = { ...blobSpec('HEAD', repository, digest), access: PUSH, stopAtRedirect: true };
    try {
      await this.#send(repository, spec);
      return true;
    } catch (error) {
      // Looking into a repository that does not exist yet may be denied.
      if (isNotFound(error) || isDenied(error)) return false;
      throw error;
    }
  }

  async startUpload(repository: Repository): Promise<URL> {
    const response = await this.#send(repository, uploadSpec('POST', repository, 'blobs/uploads/'));
    return this.#locationIn(repository, response);
  }

  async streamUpload(
    repository: Repository,
    location: URL,
    bytes: Bytes,
    signal: AbortSignal,
    isSingleUse = false,
  ): Promise<URL> {
    const spec = { ...uploadSpec('PATCH', repository, location), body: bytes, signal, isSingleUse };
    const response = await this.#send(repository, spec, ONCE);
    return response.header('location') === undefined ? location : this.#locationIn(repository, response);
  }

  async finishUpload(
    repository: Repository,
    location: URL,
    digest: Digest,
    signal: AbortSignal,
    whole?: { sizeBytes: number; bytes: Bytes },
  ): Promise<void> {
    const url = Address.with(location, 'digest', digest);
    const what = imageName(repository, { digest });
    const body = whole && {
      body: whole.bytes,
      headers: { 'content-type': BLOB_TYPE, 'content-length': String(whole.sizeBytes) },
    };
    await this.#send(repository, { ...uploadSpec('PUT', repository, url), what, signal, ...body }, ONCE);
  }

  async cancelUpload(repository: Repository, location: URL): Promise<void> {
    // Registries end abandoned uploads on their own, and many know no other way.
    await this.#send(repository, uploadSpec('DELETE', repository, location), ONCE).catch(() => {});
  }

  async mountBlob(repository: Repository, digest: Digest, from: Repository): Promise<boolean> {
    const query = new URLSearchParams({ mount: digest, from: from.name });
    const access: Access = { ...PUSH, from: from.name };
    const spec = { ...uploadSpec('POST', repository, `blobs/uploads/?${query}`), access };
    const response = await this.#send(repository, spec);
    if (response.status === 201) return true;
    // An upload was opened in its place. One at an address that is not safe is left to expire.
    try {
      void this.cancelUpload(repository, this.#locationIn(repository, response));
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
    }
    return false;
  }

  async putManifest(
    repository: Repository,
    reference: Reference,
    { mediaType, bytes }: PushedManifest,
  ): Promise<PushReceipt> {
    const spec = manifestSpec('PUT', repository, reference);
    const headers = { 'content-type': mediaType };
    const body = () => bytes;
    const response = await this.#send(repository, { ...spec, headers, body, access: PUSH, notFound: 'NAME_UNKNOWN' });
    return { notedSubject: response.header('oci-subject') !== undefined };
  }

  async deleteManifest(repository: Repository, reference: Reference): Promise<'tag' | 'manifest'> {
    try {
      await this.#send(repository, { ...manifestSpec('DELETE', repository, reference), access: DELETE });
      return reference.tag === undefined ? 'manifest' : 'tag';
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      // GitHub's API asks for other rights than its registry, so a denial by the one says nothing of the other.
      if ((error.code === 'UNSUPPORTED' || isDenied(error)) && this.#packages !== undefined) {
        await this.#packages.delete(repository, reference);
        return 'manifest';
      }
      if (reference.tag === undefined || !BY_DIGEST_ALONE.includes(error.code)) throw error;
      const { clock, random } = this.#requests;
      await untag({ reads: this.#reads, writes: this, clock, random }, repository, reference.tag);
      return 'tag';
    }
  }

  async deleteBlob(repository: Repository, digest: Digest): Promise<void> {
    await this.#send(repository, { ...blobSpec('DELETE', repository, digest), access: DELETE });
  }

  /** The response, of which only the headers matter. */
  #send(repository: Repository, spec: RequestSpec, attempts?: number): Promise<UpstreamResponse> {
    return this.#requests.ask(repository, spec, discard, attempts);
  }

  #locationIn(repository: Repository, response: UpstreamResponse): URL {
    const header = response.header('location');
    const location = header ? Address.of(header, response.url) : undefined;
    if (location === undefined) {
      throw new RegistryError(
        'UPSTREAM_INVALID',
        `${repository.upstream} does not say where an upload to ${imageName(repository)} should go`,
      );
    }
    // A registry behind a proxy that ends TLS may believe that it is on plain HTTP.
    const { url } = this.#requests;
    if (location.host === url.host) location.protocol = url.protocol;
    if (location.protocol === 'https:' || location.origin === url.origin) return location;
    const where = this.#requests.clean(`${location.protocol}//${location.host}`);
    throw new RegistryError('UPSTREAM_INVALID', `${url.host} wants uploads to go to ${where}, which is not safe`);
  }
}

function uploadSpec(method: RequestSpec['method'], repository: Repository, path: string | URL): RequestSpec {
  return {
    method,
    path,
    // A request without a body says so; a stream has no length to tell.
    headers: method === 'PATCH' ? { 'content-type': BLOB_TYPE } : { 'content-length': '0' },
    access: PUSH,
    what: imageName(repository),
    notFound: path instanceof URL ? 'BLOB_UPLOAD_UNKNOWN' : 'NAME_UNKNOWN',
  };
}
