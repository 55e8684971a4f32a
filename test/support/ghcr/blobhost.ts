// The blob host, in place of pkg-containers.githubusercontent.com: blobs under signed URLs that expire. The real one is
// Azure storage, so errors are XML, several ranges are an error, and so is an Authorization header.
import { createHmac, randomBytes } from 'node:crypto';
import { contentReply, type Exchange, type Reply, type Site } from './exchange.ts';
import { type Answer, xmlAnswer } from './faults.ts';
import { decodedPath, type Route } from './log.ts';
import type { State } from './state.ts';

export class BlobHost implements Site {
  readonly #state: State;
  readonly #key = randomBytes(32);

  constructor(state: State) {
    this.#state = state;
  }

  /** A URL that serves the blob until it expires, behind as many more redirects as the switches say. */
  signedUrl(repository: string, digest: string): string {
    const { now, switches, originOf } = this.#state;
    const expiry = new Date(now() + switches.signedUrlTtlMs).toISOString();
    const query = new URLSearchParams({ se: expiry, repository });
    query.set('sig', this.#sign(digest, query));
    const path = `/ghcr1/blobs/${digest}?${query}`;
    const hops = switches.redirectHops;
    return originOf('blobhost') + (hops > 0 ? `/hop/${hops}${path}` : path);
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
    if (record.endpoint === 'other') return xmlAnswer(404, 'ResourceNotFound', 'No such resource.');
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return xmlAnswer(405, 'UnsupportedHttpVerb', 'The resource does not support the method.');
    }
    const error = this.#check(exchange);
    if (error) return error;

    const { repository = '', digest = '' } = record;
    const { lags, packages } = this.#state;
    const blob = lags.seen('blob', packages.get(repository), digest);
    if (!blob) return xmlAnswer(404, 'BlobNotFound', 'The specified blob does not exist.');
    const reply = contentReply(exchange, blob, {
      'content-type': 'application/octet-stream',
      'accept-ranges': 'bytes',
      etag: `"0x${digest.slice(-15).toUpperCase()}"`,
    });
    if (reply.status !== 416) return reply;
    const invalid = xmlAnswer(416, 'InvalidRange', 'The range specified is invalid.');
    return { ...invalid, headers: { ...invalid.headers, ...reply.headers } };
  }

  /** The error for a request whose signature, headers or range are not accepted. */
  #check({ record, request, url }: Exchange): Answer | undefined {
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
    if (!valid || !(this.#state.now() < expiresAt)) {
      return xmlAnswer(403, 'AuthenticationFailed', 'Signature not valid in the specified time frame.');
    }
    if (record.range?.includes(',') && this.#state.switches.severalRanges === 501) {
      return xmlAnswer(501, 'UnsupportedHeader', 'One of the headers specified is not supported.');
    }
    return undefined;
  }

  #hop(url: URL): Reply {
    const [, count = '', rest = ''] = /^\/hop\/(\w+)(\/.*)$/.exec(url.pathname) ?? [];
    const left = Number(count) - 1;
    return {
      status: this.#state.switches.redirectStatus,
      headers: { location: (left > 0 ? `/hop/${left}${rest}` : rest) + url.search },
    };
  }
}

const NO_PAGE: Answer = {
  status: 404,
  headers: { 'content-type': 'text/html; charset=utf-8' },
  body: '<!DOCTYPE html><title>Page not found</title>\n',
};
