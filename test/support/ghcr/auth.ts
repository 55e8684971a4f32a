// Who may do what at the stand-in: the challenge, the /token realm and the check of every /v2/ request.
// The odd answers here are ghcr.io's own; which of its variants is given is up to the switches.
import type { IncomingMessage } from 'node:http';
import { type Answer, answers, errorAnswer } from './faults.ts';
import type { RequestRecord } from './log.ts';
import { mayRead, mayWrite, type Packages, scopesOf, type User } from './packages.ts';
import type { Switches } from './switches.ts';

/** What a request does to a repository, in the words of token scopes. */
export type Action = 'pull' | 'push' | 'delete';

interface Grant {
  readonly user: User | undefined;
  /** Undefined: all of every repository, as a personal access token that is used directly. */
  readonly scopes: readonly Scope[] | undefined;
  /** On the stand-in's clock. */
  readonly issuedAtMs: number;
  revoked: boolean;
}

const { denied: DENIED } = answers;
const INVALID_TOKEN = errorAnswer(403, 'DENIED', 'invalid token');
const WRONG_SCOPES = errorAnswer(
  403,
  'DENIED',
  'permission_denied: The token provided does not match expected scopes.',
);
const NO_WRITING = errorAnswer(403, 'DENIED', 'permission_denied: write_package');
const UNAUTHENTICATED = errorAnswer(
  401,
  'UNAUTHORIZED',
  'unauthenticated: User cannot be authenticated with the token provided.',
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
    if (request.method !== 'GET') return answers.unsupported;
    const credentials = basicCredentials(request.headers.authorization);
    const user = credentials && this.#packages.userByPassword(credentials.username, credentials.password);
    // Bad credentials are refused though an anonymous client might be served.
    if (request.headers.authorization !== undefined && !user) return DENIED;

    const scopes = requestedScopes(url);
    const refusal = user ? this.#refuseWriter(user, scopes) : this.#refuseAnonymous(scopes);
    if (refusal) return refusal;
    const { tokenField, expiresIn } = this.#switches;
    const token = this.#issue(user, scopes);
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

  /** Why /token refuses a user at once; left to /v2/ when the switch says so. */
  #refuseWriter(user: User, scopes: readonly Scope[]): Answer | undefined {
    if (this.#switches.pushDenied !== 'token-403') return undefined;
    for (const { repository, actions } of scopes) {
      const pushing = actions.includes('push') || actions.includes('*');
      const refusal =
        (pushing ? this.#refuseWriting(user, repository, 'push') : undefined) ??
        (actions.includes('delete') ? this.#refuseWriting(user, repository, 'delete') : undefined);
      if (refusal) return refusal;
    }
    return undefined;
  }

  #issue(user: User | undefined, scopes: readonly Scope[]): string {
    const issuedAtMs = this.#now();
    // Anonymous tokens have been seen to be this; a count in place of nanoseconds makes them unique.
    const nanoseconds = BigInt(Math.trunc(issuedAtMs)) * 1_000_000n + BigInt(this.#issued++);
    const repositories = scopes.map(({ repository }) => repository).join(' ');
    const name = user ? `${user.username}:${repositories}` : repositories;
    const token = Buffer.from(`v1:${name}:${nanoseconds}`).toString('base64');
    this.#grants.set(token, { user, scopes, issuedAtMs, revoked: false });
    return token;
  }

  /**
   * Why a /v2/ request is refused, or undefined when it may go on. Without a repository it only has to
   * authenticate. `origin` is the stand-in's own, for the realm.
   */
  refuse(request: IncomingMessage, origin: string, record: RequestRecord): Answer | undefined {
    if (this.#switches.auth === 'none') return undefined;
    const { repository } = record;
    const action = this.#actionOf(record);
    const grant = this.#grantOf(request);
    if (grant === 'challenge') return this.#challenge(origin, repository, action);
    if (grant === 'denied') return INVALID_TOKEN;
    if (repository === undefined) return undefined;

    const { user, scopes } = grant;
    if (!allows(scopes, repository, action)) {
      return this.#switches.pushDenied === 'later-unauthenticated' && action !== 'pull'
        ? UNAUTHENTICATED
        : WRONG_SCOPES;
    }
    if (action !== 'pull') return this.#refuseWriting(user, repository, action);
    // Whoever is about to push asks for blobs first, and is refused there already.
    const pushing = record.endpoint === 'blob' && record.method === 'HEAD' && scopes !== undefined;
    const refusal =
      pushing && allows(scopes, repository, 'push')
        ? this.#refuseWriting(user, repository, 'push')
        : undefined;
    return refusal ?? this.#refuseReading(user, repository);
  }

  #refuseReading(user: User | undefined, repository: string): Answer | undefined {
    if (user && !scopesOf(user).some(scope => READING_SCOPES.includes(scope))) return WRONG_SCOPES;
    const found = this.#packages.get(repository);
    if (!found) return !user && this.#switches.missing === 'later-403' ? DENIED : undefined;
    if (mayRead(user, found)) return undefined;
    return user ? errorAnswer(403, 'DENIED', this.#switches.deniedMessage) : DENIED;
  }

  #refuseWriting(
    user: User | undefined,
    repository: string,
    action: Exclude<Action, 'pull'>,
  ): Answer | undefined {
    if (!user) return DENIED;
    const scoped = scopesOf(user).includes(action === 'push' ? 'write:packages' : 'delete:packages');
    if (scoped && mayWrite(user, repository)) return undefined;
    if (this.#switches.pushDenied === 'later-unauthenticated') return UNAUTHENTICATED;
    return scoped ? NO_WRITING : WRONG_SCOPES;
  }

  /** What the request needs the right to. A DELETE that is answered 405 anyway needs none but to read. */
  #actionOf({ endpoint, method }: RequestRecord): Action {
    if (endpoint === 'upload-start' || endpoint === 'upload') return 'push';
    if (method === 'DELETE' && this.#switches.allowDelete) return 'delete';
    return endpoint === 'manifest' && method === 'PUT' ? 'push' : 'pull';
  }

  /** Who makes a request that was not refused; undefined for an anonymous one. */
  userOf(request: IncomingMessage): User | undefined {
    const grant = this.#grantOf(request);
    return typeof grant === 'string' ? undefined : grant.user;
  }

  /** Whether a request for one repository may also read another, whose blobs it is to mount. */
  mayPull(request: IncomingMessage, repository: string): boolean {
    if (this.#switches.auth === 'none') return true;
    const grant = this.#grantOf(request);
    if (typeof grant === 'string' || !allows(grant.scopes, repository, 'pull')) return false;
    return this.#refuseReading(grant.user, repository) === undefined;
  }

  #grantOf(request: IncomingMessage): Grant | 'challenge' | 'denied' {
    const header = request.headers.authorization;
    return this.#switches.auth === 'basic' ? this.#basicGrant(header) : this.#bearerGrant(header);
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

  #challenge(origin: string, repository: string | undefined, action: Action): Answer {
    const { auth, realm, service, scope, pingScope, pushActions } = this.#switches;
    const actions = { pull: 'pull', push: pushActions, delete: 'delete' }[action];
    const wanted = scope ?? (repository === undefined ? pingScope : `repository:${repository}:${actions}`);
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
  return { user, scopes: undefined, issuedAtMs: 0, revoked: false };
}

interface Scope {
  readonly repository: string;
  readonly actions: readonly string[];
}

/** Whether the scopes of a token, if it is bounded by any, have the action on the repository. */
function allows(scopes: readonly Scope[] | undefined, repository: string, action: Action): boolean {
  if (scopes === undefined) return true;
  return scopes.some(
    scope =>
      scope.repository === repository && (scope.actions.includes(action) || scope.actions.includes('*')),
  );
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
