// Following redirects of a registry to the hosts that hold its blobs. Our Authorization never goes across a
// redirect, not even within a host, where a signed address may refuse it; a redirect never leads from https
// to http; a chain has an end.
import { RegistryError } from '../../oci/errors.ts';
import { type Answer, type Dialer, type DialRequest, discard } from './dialer.ts';

const REDIRECTS_LIMIT = 5;
const STATUSES = new Set([301, 302, 303, 307, 308]);

/** Dials, and dials on while the answer is a redirect. Throws UPSTREAM_INVALID for one not to be followed. */
export async function dialFollowing(dialer: Dialer, request: DialRequest): Promise<Answer> {
  let { url, headers } = request;
  for (let redirects = 0; ; redirects++) {
    const answer = await dialer.dial({ ...request, url, headers });
    if (!STATUSES.has(answer.status)) return answer;
    const location = answer.header('location');
    await discard(answer);
    if (redirects === REDIRECTS_LIMIT)
      throw refused(request.url, `redirects more than ${REDIRECTS_LIMIT} times`);
    const next = location && URL.parse(location, url.href);
    if (!next) throw refused(request.url, 'redirects to no valid address');
    if (next.protocol !== 'https:' && next.protocol !== url.protocol) {
      throw refused(
        request.url,
        `redirects from ${url.protocol}// to ${next.protocol}//${next.host}, which is not safe`,
      );
    }
    headers = withoutAuthorization(headers);
    url = next;
  }
}

/** Whether the answer sends the asker elsewhere: for a blob, that says it is there. */
export function isRedirect(answer: Answer): boolean {
  return STATUSES.has(answer.status);
}

function withoutAuthorization(headers: DialRequest['headers']): Record<string, string> {
  const { authorization: _, ...others } = headers;
  return others;
}

function refused(url: URL, what: string): RegistryError {
  return new RegistryError('UPSTREAM_INVALID', `${url.host} ${what}`);
}
