// One request and its response, as the sites of the fake ghcr.io see them. A site looks at an Exchange and returns a
// Reply; it never touches a socket. What a fault does to either is none of its business.
import type { Span } from '../../../src/base/spans.ts';
import { parseRange } from '../../../src/oci/range.ts';
import type { Source } from '../images.ts';
import type { Answer } from './faults.ts';
import type { Route } from './log.ts';
import type { Arrival, RequestBody } from './receive.ts';
import type { Switches } from './switches.ts';

export interface Exchange extends Arrival {
  readonly body: RequestBody;
}

export interface Reply extends Answer {
  /** The body, in place of `body`, when it may be large. */
  content?: Source;
  /** The part of the content to send. Default: all of it. */
  span?: Span;
}

/** What answers at one origin: the registry, the blob host, or GitHub's package API. */
export interface Site {
  route(url: URL): Route;
  answer(exchange: Exchange): Reply | Promise<Reply>;
}

/** Content, or the single range of it that a GET asks for. Several ranges get all of it. */
export function contentReply({ request, fault }: Exchange, content: Source, headers: Record<string, string>): Reply {
  const { sizeBytes } = content;
  const ifRange = request.headers['if-range'];
  const ignored =
    request.method !== 'GET' || fault?.action.ignoreRange || (ifRange !== undefined && ifRange !== headers.etag);
  const spans = ignored ? undefined : parseRange(request.headers.range, sizeBytes);
  if (spans?.length === 0) return { status: 416, headers: { 'content-range': `bytes */${sizeBytes}` } };
  const [span] = spans ?? [];
  if (span === undefined || spans?.length !== 1) return { status: 200, headers, content };

  const sentSpan = { ...span, end: span.end - (fault?.action.short ?? 0) };
  const contentRange =
    fault?.action.contentRange?.(sentSpan, sizeBytes) ?? `bytes ${sentSpan.start}-${sentSpan.end - 1}/${sizeBytes}`;
  return { status: 206, headers: { ...headers, 'content-range': contentRange }, content, span };
}

/** The headers by which clients recognize content, unless the switches leave them out. */
export function validatorsOf(digest: string, { omitDigest, omitEtag }: Switches): Record<string, string> {
  return {
    ...(omitDigest ? {} : { 'docker-content-digest': digest }),
    ...(omitEtag ? {} : { etag: `"${digest}"` }),
  };
}
