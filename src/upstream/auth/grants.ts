// Which Authorization goes with the requests for a repository: the upstream's challenge, our credential, and the token
// that its realm gave for it, cached per repository and access until it expires.
//
// Guarantees: a credential goes to the upstream itself or to a trusted realm and nowhere else; one token request at a
// time for a repository and access; no secret is in an error or log. When the realm denies our credential, pulls go on
// anonymously, since a stale credential would break even the pull of public images.
import { createHash } from 'node:crypto';
import type { Clock } from '../../base/clock.ts';
import { ExpiringCache } from '../../base/expiring-cache.ts';
import { SingleFlight } from '../../base/single-flight.ts';
import { type Credential, type Credentials, type Login, readLogin } from '../../credentials/credential.ts';
import { imageName, type Repository } from '../../oci/reference.ts';
import { isDenial, toDeniedError, toError } from '../error-response.ts';
import type { Dialer } from '../transport/dialer.ts';
import { discard } from '../transport/response.ts';
import { type Access, PULL, scopesOf } from './access.ts';
import { type Challenge, parseChallenge, trustedRealm } from './challenge.ts';
import type { Mask } from './mask.ts';
import { DEFAULT_LIFETIME_MS, requestToken } from './token-endpoint.ts';

/** What goes with the requests for one repository. */
export interface Grant {
  /** The header; undefined where the upstream challenges no one, or takes only credentials and we go without. */
  readonly authorization: string | undefined;
  /** The name of the credential behind it; undefined: anonymous. */
  readonly credential: string | undefined;
  /** The name of a credential that was denied before this anonymous grant was obtained. */
  readonly denied: string | undefined;
  /** Whether the registry has accepted it: if it is denied later, it has expired. Set by Requests. */
  accepted: boolean;
}

export interface GrantsOptions {
  readonly url: URL;
  /** `host` or `host:port` of trusted realms other than the upstream's own. */
  readonly realms: readonly string[];
  readonly credentials: Credentials;
  readonly dialer: Dialer;
  readonly clock: Clock;
  /** Is told of every credential that is sent. */
  readonly mask: Mask;
  readonly onDenied: (credential: string, message: string) => void;
}

/** A grant is given up a little before its end, as the request takes time to arrive too. */
const USABLE_SHARE = 0.95;
/** One that is used when it is older than this is renewed meanwhile, so that no pull waits for that. */
const RENEWED_SHARE = 0.85;
/** How long a repository is pulled anonymously after our credential was denied. */
const ANONYMOUS_MS = 60_000;
const CACHED_GRANTS = 10_000;

interface Cached {
  readonly grant: Grant;
  /** When it is worth asking for the next one. */
  readonly renewAtMs: number;
}

const NONE: Grant = { authorization: undefined, credential: undefined, denied: undefined, accepted: false };

export class Grants {
  readonly #options: GrantsOptions;
  readonly #cache: ExpiringCache<Cached>;
  readonly #flights = new SingleFlight<Grant>();
  readonly #discovery = new SingleFlight<void>();
  /** The identity behind the last login that was read of each. */
  readonly #identities = new Map<Credential, string>();
  /** How often there have been other credentials. */
  #changes = 0;
  #challenge: Challenge | undefined;
  /** Whether the upstream was asked for a challenge; it may have none. */
  #isDiscovered = false;

  constructor(options: GrantsOptions) {
    this.#options = options;
    this.#cache = new ExpiringCache({ clock: options.clock, max: CACHED_GRANTS });
    options.credentials.onChange(() => {
      this.#changes++;
      this.#cache.clear();
      this.#identities.clear();
    });
  }

  /** Records a challenge; false when there is none to follow. Throws UPSTREAM_INVALID when its realm is not trusted. */
  record(header: string | undefined): boolean {
    const challenge = parseChallenge(header);
    if (challenge === undefined) return false;
    if (challenge.scheme === 'bearer') this.#trustedRealm(challenge.realm);
    this.#challenge = challenge;
    return true;
  }

  /**
   * The grant for this repository and access. Throws DENIED when there is none to be had, naming the credential, and
   * as an upstream does when its token endpoint fails.
   */
  async grant(repository: Repository, access: Access = PULL): Promise<Grant> {
    return this.#obtain(keyOf(repository, access), () => this.#withCredential(repository, access));
  }

  /** The anonymous grant for pulling, after the registry denied this credential. */
  async anonymous(repository: Repository, denied: string): Promise<Grant> {
    return this.#obtain(`anonymous ${repository.name}`, () => this.#anonymously(repository, PULL, denied));
  }

  /** From now on, for a while, pulls use this anonymous grant: it is accepted, and our credential is not. */
  cache(repository: Repository, grant: Grant): void {
    this.#store(keyOf(repository, PULL), grant, ANONYMOUS_MS, Infinity);
  }

  /** Removes a grant that the registry no longer accepts. */
  remove(repository: Repository, access: Access, grant: Grant): void {
    const key = keyOf(repository, access);
    if (this.#cache.get(key)?.grant === grant) this.#cache.delete(key);
  }

  /** As Upstream.identity. The grants of a login that is no longer ours are not used any more. */
  async identity(repository: Repository): Promise<string> {
    const credential = this.#options.credentials.find(repository);
    if (credential === undefined) return 'anonymous';
    const login = await readLogin(credential).catch(() => undefined);
    return login === undefined ? 'unreadable' : this.#identify(credential, login);
  }

  #identify(credential: Credential, { username, secret }: Login): string {
    const identity = createHash('sha256').update(`${username}:${secret}`).digest('hex');
    const known = this.#identities.get(credential) ?? identity;
    this.#identities.set(credential, identity);
    if (known !== identity) this.#cache.clear();
    return identity;
  }

  async #obtain(key: string, make: () => Promise<{ grant: Grant; lifetimeMs: number }>): Promise<Grant> {
    if (this.#challenge === undefined && !this.#isDiscovered) {
      await this.#discovery.run('', () => this.#discover()).result;
    }
    if (this.#challenge === undefined) return { ...NONE };
    const cached = this.#cache.get(key);
    const renew = async () => {
      const before = this.#changes;
      const { grant, lifetimeMs } = await make();
      if (before === this.#changes) this.#store(key, grant, lifetimeMs);
      return grant;
    };
    if (cached === undefined) return this.#flights.run(key, renew).result;
    // What goes wrong with that is met again when the grant has ended.
    if (this.#options.clock.monotonic() >= cached.renewAtMs) this.#flights.run(key, renew).result.catch(() => {});
    return cached.grant;
  }

  #store(key: string, grant: Grant, lifetimeMs: number, renewMs = lifetimeMs * RENEWED_SHARE): void {
    const renewAtMs = this.#options.clock.monotonic() + renewMs;
    this.#cache.set(key, { grant, renewAtMs }, lifetimeMs * USABLE_SHARE);
  }

  /** Asks for the challenge where every registry must give it, so that no request for content is spent on it. */
  async #discover(): Promise<void> {
    const { dialer, url } = this.#options;
    const response = await dialer.dial({ method: 'GET', url: new URL('/v2/', url), headers: {} });
    await discard(response);
    this.#isDiscovered = true;
    this.record(response.header('www-authenticate'));
  }

  async #withCredential(
    repository: Repository,
    access: Access,
    isAgain = false,
  ): Promise<{ grant: Grant; lifetimeMs: number }> {
    const credential = this.#options.credentials.find(repository);
    if (credential === undefined) return this.#anonymously(repository, access, undefined);
    const { name } = credential;
    const login = await readLogin(credential);
    const identity = this.#identify(credential, login);
    const { username, secret } = login;
    const basic = Buffer.from(`${username}:${secret}`).toString('base64');
    this.#options.mask.add(secret, basic);
    const ours = { ...NONE, credential: name, authorization: `Basic ${basic}` };
    const result = await this.#request(repository, access, ours);
    // Another login was taken up meanwhile, which may do more, or less. Once: a helper may give another one each time.
    const isOther = this.#identities.get(credential) !== identity;
    if (isOther && !isAgain) return this.#withCredential(repository, access, true);
    if ('grant' in result) return result;
    const error = toDeniedError(result.error, repository, name, access);
    if (!isDenial(result.error)) throw error;
    const { message } = toError(result.error, imageName(repository), 'NAME_UNKNOWN');
    this.#options.onDenied(name, this.#options.mask.clean(message));
    if (access.actions !== 'pull') throw error;
    return this.#anonymously(repository, access, name);
  }

  async #anonymously(repository: Repository, access: Access, denied: string | undefined) {
    const result = await this.#request(repository, access, { ...NONE, denied });
    if ('grant' in result) return result;
    throw toDeniedError(result.error, repository, denied, access);
  }

  /** The grant that the challenge leads to: the identity itself, or a token that its realm gives to it. */
  async #request(repository: Repository, access: Access, identity: Grant) {
    if (this.#challenge?.scheme !== 'bearer') return { grant: identity, lifetimeMs: DEFAULT_LIFETIME_MS };
    const { service } = this.#challenge;
    const realm = this.#trustedRealm(this.#challenge.realm);
    // Not the scope of the challenge, which at ghcr.io is a placeholder.
    const scopes = scopesOf(repository, access);
    const { authorization } = identity;
    const subject = { repository: repository.name, image: imageName(repository) };
    const result = await requestToken(this.#options, { realm, service, scopes, authorization, subject });
    if ('error' in result) return result;
    const { value, lifetimeMs } = result.token;
    return { grant: { ...identity, authorization: `Bearer ${value}` }, lifetimeMs };
  }

  #trustedRealm(realm: string): URL {
    return trustedRealm(realm, this.#options.url, this.#options.realms);
  }
}

function keyOf(repository: Repository, access: Access): string {
  return scopesOf(repository, access).join(' ');
}
