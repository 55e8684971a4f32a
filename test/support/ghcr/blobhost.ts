// The second host, pkg-containers.githubusercontent.com: blobs under signed URLs that expire. It is Azure's
// storage, so its errors are XML, it takes one range at most, and it refuses our Authorization header.
import { createHmac, randomBytes } from 'node:crypto';
import { type Answer, xmlAnswer } from './faults.ts';
import { decodedPath, type Route } from './log.ts';
import type { Packages } from './packages.ts';
import { contentReply, type Exchange, type Reply, replyOf } from './send.ts';
import type { Switches } from './switches.ts';

export class BlobHost {
  readonly #packages: Packages;
  readonly #switches: Switches;
  readonly #now: () => number;
  readonly #key = randomBytes(32);

  constructor(packages: Packages, switches: Switches, now: () => number) {
    this.#packages = packages;
    this.#switches = switches;
    this.#now = now;
  }

  /** A URL that reads the blob for a while, behind as many further redirects as the switches ask for. */
  signedUrl(origin: string, repository: string, digest: string): string {
    const expiry = new Date(this.#now() + this.#switches.signedUrlTtlMs).toISOString();
    const query = new URLSearchParams({ se: expiry, repository });
    query.set('sig', this.#sign(digest, query));
    const path = `/ghcr1/blobs/${digest}?${query}`;
    const hops = this.#switches.redirectHops;
    return origin + (hops > 0 ? `/hop/${hops}${path}` : path);
  }

  #sign(digest: string, query: URLSearchParams): string {
    const text = [digest, query.get('se'), query.get('repository')].join('\n');
    return createHmac('sha256', this.#key).update(text).digest('base64');
  }

  route(url: URL): Route {
    const [, hop, digest] = /^(\/hop\/\w+)?\/ghcr1\/blobs\/([^/]+)$/.exec(decodedPath(url)) ?? [];
    if (digest === undefined) return { endpoint: url.pathname.startsWith('/page/') ? 'page' : 'other' };
    return {
      endpoint: hop === undefined ? 'blobhost' : 'hop',
      digest,
      repository: url.searchParams.get('repository') ?? undefined,
    };
  }

  answer(exchange: Exchange): Reply {
    const { record, request, url } = exchange;
    if (record.endpoint === 'page') return NO_PAGE;
    if (record.endpoint === 'hop') return this.#hop(url);
    if (record.endpoint === 'other') return replyOf(xmlAnswer(404, 'ResourceNotFound', 'No such resource.'));
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return replyOf(xmlAnswer(405, 'UnsupportedHttpVerb', 'The resource does not support the method.'));
    }
    const refusal = this.#refuse(exchange);
    if (refusal) return replyOf(refusal);

    const { repository = '', digest = '' } = record;
    const blob = this.#packages.get(repository)?.blobs.get(digest);
    if (!blob) return replyOf(xmlAnswer(404, 'BlobNotFound', 'The specified blob does not exist.'));
    const reply = contentReply(exchange, blob, {
      'content-type': 'application/octet-stream',
      'accept-ranges': 'bytes',
      etag: `"0x${digest.slice(-15).toUpperCase()}"`,
    });
    if (reply.status !== 416) return reply;
    const invalid = replyOf(xmlAnswer(416, 'InvalidRange', 'The range specified is invalid.'));
    return { ...invalid, headers: { ...invalid.headers, ...reply.headers } };
  }

  #refuse({ record, request, url }: Exchange): Answer | undefined {
    if (request.headers.authorization !== undefined) {
      return xmlAnswer(
        400,
        'InvalidAuthenticationInfo',
        'Authentication information is not given in the correct format. Check the value of Authorization header.',
      );
    }
    const { searchParams } = url;
    const expiresAt = Date.parse(searchParams.get('se') ?? '');
    const valid = searchParams.get('sig') === this.#sign(record.digest ?? '', searchParams);
    if (!valid || !(this.#now() < expiresAt)) {
      return xmlAnswer(403, 'AuthenticationFailed', 'Signature not valid in the specified time frame.');
    }
    if (record.range?.includes(',') && this.#switches.severalRanges === 501) {
      return xmlAnswer(501, 'UnsupportedHeader', 'One of the headers specified is not supported.');
    }
    return undefined;
  }

  #hop(url: URL): Reply {
    const [, count = '', rest = ''] = /^\/hop\/(\w+)(\/.*)$/.exec(url.pathname) ?? [];
    const left = Number(count) - 1;
    return {
      status: this.#switches.redirectStatus,
      headers: { location: (left > 0 ? `/hop/${left}${rest}` : rest) + url.search },
    };
  }
}

const NO_PAGE = replyOf({
  status: 404,
  headers: { 'content-type': 'text/html; charset=utf-8' },
  body: '<!DOCTYPE html><title>Page not found</title>\n',
});
