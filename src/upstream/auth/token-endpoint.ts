// One exchange with a token endpoint, by the GET variant of the Docker token specification: ghcr.io has no other.
// The realm must have been checked (challenge.ts). Redirects are not followed: there is no reason to send our credential
// elsewhere.
import type { Clock } from '../../base/clock.ts';
import { RegistryError } from '../../oci/errors.ts';
import { type ErrorResponse, readErrorResponse } from '../error-response.ts';
import type { Subject } from '../transport/circuit-breakers.ts';
import type { Dialer } from '../transport/dialer.ts';
import { membersOf, readAll, type UpstreamResponse } from '../transport/response.ts';
import type { Mask } from './mask.ts';

export interface TokenRequest {
  readonly realm: URL;
  readonly service: string | undefined;
  readonly scopes: readonly string[];
  /** Our credential as a header; undefined: anonymously. */
  readonly authorization: string | undefined;
  /** What it is for. */
  readonly subject: Subject;
}

export interface Token {
  readonly value: string;
  readonly lifetimeMs: number;
}

/** What the specification says to assume when `expires_in` is missing, as it is at ghcr.io. */
export const DEFAULT_LIFETIME_MS = 60_000;
const LONGEST_LIFETIME_MS = 3_600_000;
const BODY_LIMIT_BYTES = 128 * 1024;

/** Throws UPSTREAM_INVALID for a 200 that holds no token, and as Dialer.dial does when there is no response. */
export async function requestToken(
  { dialer, clock, mask }: { dialer: Pick<Dialer, 'dial'>; clock: Clock; mask: Mask },
  { realm, service, scopes, authorization, subject }: TokenRequest,
): Promise<{ token: Token } | { error: ErrorResponse }> {
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set('service', service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
  const response = await dialer.dial({ method: 'GET', url, headers, subject });
  if (response.status !== 200) {
    return { error: await readErrorResponse(response, clock.now(), mask) };
  }
  const token = await readToken(response);
  mask.addToken(token.value);
  return { token };
}

async function readToken(response: UpstreamResponse): Promise<Token> {
  const { token, access_token, expires_in: seconds } = membersOf(await readAll(response, BODY_LIMIT_BYTES));
  // Some servers write both, and leave one empty.
  const value = token === '' || token === undefined || token === null ? access_token : token;
  if (typeof value !== 'string' || !/^[\x21-\x7e]+$/.test(value)) {
    throw new RegistryError(
      'UPSTREAM_INVALID',
      `${response.url.host} answered our token request with something that is not a token`,
    );
  }
  const lifetimeMs = typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : DEFAULT_LIFETIME_MS;
  return { value, lifetimeMs: Math.min(lifetimeMs, LONGEST_LIFETIME_MS) };
}
