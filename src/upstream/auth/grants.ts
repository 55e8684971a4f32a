// What to send as Authorization: the challenge of the registry, our credentials, and the tokens that its
// realm gave for them, kept per repository until they expire.
//
// Guarantees: a credential goes to the upstream itself or to its pinned realm and nowhere else; one
// exchange at a time for a repository; no secret is in any error or log line. When the realm refuses our
// credential the anonymous token is tried, since a stale credential breaks even the pull of public images.
// Follows the Docker token specification (GET variant); ghcr.io has no other.
import type { Clock } from '../../base/clock.ts';
import type { Credentials } from '../../credentials/credential.ts';
import { RegistryError, reasonOf } from '../../oci/errors.ts';
import { imageName, ownerOf, type Repository } from '../../oci/reference.ts';
import { type ErrorResponse, readErrorResponse, toError } from '../error-response.ts';
import { type Answer, type Dialer, discard, readAll } from '../transport/dialer.ts';
import { type Challenge, parseChallenge } from './challenge.ts';

/** What we want to be allowed, in the words of the token specification. */
export interface Access {
  readonly actions: 'pull' | 'pull,push' | '*';
  /** The name of another repository to be read from, for a mount. */
  readonly from?: string | undefined;
}

export const PULL: Access = { actions: 'pull' };
export const PUSH: Access = { actions: 'pull,push' };
/** Registries differ in what they call it; the star is what they agree on. */
export const DELETE: Access = { actions: '*' };

/** The right of a personal access token that ghcr.io wants for it. */
const RIGHTS: Record<Access['actions'], string> = {
  pull: 'read:packages',
  'pull,push': 'write:packages',
  '*': 'delete:packages',
};

/** What to send with the requests for one repository. */
export interface Grant {
  readonly authorization: string | undefined;
  /** The credential behind it; undefined: anonymous. */
  readonly credential: string | undefined;
  /** A credential that was refused before this anonymous grant was got. */
  readonly refused: string | undefined;
  /** Whether the registry has taken it: if it then refuses it, it has expired. Set by the client. */
  proven: boolean;
}

export interface GrantsOptions {
  readonly url: URL;
  /** `host` or `host:port` of realms other than the upstream's own. */
  readonly realms: readonly string[];
  readonly credentials: Credentials;
  readonly dialer: Dialer;
  readonly clock: Clock;
  readonly onRefused: (credential: string, message: string) => void;
}

/** What the token specification says to assume when the answer does not tell. */
const DEFAULT_LIFE_MS = 60_000;
const LONGEST_LIFE_MS = 3_600_000;
/** A token is given up a little before its end, for the way to the registry takes time too. */
const USABLE_SHARE = 0.9;
/** How long a credential that was refused for a repository is not tried again. */
const REFUSED_MS = 60_000;
const KEPT_LIMIT = 10_000;
const ANSWER_LIMIT_BYTES = 128 * 1024;

const NOTHING: Grant = {
  authorization: undefined,
  credential: undefined,
  refused: undefined,
  proven: false,
};

export class Grants {
  readonly #options: GrantsOptions;
  #challenge: Challenge | undefined;
  /** Whether the upstream has been asked for its challenge; it may have none. */
  #isMet = false;
  #meeting: Promise<void> | undefined;
  readonly #kept = new Map<string, { grant: Grant; usableUntilMs: number }>();
  readonly #asking = new Map<string, Promise<Grant>>();
  /** What no answer may make us repeat, in every form in which it was sent. */
  readonly #secrets = new Set<string>();

  constructor(options: GrantsOptions) {
    this.#options = options;
  }

  /** Takes note of a challenge. False when there is none to follow; throws when its realm is not to be trusted. */
  learn(header: string | undefined): boolean {
    const challenge = parseChallenge(header);
    if (challenge === undefined) return false;
    if (challenge.scheme === 'bearer') this.#trustedRealm(challenge.realm);
    this.#challenge = challenge;
    return true;
  }

  /** The grant for this repository; nothing where no challenge was met. */
  async grant(repository: Repository, access: Access = PULL): Promise<Grant> {
    return this.#shared(keyOf(repository, access), async () => {
      const credential = this.#options.credentials.find(repository);
      if (credential === undefined) return this.#anonymous(repository, access, undefined);
      const { username, secret } = await credential.read().catch(error => {
        throw new RegistryError(
          'DENIED',
          `credential "${credential.name}" cannot be read: ${reasonOf(error)}`,
          { cause: error },
        );
      });
      const basic = Buffer.from(`${username}:${secret}`).toString('base64');
      this.#secrets.add(secret).add(basic);
      const authorization = `Basic ${basic}`;
      if (this.#challenge?.scheme === 'basic') {
        const grant = { authorization, credential: credential.name, refused: undefined, proven: false };
        return { grant, lifeMs: DEFAULT_LIFE_MS };
      }
      const answer = await this.#exchange(repository, access, authorization);
      if ('token' in answer) return kept(answer, credential.name, undefined);
      if (!isDenial(answer.refusal)) throw toError(answer.refusal, imageName(repository), 'NAME_UNKNOWN');
      this.#options.onRefused(
        credential.name,
        toError(answer.refusal, imageName(repository), 'NAME_UNKNOWN').message,
      );
      if (access !== PULL) throw toDeniedError(answer.refusal, repository, credential.name, access);
      return this.#anonymous(repository, access, credential.name);
    });
  }

  /** The grant of somebody without a credential, after the one with ours was refused by the registry. */
  async withoutCredential(repository: Repository, refused: string): Promise<Grant> {
    return this.#shared(`${repository.name} anonymous`, () => this.#anonymous(repository, PULL, refused));
  }

  /** The registry no longer takes this grant. */
  drop(repository: Repository, access: Access, grant: Grant): void {
    const key = keyOf(repository, access);
    if (this.#kept.get(key)?.grant === grant) this.#kept.delete(key);
  }

  /** From now on, for a while, this repository is asked as nobody: it works, and our credential does not. */
  prefer(repository: Repository, grant: Grant): void {
    this.#keep(keyOf(repository, PULL), grant, REFUSED_MS);
  }

  /** The text without our secrets: the credentials of this upstream, and the token of the grant. */
  mask(text: string, grant: Grant): string {
    for (const secret of this.#secrets) text = text.replaceAll(secret, '***');
    const token = grant.authorization?.slice(grant.authorization.indexOf(' ') + 1);
    return token === undefined ? text : text.replaceAll(token, '***');
  }

  async #shared(key: string, make: () => Promise<{ grant: Grant; lifeMs: number }>): Promise<Grant> {
    await this.#meet();
    if (this.#challenge === undefined) return NOTHING;
    const known = this.#kept.get(key);
    if (known !== undefined && this.#options.clock.now() < known.usableUntilMs) return known.grant;
    let asking = this.#asking.get(key);
    if (asking === undefined) {
      asking = make()
        .then(({ grant, lifeMs }) => {
          this.#keep(key, grant, lifeMs);
          return grant;
        })
        .finally(() => this.#asking.delete(key));
      this.#asking.set(key, asking);
    }
    return asking;
  }

  /** Asks for the challenge where every registry has to give it, so that no question for content is spent on it. */
  #meet(): Promise<void> | undefined {
    if (this.#challenge !== undefined || this.#isMet) return undefined;
    this.#meeting ??= this.#options.dialer
      .dial({ method: 'GET', url: new URL('/v2/', this.#options.url), headers: {} })
      .then(async answer => {
        await discard(answer);
        this.#isMet = true;
        this.learn(answer.header('www-authenticate'));
      })
      .finally(() => {
        this.#meeting = undefined;
      });
    return this.#meeting;
  }

  #keep(key: string, grant: Grant, lifeMs: number): void {
    this.#kept.delete(key);
    this.#kept.set(key, { grant, usableUntilMs: this.#options.clock.now() + lifeMs * USABLE_SHARE });
    const oldest = this.#kept.keys().next().value;
    if (this.#kept.size > KEPT_LIMIT && oldest !== undefined) this.#kept.delete(oldest);
  }

  async #anonymous(
    repository: Repository,
    access: Access,
    refused: string | undefined,
  ): Promise<{ grant: Grant; lifeMs: number }> {
    if (this.#challenge?.scheme === 'basic')
      return { grant: { ...NOTHING, refused }, lifeMs: DEFAULT_LIFE_MS };
    const answer = await this.#exchange(repository, access, undefined);
    if ('token' in answer) return kept(answer, undefined, refused);
    throw toDeniedError(answer.refusal, repository, refused, access);
  }

  async #exchange(repository: Repository, access: Access, authorization: string | undefined) {
    if (this.#challenge?.scheme !== 'bearer') throw new Error('a token is wanted where none is given out');
    const url = this.#trustedRealm(this.#challenge.realm);
    if (this.#challenge.service !== undefined) url.searchParams.set('service', this.#challenge.service);
    // Not the scope of the challenge: ghcr.io puts a placeholder there. Pull alone for pulls, because ghcr.io
    // refuses an anonymous request for more even where pulling is free.
    url.searchParams.append('scope', `repository:${repository.name}:${access.actions}`);
    if (access.from !== undefined) url.searchParams.append('scope', `repository:${access.from}:pull`);
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
    // Redirects are not followed: a realm has no reason to send our credential elsewhere.
    const answer = await this.#options.dialer.dial({ method: 'GET', url, headers });
    if (answer.status !== 200) {
      return {
        refusal: await readErrorResponse(answer, this.#options.clock.now(), text => this.mask(text, NOTHING)),
      };
    }
    return parseToken(answer, url);
  }

  /** The address of a realm that may be told our credentials: the upstream's own host, or one of the config. */
  #trustedRealm(realm: string): URL {
    const { url: upstream, realms } = this.#options;
    const url = URL.parse(realm);
    const named = url !== null && (realms.includes(url.host) || realms.includes(url.hostname));
    const secure = url?.protocol === 'https:' || (url?.protocol === 'http:' && upstream.protocol === 'http:');
    if (url === null || url.username !== '' || !secure || (url.host !== upstream.host && !named)) {
      const shown = url === null ? 'no valid address' : `${url.protocol}//${url.host}`;
      throw new RegistryError(
        'UPSTREAM_INVALID',
        `${upstream.host} sends us to ${shown} for a token, which is not trusted with our credentials; ` +
          `if it is right, add its host to realms of this upstream in the config`,
      );
    }
    return url;
  }
}

function keyOf({ name }: Repository, { actions, from = '' }: Access): string {
  return `${name} ${actions} ${from}`;
}

function kept(
  token: { token: string; lifeMs: number },
  credential: string | undefined,
  refused: string | undefined,
): { grant: Grant; lifeMs: number } {
  return {
    grant: { authorization: `Bearer ${token.token}`, credential, refused, proven: false },
    lifeMs: token.lifeMs,
  };
}

async function parseToken(answer: Answer, url: URL): Promise<{ token: string; lifeMs: number }> {
  const body = await readAll(answer, ANSWER_LIMIT_BYTES);
  let parsed: { token?: unknown; access_token?: unknown; expires_in?: unknown } | null = null;
  try {
    parsed = JSON.parse(body?.toString('utf8') ?? '');
  } catch {
    // Falls through to the error below.
  }
  const token = parsed?.token ?? parsed?.access_token;
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
    throw new RegistryError(
      'UPSTREAM_INVALID',
      `${url.host} answered our request for a token with something else`,
    );
  }
  const seconds = parsed?.expires_in;
  const lifeMs = typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : DEFAULT_LIFE_MS;
  return { token, lifeMs: Math.min(lifeMs, LONGEST_LIFE_MS) };
}

/** Whether another identity could fare better. */
export function isDenial(refusal: ErrorResponse): boolean {
  return (refusal.status === 401 || refusal.status === 403) && refusal.retryAfterMs === undefined;
}

/** The error of a refusal that says which credential failed, or that there is none, and what to do. */
export function toDeniedError(
  refusal: ErrorResponse,
  repository: Repository,
  credential: string | undefined,
  { actions }: Access,
): RegistryError {
  const error = toError(refusal, imageName(repository), 'NAME_UNKNOWN');
  if (!isDenial(refusal)) return error;
  const noneFor = `no credential of the config is for owner "${ownerOf(repository)}": add one`;
  const without =
    actions === 'pull'
      ? `It is private or does not exist, and ${noneFor}`
      : `This takes a credential, and ${noneFor}`;
  const pulls = actions === 'pull' ? ', and nobody may pull it without one' : '';
  const advice =
    credential === undefined
      ? without
      : `Credential "${credential}" was refused${pulls}: check that it has not expired and that it has the ` +
        `right to this package (${RIGHTS[actions]})`;
  return new RegistryError(error.code, `${error.message}. ${advice}`, {
    detail: { credential: credential ?? null },
  });
}
