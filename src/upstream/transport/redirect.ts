// Follows a registry's redirects to the hosts that hold its blobs. Our Authorization never goes across a redirect, not
// even within a host, where a signed address may not work with it; no redirect leads from https to http; chains end.
import { RegistryError } from '../../oci/errors.ts';
import { Address } from './address.ts';
import type { Dialer, DialRequest } from './dialer.ts';
import { discard, type UpstreamResponse } from './response.ts';

const REDIRECTS_LIMIT = 5;
const STATUSES: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** The first response that is not a redirect. Throws UPSTREAM_INVALID for a redirect that must not be followed. */
export async function dialFollowing(dialer: Pick<Dialer, 'dial'>, request: DialRequest): Promise<UpstreamResponse> {
  let { url, headers } = request;
  for (let redirects = 0; ; redirects++) {
    const response = await dialer.dial({ ...request, url, headers });
    if (!isRedirect(response)) return response;
    const location = response.header('location');
    await discard(response);
    if (redirects === REDIRECTS_LIMIT) throw invalid(request.url, `redirects more than ${REDIRECTS_LIMIT} times`);
    const next = location && Address.of(location, url);
    if (!next) throw invalid(request.url, 'redirects to no valid address');
    if (next.protocol !== 'https:' && next.protocol !== url.protocol) {
      const way = `from ${url.protocol}// to ${next.protocol}//${next.host}`;
      throw invalid(request.url, `redirects ${way}, which is not safe`);
    }
    const { authorization: _, ...others } = headers;
    headers = others;
    url = next;
  }
}

export function isRedirect({ status }: UpstreamResponse): boolean {
  return STATUSES.has(status);
}

function invalid(url: URL, what: string): RegistryError {
  return new RegistryError('UPSTREAM_INVALID', `${url.host} ${what}`);
}
