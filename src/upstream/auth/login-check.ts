// Whether a registry accepts a login, as `docker login` finds out: the challenge of GET /v2/, a token of its realm without
// any scope, and the same request with that. The login goes to the registry itself or to a trusted realm, and nowhere else.
import type { Clock } from '../../base/clock.ts';
import type { Login } from '../../credentials/credential.ts';
import { type ErrorResponse, isDenial, readErrorResponse, toError } from '../error-response.ts';
import type { Dialer } from '../transport/dialer.ts';
import { discard } from '../transport/response.ts';
import { parseChallenge, trustedRealm } from './challenge.ts';
import type { Mask } from './mask.ts';
import { requestToken } from './token-endpoint.ts';

export interface LoginCheckOptions {
  readonly url: URL;
  /** As of GrantsOptions. */
  readonly realms: readonly string[];
  readonly dialer: Dialer;
  readonly clock: Clock;
  readonly mask: Mask;
}

/** `unasked`: the registry asks nobody for a login, so that it says nothing of this one. */
export type LoginCheck =
  | { readonly verdict: 'accepted' | 'unasked' }
  | { readonly verdict: 'denied'; readonly said: string };

/** Throws as an upstream does when the registry or its realm fails, and UPSTREAM_INVALID where the realm is not trusted. */
export async function checkLogin(options: LoginCheckOptions, { username, secret }: Login): Promise<LoginCheck> {
  const { dialer, url, mask } = options;
  const basic = Buffer.from(`${username}:${secret}`).toString('base64');
  mask.add(secret, basic);
  const ping = (authorization?: string) =>
    dialer.dial({ method: 'GET', url: new URL('/v2/', url), headers: authorization ? { authorization } : {} });
  const asked = await ping();
  const challenge = parseChallenge(asked.header('www-authenticate'));
  if (challenge === undefined && asked.status >= 300) {
    return ended(options, await readErrorResponse(asked, options.clock.now(), mask));
  }
  await discard(asked);
  if (challenge === undefined) return { verdict: 'unasked' };
  let authorization = `Basic ${basic}`;
  if (challenge.scheme === 'bearer') {
    const realm = trustedRealm(challenge.realm, url, options.realms);
    const { service } = challenge;
    const subject = { repository: '', image: '' };
    const result = await requestToken(options, { realm, service, scopes: [], authorization, subject });
    if ('error' in result) return ended(options, result.error);
    authorization = `Bearer ${result.token.value}`;
  }
  const answered = await ping(authorization);
  if (answered.status < 300) {
    await discard(answered);
    return { verdict: 'accepted' };
  }
  return ended(options, await readErrorResponse(answered, options.clock.now(), mask));
}

/** A denial; throws what else an error response means. */
function ended({ url }: LoginCheckOptions, error: ErrorResponse): LoginCheck {
  const { status, message } = error;
  if (isDenial(error)) return { verdict: 'denied', said: message === '' ? `${status}` : `${status} "${message}"` };
  throw toError(error, `${url.host}/v2/`, 'NAME_UNKNOWN');
}
