// The registry itself, ghcr.io: /token and /v2/. Each request is routed first, so that faults and the log
// know what it is; then authorized; then answered from the packages, what writes by the parts for that.
import { randomUUID } from 'node:crypto';
import { parseDigest } from '../../../src/oci/digest.ts';
import { isName } from '../../../src/oci/reference.ts';
import { type Content, sourceOf } from '../images.ts';
import { type Auth, requestedScopes } from './auth.ts';
import type { BlobHost } from './blobhost.ts';
import { type Answer, answers, errorAnswer } from './faults.ts';
import { decodedPath, type Route } from './log.ts';
import { type ManifestWrites, referrersReply } from './manifests.ts';
import type { Package, Packages, Version } from './packages.ts';
import { contentReply, type Exchange, type Reply, replyOf } from './send.ts';
import type { Switches } from './switches.ts';
import type { Uploads } from './uploads.ts';

export interface RegistryParts {
  readonly packages: Packages;
  readonly switches: Switches;
  readonly auth: Auth;
  readonly blobHost: BlobHost;
  readonly uploads: Uploads;
  readonly manifestWrites: ManifestWrites;
  /** The origins as clients see them. */
  readonly origin: () => string;
  readonly blobOrigin: () => string;
}

export class Registry {
  readonly #parts: RegistryParts;

  constructor(parts: RegistryParts) {
    this.#parts = parts;
  }

  route(url: URL): Route {
    const path = decodedPath(url);
    if (path === '/v2/' || path === '/v2') return { endpoint: 'ping' };
    if (path === '/v2/_catalog') return { endpoint: 'catalog' };
    if (path === '/token') return { endpoint: 'token', repository: requestedScopes(url)[0]?.repository };

    const [, target, uploads, upload] = /^\/v2\/(.+)\/blobs\/(uploads\/?|upload\/([^/]+))$/.exec(path) ?? [];
    if (uploads !== undefined) {
      const named = url.searchParams.get(upload === undefined ? 'mount' : 'digest') ?? undefined;
      return {
        endpoint: upload === undefined ? 'upload-start' : 'upload',
        repository: target,
        upload,
        digest: named,
      };
    }
    const [, repository, noun, last = ''] =
      /^\/v2\/(.+)\/(manifests|blobs|referrers|tags)\/([^/]+)$/.exec(path) ?? [];
    const digest = parseDigest(last);
    if (noun === 'manifests') return { endpoint: 'manifest', repository, reference: last, digest };
    if (noun === 'blobs') return { endpoint: 'blob', repository, digest: last };
    if (noun === 'referrers') return { endpoint: 'referrers', repository, digest: last };
    if (noun === 'tags' && last === 'list') return { endpoint: 'tags', repository };
    // A relative redirect to a signed URL ends here.
    return this.#parts.blobHost.route(url);
  }

  async answer(exchange: Exchange): Promise<Reply> {
    const reply = await this.#answer(exchange);
    const headers: Record<string, string> = { 'x-github-request-id': randomUUID().toUpperCase() };
    if (exchange.record.path.startsWith('/v2')) headers['docker-distribution-api-version'] = 'registry/2.0';
    return { ...reply, headers: { ...headers, ...reply.headers } };
  }

  #answer(exchange: Exchange): Reply | Promise<Reply> {
    const { auth, packages, blobHost, uploads, manifestWrites, switches } = this.#parts;
    const { request, url, record } = exchange;
    const { endpoint, repository, method } = record;
    if (endpoint === 'token') return replyOf(auth.token(request, url));
    if (endpoint === 'blobhost' || endpoint === 'hop') return blobHost.answer(exchange);
    if (endpoint === 'other' || endpoint === 'page') {
      return { status: 404, headers: { 'content-type': 'text/plain' } };
    }
    if (repository !== undefined && !isName(repository)) {
      return replyOf(errorAnswer(404, 'NAME_INVALID', 'invalid repository name'));
    }
    const refusal = auth.refuse(request, this.#parts.origin(), record);
    if (refusal) return replyOf(refusal);
    if (endpoint === 'upload-start') return uploads.start(exchange);
    if (endpoint === 'upload') return uploads.answer(exchange);
    if (endpoint === 'manifest' && method === 'PUT') return manifestWrites.put(exchange);
    const found = packages.get(repository ?? '');
    if (method === 'DELETE' && switches.allowDelete) {
      if (endpoint === 'manifest') return manifestWrites.delete(exchange, found);
      if (endpoint === 'blob') return deleteBlob(exchange, found);
    }
    if (method !== 'GET' && method !== 'HEAD') return replyOf(answers.unsupported);

    if (endpoint === 'ping') return replyOf({ status: 200, body: {} });
    if (repository === undefined) return replyOf(answers.denied);
    if (endpoint === 'manifest') return this.#manifest(exchange, found);
    if (endpoint === 'blob') return this.#blob(exchange, found);
    if (endpoint === 'tags') return this.#tags(exchange, found);
    return this.#referrers(exchange, found);
  }

  #manifest(exchange: Exchange, found: Package | undefined): Reply {
    const { enforceAccept, ifNoneMatch } = this.#parts.switches;
    const { reference = '' } = exchange.record;
    const manifest = found?.manifests.get(found.tags.get(reference) ?? reference);
    if (!manifest) return replyOf(answers.manifestUnknown);
    const { accept = '', 'if-none-match': known } = exchange.request.headers;
    if (enforceAccept && !accept.includes(manifest.mediaType)) return replyOf(notAccepted(manifest));

    const headers = {
      'content-type': manifest.mediaType,
      ...this.#validators(manifest.digest),
    };
    if (ifNoneMatch && known?.includes(`"${manifest.digest}"`)) return { status: 304, headers };
    return { status: 200, headers, body: sourceOf(manifest.bytes) };
  }

  #blob(exchange: Exchange, found: Package | undefined): Reply {
    const { blobHead, redirects, redirectStatus, redirectTo } = this.#parts.switches;
    const { repository = '', digest: wanted = '' } = exchange.record;
    if (!parseDigest(wanted)) return replyOf(answers.digestInvalid);
    const blob = found?.blobs.get(wanted);
    if (!blob) return replyOf(answers.blobUnknown);

    if (!redirects) return contentReply(exchange, blob, this.#blobHeaders(blob));
    if (exchange.request.method === 'HEAD' && blobHead === 'ok') {
      return { status: 200, headers: this.#blobHeaders(blob), body: blob };
    }
    const signed = this.#parts.blobHost.signedUrl(this.#parts.blobOrigin(), repository, wanted);
    const location = redirectTo(signed);
    return { status: redirectStatus, headers: location === undefined ? {} : { location } };
  }

  #blobHeaders({ digest }: Content): Record<string, string> {
    return {
      'content-type': 'application/octet-stream',
      'accept-ranges': 'bytes',
      ...this.#validators(digest),
    };
  }

  #validators(digest: string): Record<string, string> {
    const { omitDigest, omitEtag } = this.#parts.switches;
    return {
      ...(omitDigest ? {} : { 'docker-content-digest': digest }),
      ...(omitEtag ? {} : { etag: `"${digest}"` }),
    };
  }

  /** Pages of tags. `n=0` means the default size, and ghcr's own Link says so. */
  #tags({ url, record }: Exchange, found: Package | undefined): Reply {
    if (!found) return replyOf(errorAnswer(404, 'NAME_UNKNOWN', 'repository name not known to registry'));
    const asked = Number(url.searchParams.get('n') ?? 0);
    const { tagsPageSize, tagsOrder } = this.#parts.switches;
    const size = asked > 0 ? asked : tagsPageSize;
    const last = url.searchParams.get('last') ?? '';
    const made = [...found.tags.keys()];
    const tags = tagsOrder === 'made' ? made : made.toSorted();
    const start = tagsOrder === 'made' ? tags.indexOf(last) + 1 : tags.filter(tag => tag <= last).length;
    const page = tags.slice(start, start + size);

    const query = new URLSearchParams({ last: page.at(-1) ?? '', n: String(asked) });
    const link = `</v2/${record.repository}/tags/list?${query}>; rel="next"`;
    return replyOf({
      status: 200,
      headers: start + size < tags.length ? { link } : {},
      body: { name: record.repository, tags: page },
    });
  }

  #referrers(exchange: Exchange, found: Package | undefined): Reply {
    const { referrers } = this.#parts.switches;
    if (referrers === 'supported') return referrersReply(exchange, found);
    if (referrers === 'not-found') return replyOf(answers.manifestUnknown);
    const page = `${this.#parts.blobOrigin()}/page/${exchange.record.repository}`;
    return { status: 303, headers: { location: page } };
  }
}

function deleteBlob({ record }: Exchange, found: Package | undefined): Reply {
  return found?.blobs.delete(record.digest ?? '') ? { status: 202 } : replyOf(answers.blobUnknown);
}

/** ghcr.io's words for a manifest whose type Accept does not name; for Docker's types they are a guess. */
function notAccepted({ mediaType }: Version): Answer {
  const kind = mediaType.includes('.oci.') ? 'OCI' : 'Docker';
  const noun = mediaType.includes('.index.') || mediaType.includes('.list.') ? 'index' : 'manifest';
  const plural = noun === 'index' ? 'indexes' : 'manifests';
  const message = `${kind} ${noun} found, but Accept header does not support ${kind} ${plural}`;
  return errorAnswer(404, 'MANIFEST_UNKNOWN', message);
}
