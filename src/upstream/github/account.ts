// What GitHub's API tells of a token: whose it is, what it may do, and when it ends.
// https://docs.github.com/en/rest/users/users#get-the-authenticated-user
import { RegistryError } from '../../oci/errors.ts';
import type { Mask } from '../auth/mask.ts';
import type { Dialer } from '../transport/dialer.ts';
import { membersOf, readAll } from '../transport/response.ts';

export interface Account {
  /** Undefined of a token that is no user's, as an installation's. */
  readonly user: string | undefined;
  /** Undefined of tokens that have none. */
  readonly scopes: readonly string[] | undefined;
  /** When it ends; undefined when it does not, or is not told. */
  readonly expiresAt: Date | undefined;
}

export interface AccountOptions {
  /** `https://api.github.com` */
  readonly api: URL;
  readonly dialer: Dialer;
  readonly mask: Mask;
}

const BODY_LIMIT_BYTES = 128 * 1024;
const TEXT_LIMIT = 100;
const SCOPES_LIMIT = 50;

/**
 * What is told of the token; undefined when GitHub does not know it. Throws UPSTREAM_INVALID for an answer that cannot be
 * GitHub's, and as Dialer.dial does when there is none.
 */
export async function accountOf({ api, dialer, mask }: AccountOptions, secret: string): Promise<Account | undefined> {
  mask.add(secret);
  const url = new URL(`${api.pathname.replace(/\/$/, '')}/user`, api);
  const headers = {
    authorization: `Bearer ${secret}`,
    accept: 'application/vnd.github+json',
    'x-github-api-version': '2022-11-28',
  };
  // Pulls do not need the API: that it cannot be reached is nothing to be told.
  const response = await dialer.dial({ method: 'GET', url, headers, isSpare: true });
  const body = await readAll(response, BODY_LIMIT_BYTES).catch(() => undefined);
  const { status } = response;
  if (status === 401) return undefined;
  // A token without a user is forbidden to ask for one.
  if (status !== 200 && status !== 403) {
    throw new RegistryError('UPSTREAM_INVALID', `${url.host} answers a question about the token with ${status}`);
  }
  const { login } = status === 200 ? membersOf(body) : {};
  const scopes = response.header('x-oauth-scopes');
  return {
    user: typeof login === 'string' ? mask.clean(login, TEXT_LIMIT) : undefined,
    scopes: scopes
      ?.split(',')
      .slice(0, SCOPES_LIMIT)
      .map(scope => mask.clean(scope, TEXT_LIMIT))
      .filter(Boolean),
    expiresAt: dateIn(response.header('github-authentication-token-expiration')),
  };
}

/** As GitHub writes it: `2027-10-12 09:00:00 UTC`, or with an offset in place of the name. */
function dateIn(header: string | undefined): Date | undefined {
  const [, day, time, zone] = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) (UTC|[+-]\d{4})$/.exec(header ?? '') ?? [];
  if (day === undefined) return undefined;
  const date = new Date(`${day}T${time}${zone === 'UTC' ? 'Z' : zone}`);
  return Number.isNaN(date.getTime()) ? undefined : date;
}
