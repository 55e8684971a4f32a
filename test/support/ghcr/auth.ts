// Access control of the fake ghcr.io: the challenge, the /token realm and the check of every /v2/ request. The odd
// error responses are ghcr.io's own; the switches select among its variants.
import type { IncomingMessage } from 'node:http';
import { type Answer, answers, errorAnswer } from './faults.ts';
import type { RequestRecord } from './log.ts';
import { mayRead, mayWrite, scopesOf, type User } from './packages.ts';
import type { State } from './state.ts';

/** What a request does to a repository, as token scopes name it. */
export type Action = 'pull' | 'push' | 'delete';

interface Grant {
  readonly user: User | undefined;
  /** Undefined: unrestricted, as for a personal access token that is used directly. */
  readonly scopes: readonly Scope[] | undefined;
  /** On the fake's clock. */
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
const NO_WRITE = errorAnswer(403, 'DENIED', 'permission_denied: write_package');
const UNAUTHENTICATED = errorAnswer(
  401,
  'UNAUTHORIZED',
  'unauthenticated: User cannot be authenticated with the token provided.',
);

export class Auth {
  readonly #state: State;
  readonly #grants = new Map<string, Grant>();
  #issued = 0;

  constructor(state: State) {
    this.#state = state;
  }

  /** Expires every token issued so far. */
  expireTokens(): void {
    for (const grant of this.#grants.values()) grant.revoked = true;
  }

  /** GET /token. */
  token(request: IncomingMessage, url: URL): Answer {
    if (request.method !== 'GET') return answers.unsupported;
    const credentials = basicCredentials(request.headers.authorization);
    const user = credentials && this.#state.packages.userByPassword(credentials.username, credentials.password);
    // Invalid credentials are denied even where an anonymous client would be served.
    if (request.headers.authorization !== undefined && !user) return DENIED;

    const scopes = requestedScopes(url);
    const denial = user ? this.#denyUser(user, scopes) : this.#denyAnonymous(scopes);
    if (denial) return denial;
    const { tokenField, expiresIn } = this.#state.switches;
    const token = this.#issue(user, scopes);
    return {
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: { [tokenField]: token, ...(expiresIn === undefined ? {} : { expires_in: expiresIn }) },
    };
  }

  #denyAnonymous(scopes: readonly Scope[]): Answer | undefined {
    if (scopes.length === 0) return DENIED;
    for (const { repository, actions } of scopes) {
      if (actions.some(action => action !== 'pull')) return DENIED;
      const found = this.#state.packages.get(repository);
      if (found?.visibility === 'public') continue;
      const variant = found ? this.#state.switches.private : this.#state.switches.missing;
      if (variant === 'token-403') return DENIED;
      if (variant === 'token-401') return errorAnswer(401, 'UNAUTHORIZED', 'authentication required');
    }
    return undefined;
  }

  /** Why /token denies a user a scope; left to /v2/ if the switch says so. */
  #denyUser(user: User, scopes: readonly Scope[]): Answer | undefined {
    if (this.#state.switches.pushDenied !== 'token-403') return undefined;
    for (const { repository, actions } of scopes) {
      const pushing = actions.includes('push') || actions.includes('*');
      const denial =
        (pushing ? this.#denyWrite(user, repository, 'push') : undefined) ??
        (actions.includes('delete') ? this.#denyWrite(user, repository, 'delete') : undefined);
      if (denial) return denial;
    }
    return undefined;
  }

  #issue(user: User | undefined, scopes: readonly Scope[]): string {
    const issuedAtMs = this.#state.now();
    // Real anonymous tokens look like this; a counter in place of the nanoseconds keeps them unique.
    const nanoseconds = BigInt(Math.trunc(issuedAtMs)) * 1_000_000n + BigInt(this.#issued++);
    const repositories = scopes.map(({ repository }) => repository).join(' ');
    const name = user ? `${user.username}:${repositories}` : repositories;
    const token = Buffer.from(`v1:${name}:${nanoseconds}`).toString('base64');
    this.#grants.set(token, { user, scopes, issuedAtMs, revoked: false });
    return token;
  }

  /** Why a /v2/ request is denied; undefined when it is allowed. Without a repository it only has to authenticate. */
  deny(request: IncomingMessage, record: RequestRecord): Answer | undefined {
    if (this.#state.switches.auth === 'none') return undefined;
    const { repository } = record;
    const action = this.#actionOf(record);
    const grant = this.#grantOf(request);
    if (grant === 'challenge') return this.#challenge(repository, action);
    if (grant === 'denied') return INVALID_TOKEN;
    if (repository === undefined) return undefined;

    const { user, scopes } = grant;
    if (!allows(scopes, repository, action)) {
      return this.#state.switches.pushDenied === 'later-unauthenticated' && action !== 'pull'
        ? UNAUTHENTICATED
        : WRONG_SCOPES;
    }
    if (action !== 'pull') return this.#denyWrite(user, repository, action);
    // A client that is about to push asks for blobs first, and is denied there already.
    const pushing = record.endpoint === 'blob' && record.method === 'HEAD' && scopes !== undefined;
    const denial =
      pushing && allows(scopes, repository, 'push') ? this.#denyWrite(user, repository, 'push') : undefined;
    return denial ?? this.#denyRead(user, repository);
  }

  #denyRead(user: User | undefined, repository: string): Answer | undefined {
    if (user && !scopesOf(user).some(scope => READ_SCOPES.includes(scope))) return WRONG_SCOPES;
    const found = this.#state.packages.get(repository);
    if (!found) return !user && this.#state.switches.missing === 'later-403' ? DENIED : undefined;
    if (mayRead(user, found)) return undefined;
    return user ? errorAnswer(403, 'DENIED', this.#state.switches.deniedMessage) : DENIED;
  }

  #denyWrite(user: User | undefined, repository: string, action: Exclude<Action, 'pull'>): Answer | undefined {
    if (!user) return DENIED;
    const scoped = scopesOf(user).includes(action === 'push' ? 'write:packages' : 'delete:packages');
    if (scoped && mayWrite(user, repository)) return undefined;
    if (this.#state.switches.pushDenied === 'later-unauthenticated') return UNAUTHENTICATED;
    return scoped ? NO_WRITE : WRONG_SCOPES;
  }

  /** The action that the request has to be allowed. A DELETE that gets a 405 anyway counts as a read. */
  #actionOf({ endpoint, method }: RequestRecord): Action {
    if (endpoint === 'upload-start' || endpoint === 'upload') return 'push';
    if (method === 'DELETE' && this.#state.switches.allowDelete) return 'delete';
    return endpoint === 'manifest' && method === 'PUT' ? 'push' : 'pull';
  }

  /** The user behind a request that was allowed; undefined for an anonymous one. */
  userOf(request: IncomingMessage): User | undefined {
    const grant = this.#grantOf(request);
    return typeof grant === 'string' ? undefined : grant.user;
  }

  /** Whether a request for one repository may also read another, to mount its blobs. */
  mayPull(request: IncomingMessage, repository: string): boolean {
    if (this.#state.switches.auth === 'none') return true;
    const grant = this.#grantOf(request);
    if (typeof grant === 'string' || !allows(grant.scopes, repository, 'pull')) return false;
    return this.#denyRead(grant.user, repository) === undefined;
  }

  #grantOf(request: IncomingMessage): Grant | 'challenge' | 'denied' {
    const header = request.headers.authorization;
    return this.#state.switches.auth === 'basic' ? this.#basicGrant(header) : this.#bearerGrant(header);
  }

  #basicGrant(header: string | undefined): Grant | 'challenge' {
    const credentials = basicCredentials(header);
    const user = credentials && this.#state.packages.userByPassword(credentials.username, credentials.password);
    return user ? unrestricted(user) : 'challenge';
  }

  #bearerGrant(header: string | undefined): Grant | 'challenge' | 'denied' {
    if (header === undefined) return 'challenge';
    const [, token] = /^bearer (\S+)$/i.exec(header) ?? [];
    if (token === undefined) return 'denied';
    const grant = this.#grants.get(token);
    if (grant) {
      const expired = grant.revoked || this.#state.now() - grant.issuedAtMs >= this.#state.switches.tokenTtlMs;
      return expired ? this.#state.switches.expiredToken : grant;
    }
    const user = this.#state.packages.userByToken(Buffer.from(token, 'base64').toString());
    return user ? unrestricted(user) : 'denied';
  }

  #challenge(repository: string | undefined, action: Action): Answer {
    const { auth, realm, service, scope, pingScope, pushActions } = this.#state.switches;
    const actions = { pull: 'pull', push: pushActions, delete: 'delete' }[action];
    const wanted = scope ?? (repository === undefined ? pingScope : `repository:${repository}:${actions}`);
    const challenge =
      auth === 'basic'
        ? `Basic realm="${realm ?? 'Registry Realm'}"`
        : `Bearer realm="${realm ?? `${this.#state.originOf('registry')}/token`}",service="${service}",scope="${wanted}"`;
    const answer = errorAnswer(401, 'UNAUTHORIZED', 'authentication required');
    return { ...answer, headers: { ...answer.headers, 'www-authenticate': challenge } };
  }
}

const READ_SCOPES: readonly string[] = ['read:packages', 'write:packages'];

function unrestricted(user: User): Grant {
  return { user, scopes: undefined, issuedAtMs: 0, revoked: false };
}

interface Scope {
  readonly repository: string;
  readonly actions: readonly string[];
}

/** Whether the scopes of a token, if it is restricted to any, include the action on the repository. */
function allows(scopes: readonly Scope[] | undefined, repository: string, action: Action): boolean {
  if (scopes === undefined) return true;
  return scopes.some(
    scope => scope.repository === repository && (scope.actions.includes(action) || scope.actions.includes('*')),
  );
}

/** The scopes requested from /token: several `scope` parameters, or several in one. */
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
