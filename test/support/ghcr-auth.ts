// Who may do what at the stand-in: the challenge, the /token realm and the check of every /v2/ request.
// The odd answers here are ghcr.io's own; which of its variants is given is up to the switches.
import type { IncomingMessage } from 'node:http';
import { type Answer, errorAnswer } from './ghcr-faults.ts';
import { mayRead, type Packages, type User } from './ghcr-packages.ts';
import type { Switches } from './ghcr-switches.ts';

interface Grant {
  readonly user: User | undefined;
  /** Undefined: every repository, as a personal access token that is used directly. */
  readonly repositories: readonly string[] | undefined;
  /** On the stand-in's clock. */
  readonly issuedAtMs: number;
  revoked: boolean;
}

const DENIED = errorAnswer(403, 'DENIED', 'requested access to the resource is denied');
const INVALID_TOKEN = errorAnswer(403, 'DENIED', 'invalid token');
const WRONG_SCOPES = errorAnswer(
  403,
  'DENIED',
  'permission_denied: The token provided does not match expected scopes.',
);

export class Auth {
  readonly #packages: Packages;
  readonly #switches: Switches;
  readonly #now: () => number;
  readonly #grants = new Map<string, Grant>();
  #issued = 0;

  constructor(packages: Packages, switches: Switches, now: () => number) {
    this.#packages = packages;
    this.#switches = switches;
    this.#now = now;
  }

  /** Makes every token issued so far an expired one. */
  expireTokens(): void {
    for (const grant of this.#grants.values()) grant.revoked = true;
  }

  /** GET /token. */
  token(request: IncomingMessage, url: URL): Answer {
    if (request.method !== 'GET') return errorAnswer(405, 'UNSUPPORTED', 'The operation is unsupported.');
    const credentials = basicCredentials(request.headers.authorization);
    const user = credentials && this.#packages.userByPassword(credentials.username, credentials.password);
    // Bad credentials are refused though an anonymous client might be served.
    if (request.headers.authorization !== undefined && !user) return DENIED;

    const scopes = requestedScopes(url);
    const refusal = user ? undefined : this.#refuseAnonymous(scopes);
    if (refusal) return refusal;
    const { tokenField, expiresIn } = this.#switches;
    const token = this.#issue(
      user,
      scopes.map(scope => scope.repository),
    );
    return {
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: { [tokenField]: token, ...(expiresIn === undefined ? {} : { expires_in: expiresIn }) },
    };
  }

  #refuseAnonymous(scopes: readonly Scope[]): Answer | undefined {
    if (scopes.length === 0) return DENIED;
    for (const { repository, actions } of scopes) {
      if (actions.some(action => action !== 'pull')) return DENIED;
      const found = this.#packages.get(repository);
      if (found?.visibility === 'public') continue;
      const variant = found ? this.#switches.private : this.#switches.missing;
      if (variant === 'token-403') return DENIED;
      if (variant === 'token-401') return errorAnswer(401, 'UNAUTHORIZED', 'authentication required');
    }
    return undefined;
  }

  #issue(user: User | undefined, repositories: readonly string[]): string {
    const issuedAtMs = this.#now();
    // Anonymous tokens have been seen to be this; a count in place of nanoseconds makes them unique.
    const nanoseconds = BigInt(Math.trunc(issuedAtMs)) * 1_000_000n + BigInt(this.#issued++);
    const name = user ? `${user.username}:${repositories.join(' ')}` : repositories.join(' ');
    const token = Buffer.from(`v1:${name}:${nanoseconds}`).toString('base64');
    this.#grants.set(token, { user, repositories, issuedAtMs, revoked: false });
    return token;
  }

  /**
   * Why a /v2/ request is refused, or undefined when it may go on. Without a repository it only has to
   * authenticate. `origin` is the stand-in's own, for the realm.
   */
  refuse(request: IncomingMessage, origin: string, repository: string | undefined): Answer | undefined {
    if (this.#switches.auth === 'none') return undefined;
    const header = request.headers.authorization;
    const grant = this.#switches.auth === 'basic' ? this.#basicGrant(header) : this.#bearerGrant(header);
    if (grant === 'challenge') return this.#challenge(origin, repository);
    if (grant === 'denied') return INVALID_TOKEN;
    if (repository === undefined) return undefined;

    const { user } = grant;
    if (grant.repositories && !grant.repositories.includes(repository)) return WRONG_SCOPES;
    const found = this.#packages.get(repository);
    if (user && !(user.scopes ?? ['read:packages']).some(scope => READING_SCOPES.includes(scope))) {
      return WRONG_SCOPES;
    }
    if (!found) return !user && this.#switches.missing === 'later-403' ? DENIED : undefined;
    if (mayRead(user, found)) return undefined;
    return user ? errorAnswer(403, 'DENIED', this.#switches.deniedMessage) : DENIED;
  }

  #basicGrant(header: string | undefined): Grant | 'challenge' {
    const credentials = basicCredentials(header);
    const user = credentials && this.#packages.userByPassword(credentials.username, credentials.password);
    return user ? unbounded(user) : 'challenge';
  }

  #bearerGrant(header: string | undefined): Grant | 'challenge' | 'denied' {
    if (header === undefined) return 'challenge';
    const [, token] = /^bearer (\S+)$/i.exec(header) ?? [];
    if (token === undefined) return 'denied';
    const grant = this.#grants.get(token);
    if (grant) {
      const expired = grant.revoked || this.#now() - grant.issuedAtMs >= this.#switches.tokenTtlMs;
      return expired ? this.#switches.expiredToken : grant;
    }
    const user = this.#packages.userByToken(Buffer.from(token, 'base64').toString());
    return user ? unbounded(user) : 'denied';
  }

  #challenge(origin: string, repository: string | undefined): Answer {
    const { auth, realm, service, scope, pingScope } = this.#switches;
    const wanted = scope ?? (repository === undefined ? pingScope : `repository:${repository}:pull`);
    const challenge =
      auth === 'basic'
        ? `Basic realm="${realm ?? 'Registry Realm'}"`
        : `Bearer realm="${realm ?? `${origin}/token`}",service="${service}",scope="${wanted}"`;
    const answer = errorAnswer(401, 'UNAUTHORIZED', 'authentication required');
    return { ...answer, headers: { ...answer.headers, 'www-authenticate': challenge } };
  }
}

const READING_SCOPES: readonly string[] = ['read:packages', 'write:packages'];

function unbounded(user: User): Grant {
  return { user, repositories: undefined, issuedAtMs: 0, revoked: false };
}

interface Scope {
  readonly repository: string;
  readonly actions: readonly string[];
}

/** The repositories that /token is asked for: several `scope` parameters, or several in one. */
export function requestedScopes(url: URL): Scope[] {
  const texts = url.searchParams.getAll('scope').flatMap(text => text.split(' '));
  return texts.flatMap(text => {
    const [, repository, actions] = /^repository:(.+):([^:]*)$/.exec(text) ?? [];
    return repository === undefined ? [] : [{ repository, actions: actions?.split(',') ?? [] }];
  });
}

function basicCredentials(header: string | undefined): { username: string; password: string } | undefined {
  const [, encoded] = /^basic (\S+)$/i.exec(header ?? '') ?? [];
  if (encoded === undefined) return undefined;
  const [username = '', ...password] = Buffer.from(encoded, 'base64').toString().split(':');
  return { username, password: password.join(':') };
}
