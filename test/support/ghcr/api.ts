// GitHub's package API, in place of api.github.com: lists and deletes the versions of container packages, and describes
// users and their tokens. Only what it takes to delete what /v2/ does not. Messages are GitHub's where known.
import { randomUUID } from 'node:crypto';
import type { Exchange, Reply, Site } from './exchange.ts';
import type { Answer } from './faults.ts';
import type { Route } from './log.ts';
import { mayRead, mayWrite, type Package, scopesOf, type User, type Version } from './packages.ts';
import type { State } from './state.ts';

const DOCUMENTATION = 'https://docs.github.com/rest/packages/packages';
const DOWNLOADS_LIMIT = 5000;

const NO_USER_AGENT: Answer = {
  status: 403,
  headers: { 'content-type': 'text/html; charset=utf-8' },
  body:
    '\r\nRequest forbidden by administrative rules. Please make sure your request has a User-Agent header ' +
    '(https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required). ' +
    'Check https://developer.github.com for other possible causes.\r\n',
};
const NOT_FOUND = apiError(404, 'Not Found');
const NO_PACKAGE = apiError(404, 'Package not found.');

/** What a path of the package API names: the owner, the package, and a part of it. */
interface Target {
  readonly kind: 'org' | 'user' | 'self';
  /** Undefined for `self`. */
  readonly owner: string | undefined;
  /** Without the owner. */
  readonly name: string;
  readonly versions: boolean;
  readonly id: string | undefined;
}

export class PackageApi implements Site {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
  }

  route(url: URL): Route {
    const target = targetOf(url);
    if (target) {
      const { owner, name, id } = target;
      return {
        endpoint: 'api',
        repository: owner === undefined ? undefined : `${owner}/${name}`,
        reference: id,
      };
    }
    return { endpoint: /^\/(user|users\/[^/]+)$/.test(url.pathname) ? 'api-user' : 'other' };
  }

  answer(exchange: Exchange): Reply {
    const user = this.#userOf(exchange);
    const reply = this.#answer(exchange, user);
    const headers: Record<string, string> = {
      'x-github-request-id': randomUUID().toUpperCase(),
      'x-github-media-type': 'github.v3; format=json',
    };
    if (user) headers['x-oauth-scopes'] = scopesOf(user).join(', ');
    if (user?.expiration) headers['github-authentication-token-expiration'] = user.expiration;
    return { ...reply, headers: { ...headers, ...reply.headers } };
  }

  #userOf({ request }: Exchange): User | undefined {
    const [, token] = /^(?:bearer|token) (\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
    return token === undefined ? undefined : this.#state.packages.userByToken(token);
  }

  #answer(exchange: Exchange, user: User | undefined): Answer {
    const { request, record, url } = exchange;
    if (!request.headers['user-agent']) return NO_USER_AGENT;
    if (!user && request.headers.authorization !== undefined) return apiError(401, 'Bad credentials');
    if (record.endpoint === 'api-user' && url.pathname !== '/user') {
      return this.#owner(url.pathname.slice('/users/'.length));
    }
    if (!user) return apiError(401, 'Requires authentication');
    if (record.endpoint === 'api-user') return this.#owner(user.username);
    const target = targetOf(url);
    if (!target) return NOT_FOUND;
    const { method } = record;
    if (method !== 'GET' && method !== 'DELETE') return NOT_FOUND;

    const needed = method === 'GET' ? ['read:packages'] : ['read:packages', 'delete:packages'];
    const lacking = needed.find(scope => !hasScope(user, scope));
    if (lacking !== undefined) {
      const what = method === 'GET' ? "get a package's versions" : 'delete a package version';
      return apiError(403, `You need at least ${lacking} scope to ${what}.`);
    }
    const owner = target.owner ?? user.username;
    const kind = this.#kindOf(owner);
    if (kind !== (target.kind === 'org' ? 'org' : 'user')) return NOT_FOUND;
    const { singleSignOn } = this.#state.switches;
    if (kind === 'org' && singleSignOn === 'required') return ssoRequired(owner);
    const found = this.#state.packages.get(`${owner}/${target.name}`);
    if (!found || found.manifests.size === 0 || !mayRead(user, found)) return NO_PACKAGE;

    if (method === 'DELETE' && !mayWrite(user, found.name)) {
      return apiError(403, 'You do not have permission to delete this package.');
    }
    const answer = this.#answerFor(exchange, found, target);
    if (kind !== 'org' || singleSignOn !== 'partial-results' || method !== 'GET') return answer;
    return { ...answer, headers: { ...answer.headers, 'x-github-sso': 'partial-results; organizations=1' } };
  }

  #answerFor({ record, url }: Exchange, found: Package, { versions, id }: Target): Answer {
    const deleting = record.method === 'DELETE';
    if (!versions) {
      if (!deleting) return { status: 200, body: this.#packageBody(found) };
      this.#state.packages.delete(found.name);
      return { status: 204 };
    }
    if (id === undefined) return deleting ? NOT_FOUND : this.#list(url, found);
    const version = [...found.manifests.values()].find(each => String(each.id) === id);
    if (!version) return NOT_FOUND;
    return deleting ? this.#delete(found, version) : { status: 200, body: this.#versionBody(found, version) };
  }

  /** Newest first, in pages. */
  #list(url: URL, found: Package): Answer {
    const { searchParams } = url;
    const size = Math.min(100, Number(searchParams.get('per_page')) || 30);
    const page = Number(searchParams.get('page')) || 1;
    const all = [...found.manifests.values()].toSorted((a, b) => b.id - a.id);
    const last = Math.max(1, Math.ceil(all.length / size));
    const link = this.#links(url, page, last);
    return {
      status: 200,
      headers: link === '' ? {} : { link },
      body: all.slice((page - 1) * size, page * size).map(version => this.#versionBody(found, version)),
    };
  }

  #links(url: URL, page: number, last: number): string {
    const pages: [string, number, boolean][] = [
      ['prev', page - 1, page > 1],
      ['next', page + 1, page < last],
      ['last', last, page < last],
      ['first', 1, page > 1],
    ];
    return pages
      .filter(([, , present]) => present)
      .map(([rel, number]) => {
        const query = new URLSearchParams(url.searchParams);
        query.set('page', String(number));
        return `<${this.#state.originOf('api')}${url.pathname}?${query}>; rel="${rel}"`;
      })
      .join(', ');
  }

  #delete(found: Package, { digest }: Version): Answer {
    const { keepLastVersion, downloadsOf } = this.#state.switches;
    if (found.visibility === 'public' && downloadsOf(found.name, digest) > DOWNLOADS_LIMIT) {
      return apiError(
        400,
        'Publicly visible package versions with more than 5000 downloads cannot be deleted. ' +
          'Contact GitHub support for further assistance.',
      );
    }
    const tagged = new Set<string>(found.tags.values());
    const lastTagged = tagged.size === 1 && tagged.has(digest);
    if (keepLastVersion && (lastTagged || found.manifests.size === 1)) {
      const which = lastTagged ? 'last tagged version' : 'last version';
      return apiError(400, `You cannot delete the ${which} of a package. You must delete the package instead.`);
    }
    this.#state.lags.deleteManifest(found, digest);
    return { status: 204 };
  }

  #versionBody({ tags, name }: Package, { id, digest }: Version): object {
    const tagged = [...tags].filter(([, target]) => target === digest).map(([tag]) => tag);
    return {
      id,
      name: digest,
      url: `${this.#pathOf(name)}/versions/${id}`,
      package_html_url: `https://github.com/${name}`,
      metadata: { package_type: 'container', container: { tags: tagged } },
    };
  }

  #packageBody({ name, visibility, manifests }: Package): object {
    const [owner = '', ...rest] = name.split('/');
    return {
      name: rest.join('/'),
      package_type: 'container',
      visibility,
      version_count: manifests.size,
      owner: { login: owner, type: TYPES[this.#kindOf(owner)] },
      url: this.#pathOf(name),
    };
  }

  #pathOf(name: string): string {
    const [owner = '', ...rest] = name.split('/');
    const holder = this.#kindOf(owner) === 'org' ? 'orgs' : 'users';
    return `${this.#state.originOf('api')}/${holder}/${owner}/packages/container/${encodeURIComponent(rest.join('/'))}`;
  }

  /** `/user`: the token's owner; `/users/NAME`, for any client: whether that is a user or an organization. */
  #owner(login: string): Answer {
    return { status: 200, body: { login, type: TYPES[this.#kindOf(login)] } };
  }

  #kindOf(owner: string): 'org' | 'user' {
    return this.#state.switches.ownerKinds[owner] ?? (this.#state.packages.hasUser(owner) ? 'user' : 'org');
  }
}

const TYPES = { org: 'Organization', user: 'User' } as const;

/** GitHub's scopes nest: writing implies reading, deleting implies neither. */
function hasScope(user: User, scope: string): boolean {
  const scopes = scopesOf(user);
  return scopes.includes(scope) || (scope === 'read:packages' && scopes.includes('write:packages'));
}

/** Undefined for any other path. A slash in the package's name must be escaped as `%2F`. */
function targetOf(url: URL): Target | undefined {
  const [, first = '', ...rest] = url.pathname.split('/');
  const kind = KINDS.get(first);
  const owner = kind === 'self' ? undefined : rest.shift();
  const [packages, type, encoded, versions, id, ...more] = rest;
  if (kind === undefined || packages !== 'packages' || type !== 'container' || !encoded) return undefined;
  if ((versions ?? 'versions') !== 'versions' || more.length > 0) return undefined;
  try {
    return { kind, owner, name: decodeURIComponent(encoded), versions: versions !== undefined, id };
  } catch {
    return undefined;
  }
}

const KINDS = new Map<string, Target['kind']>([
  ['orgs', 'org'],
  ['users', 'user'],
  ['user', 'self'],
]);

function apiError(status: number, message: string): Answer {
  return {
    status,
    headers: { 'content-type': 'application/json; charset=utf-8' },
    body: { message, documentation_url: DOCUMENTATION, status: String(status) },
  };
}

function ssoRequired(owner: string): Answer {
  const answer = apiError(403, 'Resource protected by organization SAML enforcement.');
  const url = `https://github.com/orgs/${owner}/sso?authorization_request=1`;
  return { ...answer, headers: { ...answer.headers, 'x-github-sso': `required; url=${url}` } };
}
