// Reads from an upstream over HTTP: which requests there are, and what their responses say.
import { type Digest, parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { MANIFEST_LIMIT_BYTES, MANIFEST_TYPES, mediaTypeOf } from '../oci/manifest.ts';
import { parseContentRange } from '../oci/range.ts';
import { readTags } from '../oci/reading.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import { INDEX_TYPE, indexEntries } from '../oci/referrers.ts';
import { invalid, readPages } from './pages.ts';
import { Permits } from './permits.ts';
import { blobSpec, manifestSpec, type RequestSpec, type Requests } from './requests.ts';
import { SpareConnections } from './spare-connections.ts';
import { isRedirect } from './transport/redirect.ts';
import { discard, readAll, type UpstreamResponse } from './transport/response.ts';
import {
  type BlobBody,
  type Capabilities,
  isNotFound,
  type OpenOptions,
  type Upstream,
  type UpstreamManifest,
} from './upstream.ts';

const ACCEPT = { accept: MANIFEST_TYPES.join(', ') };
const TAGS_PER_PAGE = 1000;
const TAG_PAGE_LIMIT_BYTES = 8 * 1024 * 1024;
const CONTENT_TYPE_LIMIT = 100;

export class UpstreamClient implements Upstream {
  readonly name: string;
  readonly offline: boolean;
  readonly downloads = new Permits();
  readonly spares: SpareConnections;
  readonly #requests: Requests;
  readonly #capabilities: Capabilities;

  /** `parallel`: how many connections one large blob may have. */
  constructor(requests: Requests, capabilities: Capabilities, parallel: number) {
    this.name = requests.name;
    this.offline = requests.offline;
    this.#requests = requests;
    this.#capabilities = capabilities;
    this.spares = new SpareConnections({
      clock: requests.clock,
      perBlob: parallel - 1,
      isContended: () => this.downloads.isContended,
    });
  }

  async getManifest(repository: Repository, reference: Reference): Promise<UpstreamManifest> {
    const spec = { ...manifestSpec('GET', repository, reference), headers: ACCEPT };
    return this.#requests.ask(repository, spec, response => this.#readManifest(response, spec.what));
  }

  async getIfChanged(repository: Repository, tag: string, known: Digest): Promise<UpstreamManifest | undefined> {
    if (this.#capabilities.countsManifestGets && (await this.#pointsTo(repository, tag, known))) return undefined;
    const spec = manifestSpec('GET', repository, { tag });
    // GET, not HEAD: a response to HEAD has no body, which is where ghcr.io says that it is a rate limit and for how
    // long. Where If-None-Match is not honoured a manifest comes that is already here: a few KiB.
    const headers = { ...ACCEPT, 'if-none-match': `"${known}"` };
    return this.#requests.ask(repository, { ...spec, headers }, async response => {
      if (response.status !== 304 && digestHeader(response) !== known) return this.#readManifest(response, spec.what);
      await discard(response);
      return undefined;
    });
  }

  async confirmManifest(repository: Repository, digest: Digest): Promise<void> {
    const spec = { ...manifestSpec('HEAD', repository, { digest }), headers: ACCEPT };
    await this.#requests.ask(repository, spec, discard);
  }

  async statBlob(repository: Repository, digest: Digest): Promise<number> {
    const spec = blobSpec('HEAD', repository, digest);
    const head = await this.#requests.ask(repository, { ...spec, stopAtRedirect: true }, discard);
    const sizeBytes = isRedirect(head) ? undefined : lengthOf(head);
    if (sizeBytes !== undefined) return sizeBytes;
    // A signed address is often good for GET alone; the response to a range of one byte names the size.
    const headers = { range: 'bytes=0-0' };
    const probe = await this.#requests.ask(repository, { ...spec, method: 'GET', headers }, discard);
    const probed = probe.status === 206 ? parseContentRange(probe.header('content-range'))?.size : lengthOf(probe);
    if (probed === undefined) throw invalid(spec.what, 'it does not tell the size');
    return probed;
  }

  async confirmBlob(repository: Repository, digest: Digest): Promise<void> {
    const spec = { ...blobSpec('HEAD', repository, digest), stopAtRedirect: true };
    await this.#requests.ask(repository, spec, discard).catch(async error => {
      if (!isNotFound(error)) throw error;
      // Some answer so to HEAD alone. One byte is enough to know.
      const headers = { range: 'bytes=0-0' };
      await this.#requests.ask(repository, { ...spec, method: 'GET', headers }, discard);
    });
  }

  async openBlob(
    repository: Repository,
    digest: Digest,
    { start, end, address, isSpare }: OpenOptions,
    signal: AbortSignal,
  ): Promise<BlobBody> {
    const spec = { ...blobSpec('GET', repository, digest), isBlob: true };
    const isResumed = start > 0;
    const isWhole = !isResumed && end === undefined;
    const headers: Record<string, string> = isWhole
      ? {}
      : { range: `bytes=${start}-${end === undefined ? '' : end - 1}` };
    return this.#requests.ask(repository, { ...spec, headers, signal, isResumed, isSpare, address }, response => {
      const { body, url } = response;
      const blob: Omit<BlobBody, 'sizeBytes' | 'start'> = {
        address: url.origin === this.#requests.url.origin ? undefined : url,
        contentType: this.#contentTypeOf(response),
        read: async onChunk => this.#requests.cleanError(await body.read(onChunk)),
        close: () => body.abandon(),
      };
      if (response.status !== 206) return { ...blob, isRange: false, sizeBytes: lengthOf(response), start: 0 };
      const range = parseContentRange(response.header('content-range'));
      const wantedEnd = end ?? range?.size;
      const isToWantedEnd = range?.end === (wantedEnd ?? range?.end) || range?.end === range?.size;
      if (range?.start !== start || !isToWantedEnd) {
        body.abandon();
        throw invalid(spec.what, `bytes from ${start} were asked for and others came`);
      }
      return { ...blob, sizeBytes: range.size, start, end: range.end };
    });
  }

  async listTags(repository: Repository): Promise<string[]> {
    const what = imageName(repository);
    const list = { repository, path: 'tags/list', query: `?n=${TAGS_PER_PAGE}`, what: `the tags of ${what}` };
    const tags = await readPages(list, async (path, room) => {
      const spec: RequestSpec = { method: 'GET', path, what, notFound: 'NAME_UNKNOWN' };
      return this.#requests.ask(repository, spec, async response => {
        const body = await readAll(response, TAG_PAGE_LIMIT_BYTES, room);
        const entries = body && (await readTags(body));
        if (entries === undefined) throw invalid(list.what, 'it is not a list of tags');
        return { response, body, entries };
      });
    });
    return this.#requests.hideAll(tags ?? []);
  }

  async listReferrers(repository: Repository, digest: Digest): Promise<readonly unknown[] | undefined> {
    const what = `the referrers of ${imageName(repository, { digest })}`;
    const list = { repository, path: `referrers/${digest}`, query: '', what };
    return readPages(list, async (path, room, isFirst) => {
      // ghcr.io redirects to a web page: an upstream that does not return an index directly lacks this API.
      const spec: RequestSpec = { method: 'GET', path, what, notFound: 'MANIFEST_UNKNOWN', stopAtRedirect: true };
      const readBody = async (response: UpstreamResponse) => {
        const isIndex = mediaTypeOf(response.header('content-type')) === INDEX_TYPE;
        if (isIndex) return { response, body: await readAll(response, MANIFEST_LIMIT_BYTES, room) };
        await discard(response);
      };
      const found = await this.#requests.ask(repository, spec, readBody).catch(error => {
        if (!isFirst || !lacksReferrers(error)) throw error;
      });
      if (found === undefined) return undefined;
      const entries = indexEntries(found.body);
      if (entries === undefined) throw invalid(what, 'it is not an image index');
      return { ...found, entries };
    });
  }

  identity(repository: Repository): Promise<string> {
    return this.#requests.identity(repository);
  }

  /** Whether HEAD tells that the tag points to this manifest still. */
  async #pointsTo(repository: Repository, tag: string, known: Digest): Promise<boolean> {
    const spec = { ...manifestSpec('HEAD', repository, { tag }), headers: ACCEPT };
    try {
      return digestHeader(await this.#requests.ask(repository, spec, discard)) === known;
    } catch (error) {
      // What a GET says counts.
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  async #readManifest(response: UpstreamResponse, what: string): Promise<UpstreamManifest> {
    const bytes = await readAll(response, MANIFEST_LIMIT_BYTES);
    if (bytes === undefined) {
      throw invalid(what, `it is larger than ${MANIFEST_LIMIT_BYTES / 1024 / 1024} MiB, the most that is taken`);
    }
    return { bytes, contentType: this.#contentTypeOf(response), digest: digestHeader(response) };
  }

  #contentTypeOf(response: UpstreamResponse): string | undefined {
    const type = response.header('content-type');
    return type && this.#requests.clean(type, CONTENT_TYPE_LIMIT);
  }
}

function digestHeader(response: UpstreamResponse): Digest | undefined {
  return parseDigest(response.header('docker-content-digest') ?? '');
}

function lengthOf(response: UpstreamResponse): number | undefined {
  const header = response.header('content-length');
  return header !== undefined && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

/** An upstream that has the API never answers 404; 405 and the like come from one that does not know the path. */
function lacksReferrers(error: unknown): boolean {
  return (
    isNotFound(error) || (error instanceof RegistryError && ['UNSUPPORTED', 'UPSTREAM_INVALID'].includes(error.code))
  );
}
