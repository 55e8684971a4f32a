// GitHub's API for packages, through which manifests of ghcr.io are deleted: the registry itself answers 405. A version
// there is one manifest with all its tags, and is deleted as a whole.
// https://docs.github.com/en/rest/packages/packages
import { readLogin } from '../../credentials/credential.ts';
import { RegistryError } from '../../oci/errors.ts';
import { imageName, ownerOf, type Reference, type Repository } from '../../oci/reference.ts';
import { lacksCredential } from '../auth/access.ts';
import type { GrantsOptions } from '../auth/grants.ts';
import { Mask } from '../auth/mask.ts';
import { LONGEST_WAIT_MS, retryAfterMs, UNNAMED_WAIT_MS } from '../error-response.ts';
import { discard, membersOf, readAll, type UpstreamResponse } from '../transport/response.ts';

export interface PackagesOptions extends Pick<GrantsOptions, 'credentials' | 'dialer' | 'clock'> {
  /** `https://api.github.com` */
  readonly api: URL;
}

interface Version {
  readonly id: number;
  readonly digest: string;
  readonly tags: readonly string[];
}

/** One request for a path below the API's; resolves to a success or a 404, and throws what anything else means. */
type Call = (method: 'GET' | 'DELETE', path: string) => Promise<UpstreamResponse>;

const VERSIONS_PER_PAGE = 100;
const PAGES_LIMIT = 1_000;
const BODY_LIMIT_BYTES = 8 * 1024 * 1024;
const MESSAGE_LIMIT = 300;

export class Packages {
  readonly #options: PackagesOptions;
  readonly #mask = new Mask();

  constructor(options: PackagesOptions) {
    this.#options = options;
  }

  /**
   * Deletes the version of a digest, or of a tag if that is the version's only one. Throws MANIFEST_UNKNOWN when there
   * is none, UNSUPPORTED when GitHub does not delete it or more would go than was named, DENIED with the credential
   * that was denied, and as an upstream does when GitHub limits our rate or fails.
   */
  async delete(repository: Repository, reference: Reference): Promise<void> {
    try {
      await this.#delete(repository, reference);
    } catch (error) {
      throw this.#mask.cleanError(error);
    }
  }

  async #delete(repository: Repository, reference: Reference): Promise<void> {
    const { api, credentials } = this.#options;
    const what = imageName(repository, reference);
    const credential = credentials.find(repository);
    if (credential === undefined) {
      throw new RegistryError(
        'DENIED',
        `${what} can only be deleted through ${api.host}, and ${lacksCredential(repository)}`,
      );
    }
    const { secret } = await readLogin(credential);
    this.#mask.add(secret);
    const call: Call = async (method, path) => {
      const headers = {
        authorization: `Bearer ${secret}`,
        accept: 'application/vnd.github+json',
        'x-github-api-version': '2022-11-28',
      };
      const url = new URL(`${api.pathname.replace(/\/$/, '')}${path}`, api);
      const subject = { repository: repository.name, image: what };
      const response = await this.#options.dialer.dial({ method, url, headers, subject });
      if (response.status < 300 || response.status === 404) return response;
      throw await this.#toError(response, what, credential.name);
    };

    for (const base of pathsOf(repository)) {
      const version = await this.#find(base, reference, call);
      if (version === undefined) continue;
      const others = version.tags.filter(tag => tag !== reference.tag);
      if (reference.tag !== undefined && others.length > 0) {
        throw new RegistryError(
          'UNSUPPORTED',
          `${what} cannot be deleted alone: GitHub deletes ${version.digest} with all its tags, and ${others.join(', ')} would go too; delete it by its digest if that is wanted`,
          { detail: { digest: version.digest, tags: version.tags.map(tag => this.#mask.clean(tag)) } },
        );
      }
      const deleted = await call('DELETE', `${base}/versions/${version.id}`);
      await discard(deleted);
      if (deleted.status !== 404) return;
    }
    throw new RegistryError(
      'MANIFEST_UNKNOWN',
      `${what} is not among the versions that ${api.host} shows to credential "${credential.name}": ` +
        'it does not exist, or the credential may not see it (read:packages, delete:packages)',
    );
  }

  /** The version of the reference among those of one owner; undefined when it or the package is not found. */
  async #find(base: string, reference: Reference, call: Call): Promise<Version | undefined> {
    for (let page = 1; page <= PAGES_LIMIT; page++) {
      const response = await call('GET', `${base}/versions?per_page=${VERSIONS_PER_PAGE}&page=${page}`);
      const body = await readAll(response, BODY_LIMIT_BYTES);
      if (response.status === 404) return undefined;
      const versions = parseVersions(body, this.#options.api.host);
      const found = versions.find(({ digest, tags }) =>
        reference.tag === undefined ? digest === reference.digest : tags.includes(reference.tag),
      );
      if (found !== undefined || versions.length < VERSIONS_PER_PAGE) return found;
    }
    const most = PAGES_LIMIT * VERSIONS_PER_PAGE;
    throw new RegistryError(
      'UPSTREAM_INVALID',
      `${this.#options.api.host} lists more than ${most} versions, among the first of which this one is not`,
    );
  }

  async #toError(response: UpstreamResponse, what: string, credential: string): Promise<RegistryError> {
    const { status } = response;
    const { host } = response.url;
    const message = messageOf(await readAll(response, BODY_LIMIT_BYTES).catch(() => undefined));
    const said = `${status} "${this.#mask.clean(message, MESSAGE_LIMIT)}"`;
    const waitMs = rateLimitOf(response, message, this.#options.clock.now());
    if (waitMs !== undefined) {
      return new RegistryError('TOOMANYREQUESTS', `${host} limits our requests: ${said}`, { retryAfterMs: waitMs });
    }
    if (status === 401 || status === 403) {
      const advice = response.header('x-github-sso')?.startsWith('required')
        ? 'authorize the credential for single sign-on of that organization'
        : 'it needs the rights read:packages and delete:packages, and to be an administrator of the package';
      const verb =
        status === 401 ? `accept credential "${credential}"` : `let credential "${credential}" delete ${what}`;
      return new RegistryError('DENIED', `${host} does not ${verb}: ${said}; ${advice}`, { detail: { credential } });
    }
    if (status === 400 || status === 422) {
      return new RegistryError('UNSUPPORTED', `${host} does not delete ${what}: ${said}`);
    }
    return status >= 500
      ? new RegistryError('UPSTREAM_UNAVAILABLE', `${host} cannot delete ${what} now: ${said}`)
      : new RegistryError('UPSTREAM_INVALID', `${host} answers a request to delete ${what} with ${said}`);
  }
}

/** Where the package may be: nothing tells whether an owner is an organization or a user. */
function pathsOf(repository: Repository): string[] {
  const owner = encodeURIComponent(ownerOf(repository));
  const name = encodeURIComponent(repository.name.slice(ownerOf(repository).length + 1));
  return ['orgs', 'users'].map(kind => `/${kind}/${owner}/packages/container/${name}`);
}

function parseVersions(body: Buffer | undefined, host: string): Version[] {
  try {
    const versions = JSON.parse(body?.toString('utf8') ?? '') as {
      id: number;
      name: string;
      metadata?: { container?: { tags?: string[] } };
    }[];
    return versions.map(({ id, name, metadata }) => {
      if (!Number.isSafeInteger(id)) throw new Error('a version without a number');
      return { id, digest: String(name), tags: (metadata?.container?.tags ?? []).map(String) };
    });
  } catch (error) {
    throw new RegistryError('UPSTREAM_INVALID', `${host} answered with no list of versions`, { cause: error });
  }
}

/** GitHub's own words; a body that is not JSON says nothing that belongs in a sentence. */
function messageOf(body: Buffer | undefined): string {
  const { message } = membersOf(body);
  return typeof message === 'string' ? message : '';
}

/**
 * How long GitHub wants no more requests; undefined when the response is not a rate limit.
 * https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
 */
function rateLimitOf({ status, header }: UpstreamResponse, message: string, nowMs: number): number | undefined {
  const isLimit =
    status === 429 ||
    (status === 403 &&
      (header('x-ratelimit-remaining') === '0' || header('retry-after') !== undefined || /rate limit/i.test(message)));
  if (!isLimit) return undefined;
  const resetMs = Number(header('x-ratelimit-reset')) * 1000 - nowMs;
  const waitMs = retryAfterMs(header('retry-after'), nowMs) ?? (resetMs > 0 ? resetMs : UNNAMED_WAIT_MS);
  return Math.min(waitMs, LONGEST_WAIT_MS);
}
