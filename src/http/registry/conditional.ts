// Conditional requests (RFC 9110, section 13) for content, whose entity tag is its digest in quotes.
import type { Digest } from '../../oci/digest.ts';
import type { Headers } from '../body/send.ts';

export function entityTag(digest: Digest): string {
  return `"${digest}"`;
}

/** The headers of content that a digest identifies. */
export function contentHeaders(digest: Digest, mediaType: string): Headers {
  return { 'content-type': mediaType, 'docker-content-digest': digest, etag: entityTag(digest) };
}

/** Whether If-None-Match names this content, so that the client has it. */
export function isKnownToClient(ifNoneMatch: string | undefined, digest: Digest): boolean {
  if (ifNoneMatch === undefined) return false;
  return ifNoneMatch.split(',').some(item => {
    const tag = item.trim().replace(/^W\//, '');
    // Some clients send the digest without quotes.
    return tag === '*' || tag === entityTag(digest) || tag === digest;
  });
}

/** The Range header, unless If-Range makes it conditional on other content. */
export function rangeFor(range: string | undefined, ifRange: string | undefined, digest: Digest): string | undefined {
  return ifRange === undefined || ifRange.trim() === entityTag(digest) ? range : undefined;
}
