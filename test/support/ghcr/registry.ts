// The registry's site: /token and /v2/. Each request is routed first, so that faults and the log know what it is; then
// authorized; then handled by the module of its resource, tags here.
import { randomUUID } from 'node:crypto';
import { parseDigest } from '../../../src/oci/digest.ts';
import { isName } from '../../../src/oci/reference.ts';
import { type Auth, requestedScopes } from './auth.ts';
import type { BlobHost } from './blobhost.ts';
import type { Blobs } from './blobs.ts';
import type { Exchange, Reply, Site } from './exchange.ts';
import { answers, errorAnswer } from './faults.ts';
import { decodedPath, type Route } from './log.ts';
import type { Manifests } from './manifests.ts';
import type { Package } from './packages.ts';
import type { State } from './state.ts';
import type { Uploads } from './uploads.ts';

export interface RegistryParts {
  readonly auth: Auth;
  readonly blobs: Blobs;
  readonly blobHost: BlobHost;
  readonly manifests: Manifests;
  readonly uploads: Uploads;
}

export class Registry implements Site {
  readonly #state: State;
  readonly #parts: RegistryParts;

  constructor(state: State, parts: RegistryParts) {
    this.#state = state;
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
    const [, repository, noun, last = ''] = /^\/v2\/(.+)\/(manifests|blobs|referrers|tags)\/([^/]+)$/.exec(path) ?? [];
    const digest = parseDigest(last);
    if (noun === 'manifests') return { endpoint: 'manifest', repository, reference: last, digest };
    if (noun === 'blobs') return { endpoint: 'blob', repository, digest: last };
    if (noun === 'referrers') return { endpoint: 'referrers', repository, digest: last };
    if (noun === 'tags' && last === 'list') return { endpoint: 'tags', repository };
    // A relative redirect to a signed URL leads here.
    return this.#parts.blobHost.route(url);
  }

  async answer(exchange: Exchange): Promise<Reply> {
    const reply = await this.#answer(exchange);
    const headers: Record<string, string> = { 'x-github-request-id': randomUUID().toUpperCase() };
    if (exchange.record.path.startsWith('/v2')) headers['docker-distribution-api-version'] = 'registry/2.0';
    return { ...reply, headers: { ...headers, ...reply.headers } };
  }

  #answer(exchange: Exchange): Reply | Promise<Reply> {
    const { auth, blobs, blobHost, manifests, uploads } = this.#parts;
    const { packages, switches } = this.#state;
    const { request, url, record } = exchange;
    const { endpoint, repository, method } = record;
    if (endpoint === 'token') return auth.token(request, url);
    if (endpoint === 'blobhost' || endpoint === 'hop') return blobHost.answer(exchange);
    if (endpoint === 'other' || endpoint === 'page') {
      return { status: 404, headers: { 'content-type': 'text/plain' } };
    }
    if (repository !== undefined && !isName(repository)) {
      return errorAnswer(404, 'NAME_INVALID', 'invalid repository name');
    }
    const denial = auth.deny(request, record);
    if (denial) return denial;
    if (endpoint === 'upload-start') return uploads.start(exchange);
    if (endpoint === 'upload') return uploads.answer(exchange);
    if (endpoint === 'manifest' && method === 'PUT') return manifests.put(exchange);
    const found = packages.get(repository ?? '');
    if (method === 'DELETE' && switches.allowDelete) {
      if (endpoint === 'manifest') return manifests.delete(exchange, found);
      if (endpoint === 'blob') return blobs.delete(exchange, found);
    }
    if (method !== 'GET' && method !== 'HEAD') return answers.unsupported;

    if (endpoint === 'ping') return { status: 200, body: {} };
    if (repository === undefined) return answers.denied;
    if (endpoint === 'manifest') return manifests.get(exchange, found);
    if (endpoint === 'blob') return blobs.get(exchange, found);
    if (endpoint === 'tags') return this.#tags(exchange, found);
    return manifests.referrers(exchange, found);
  }

  /** Tags in pages. `n=0` means the default size, and so says ghcr.io's own Link. */
  #tags({ url, record }: Exchange, found: Package | undefined): Reply {
    if (!found) return errorAnswer(404, 'NAME_UNKNOWN', 'repository name not known to registry');
    const asked = Number(url.searchParams.get('n') ?? 0);
    const { switches, lags } = this.#state;
    const { tagsPageSize, tagsOrder } = switches;
    const size = asked > 0 ? asked : tagsPageSize;
    const last = url.searchParams.get('last') ?? '';
    const made = lags.seenTags(found);
    const tags = tagsOrder === 'made' ? made : made.toSorted();
    const start = tagsOrder === 'made' ? tags.indexOf(last) + 1 : tags.filter(tag => tag <= last).length;
    const page = tags.slice(start, start + size);

    const query = new URLSearchParams({ last: page.at(-1) ?? '', n: String(asked) });
    const link = `</v2/${record.repository}/tags/list?${query}>; rel="next"`;
    return {
      status: 200,
      headers: start + size < tags.length ? { link } : {},
      body: { name: record.repository, tags: page },
    };
  }
}
