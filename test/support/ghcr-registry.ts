// The registry itself, ghcr.io: /token and the reading half of /v2/. Each request is routed first, so that
// faults and the log know what it is; then authorized; then answered from the packages.
import { randomUUID } from 'node:crypto';
import { parseDigest } from '../../src/oci/digest.ts';
import { isName } from '../../src/oci/reference.ts';
import { type Auth, requestedScopes } from './ghcr-auth.ts';
import type { BlobHost } from './ghcr-blobhost.ts';
import { type Answer, answers, errorAnswer } from './ghcr-faults.ts';
import { decodedPath, type Route } from './ghcr-log.ts';
import type { Package, Packages } from './ghcr-packages.ts';
import { contentReply, type Exchange, type Reply, replyOf } from './ghcr-send.ts';
import type { Switches } from './ghcr-switches.ts';
import { type Content, type Manifest, sourceOf } from './images.ts';

export interface RegistryParts {
  readonly packages: Packages;
  readonly switches: Switches;
  readonly auth: Auth;
  readonly blobHost: BlobHost;
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

  answer(exchange: Exchange): Reply {
    const reply = this.#answer(exchange);
    const headers: Record<string, string> = { 'x-github-request-id': randomUUID().toUpperCase() };
    if (exchange.record.path.startsWith('/v2')) headers['docker-distribution-api-version'] = 'registry/2.0';
    return { ...reply, headers: { ...headers, ...reply.headers } };
  }

  #answer(exchange: Exchange): Reply {
    const { auth, packages, blobHost } = this.#parts;
    const { request, url, record } = exchange;
    const { endpoint, repository } = record;
    if (endpoint === 'token') return replyOf(auth.token(request, url));
    if (endpoint === 'blobhost' || endpoint === 'hop') return blobHost.answer(exchange);
    if (endpoint === 'other' || endpoint === 'page') {
      return { status: 404, headers: { 'content-type': 'text/plain' } };
    }
    if (repository !== undefined && !isName(repository)) {
      return replyOf(errorAnswer(404, 'NAME_INVALID', 'invalid repository name'));
    }
    const refusal = auth.refuse(request, this.#parts.origin(), repository);
    if (refusal) return replyOf(refusal);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return replyOf(errorAnswer(405, 'UNSUPPORTED', 'The operation is unsupported.'));
    }

    if (endpoint === 'ping') return replyOf({ status: 200, body: {} });
    if (repository === undefined) return replyOf(answers.denied);
    const found = packages.get(repository);
    if (endpoint === 'manifest') return this.#manifest(exchange, found);
    if (endpoint === 'blob') return this.#blob(exchange, found);
    if (endpoint === 'tags') return this.#tags(exchange, found);
    return this.#referrers(exchange);
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
    if (!parseDigest(wanted)) return replyOf(errorAnswer(400, 'DIGEST_INVALID', 'invalid digest'));
    const blob = found?.blobs.get(wanted);
    if (!blob) return replyOf(errorAnswer(404, 'BLOB_UNKNOWN', 'blob unknown to registry'));

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

  /** Pages in the order in which tags were made. `n=0` means the default size, and ghcr's own Link says so. */
  #tags({ url, record }: Exchange, found: Package | undefined): Reply {
    if (!found) return replyOf(errorAnswer(404, 'NAME_UNKNOWN', 'repository name not known to registry'));
    const asked = Number(url.searchParams.get('n') ?? 0);
    const size = asked > 0 ? asked : this.#parts.switches.tagsPageSize;
    const tags = [...found.tags.keys()];
    const start = tags.indexOf(url.searchParams.get('last') ?? '') + 1;
    const page = tags.slice(start, start + size);

    const query = new URLSearchParams({ last: page.at(-1) ?? '', n: String(asked) });
    const link = `</v2/${record.repository}/tags/list?${query}>; rel="next"`;
    return replyOf({
      status: 200,
      headers: start + size < tags.length ? { link } : {},
      body: { name: record.repository, tags: page },
    });
  }

  #referrers({ record }: Exchange): Reply {
    if (this.#parts.switches.referrers === 'not-found') return replyOf(answers.manifestUnknown);
    const page = `${this.#parts.blobOrigin()}/page/${record.repository}`;
    return { status: 303, headers: { location: page } };
  }
}

/** ghcr.io's words for a manifest whose type Accept does not name; for Docker's types they are a guess. */
function notAccepted({ mediaType }: Manifest): Answer {
  const kind = mediaType.includes('.oci.') ? 'OCI' : 'Docker';
  const noun = mediaType.includes('.index.') || mediaType.includes('.list.') ? 'index' : 'manifest';
  const plural = noun === 'index' ? 'indexes' : 'manifests';
  const message = `${kind} ${noun} found, but Accept header does not support ${kind} ${plural}`;
  return errorAnswer(404, 'MANIFEST_UNKNOWN', message);
}
