// GitHub's interface for packages, through which manifests of ghcr.io are deleted: the registry itself answers
// 405. A version there is one manifest with all its tags, and goes as a whole.
// https://docs.github.com/en/rest/packages/packages
import type { Clock } from '../../base/clock.ts';
import type { Credentials } from '../../credentials/credential.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError, reasonOf } from '../../oci/errors.ts';
import { imageName, ownerOf, type Reference, type Repository } from '../../oci/reference.ts';
import { retryAfterMs } from '../error-response.ts';
import { type Answer, type Dialer, discard, readAll } from '../transport/dialer.ts';

export interface PackagesOptions {
  /** `https://api.github.com` */
  readonly api: URL;
  readonly credentials: Credentials;
  readonly dialer: Dialer;
  readonly clock: Clock;
}

interface Version {
  readonly id: number;
  readonly digest: string;
  readonly tags: readonly string[];
}

const PAGE = 100;
const PAGES_LIMIT = 1_000;
const PAGE_LIMIT_BYTES = 8 * 1024 * 1024;
const MESSAGE_LIMIT = 300;
const UNNAMED_WAIT_MS = 60_000;
const LONGEST_WAIT_MS = 3_600_000;

export class Packages {
  readonly #options: PackagesOptions;

  constructor(options: PackagesOptions) {
    this.#options = options;
  }

  /**
   * Deletes the version of a digest, or of a tag if that is the version's only one. Throws MANIFEST_UNKNOWN
   * when there is none, UNSUPPORTED when more would go than was named, and what GitHub refuses with.
   */
  async delete(repository: Repository, reference: Reference): Promise<void> {
    const what = imageName(repository, reference);
    const credential = this.#options.credentials.find(repository);
    if (credential === undefined) {
      throw new RegistryError(
        'DENIED',
        `${what} can only be deleted through ${this.#options.api.host}, and no credential of the config is for owner "${ownerOf(repository)}"`,
      );
    }
    const { secret } = await credential.read().catch(error => {
      throw new RegistryError(
        'DENIED',
        `credential "${credential.name}" cannot be read: ${reasonOf(error)}`,
        { cause: error },
      );
    });
    const call = async (method: 'GET' | 'DELETE', path: string) => {
      const headers = {
        authorization: `Bearer ${secret}`,
        accept: 'application/vnd.github+json',
        'x-github-api-version': '2022-11-28',
      };
      const answer = await this.#options.dialer.dial({ method, url: this.#urlOf(path), headers });
      if (answer.status < 300 || answer.status === 404) return answer;
      throw await refusal(answer, what, credential.name, secret, this.#options.clock.now());
    };

    for (const base of basesOf(repository)) {
      const version = await this.#find(base, reference, call);
      if (version === undefined) continue;
      const others = version.tags.filter(tag => tag !== reference.tag);
      if (reference.tag !== undefined && others.length > 0) {
        throw new RegistryError(
          'UNSUPPORTED',
          `${what} cannot be deleted alone: GitHub deletes ${version.digest} with all its tags, and ${others.join(', ')} would go too; delete it by its digest if that is wanted`,
          { detail: { digest: version.digest, tags: version.tags } },
        );
      }
      const gone = await call('DELETE', `${base}/versions/${version.id}`);
      await discard(gone);
      if (gone.status !== 404) return;
    }
    throw new RegistryError(
      'MANIFEST_UNKNOWN',
      `${what} is not among the versions that ${this.#options.api.host} shows to credential "${credential.name}": ` +
        'it is not there, or the credential may not see it (read:packages, delete:packages)',
    );
  }

  /** The version of the reference among those of one owner; undefined when it or the package is not there. */
  async #find(
    base: string,
    reference: Reference,
    call: (method: 'GET', path: string) => Promise<Answer>,
  ): Promise<Version | undefined> {
    for (let page = 1; page <= PAGES_LIMIT; page++) {
      const answer = await call('GET', `${base}/versions?per_page=${PAGE}&page=${page}`);
      const text = (await readAll(answer, PAGE_LIMIT_BYTES))?.toString('utf8');
      if (answer.status === 404) return undefined;
      const versions = parseVersions(text, this.#options.api.host);
      const found = versions.find(({ digest, tags }) =>
        reference.tag === undefined ? digest === reference.digest : tags.includes(reference.tag),
      );
      if (found !== undefined || versions.length < PAGE) return found;
    }
    return undefined;
  }

  #urlOf(path: string): URL {
    const { api } = this.#options;
    return new URL(`${api.pathname.replace(/\/$/, '')}${path}`, api);
  }
}

/** Where the package may be: nothing tells whether an owner is an organisation or a user. */
function basesOf(repository: Repository): string[] {
  const owner = encodeURIComponent(ownerOf(repository));
  const name = encodeURIComponent(repository.name.slice(ownerOf(repository).length + 1));
  return ['orgs', 'users'].map(kind => `/${kind}/${owner}/packages/container/${name}`);
}

function parseVersions(text: string | undefined, host: string): Version[] {
  try {
    const versions = JSON.parse(text ?? '') as {
      id: number;
      name: Digest;
      metadata?: { container?: { tags?: string[] } };
    }[];
    return versions.map(({ id, name, metadata }) => {
      if (!Number.isSafeInteger(id)) throw new Error('a version without a number');
      return { id, digest: String(name), tags: (metadata?.container?.tags ?? []).map(String) };
    });
  } catch (error) {
    throw new RegistryError('UPSTREAM_INVALID', `${host} answered with no list of versions`, {
      cause: error,
    });
  }
}

async function refusal(
  answer: Answer,
  what: string,
  credential: string,
  secret: string,
  nowMs: number,
): Promise<RegistryError> {
  const { host } = answer.url;
  const text = (await readAll(answer, PAGE_LIMIT_BYTES).catch(() => undefined))?.toString('utf8') ?? '';
  let message = '';
  try {
    message = String((JSON.parse(text) as { message?: unknown }).message ?? '');
  } catch {
    // What is no JSON says nothing that belongs into a sentence.
  }
  const said = `${answer.status} "${message.replaceAll(secret, '***').slice(0, MESSAGE_LIMIT)}"`;
  const sso = answer.header('x-github-sso');
  const advice = sso?.startsWith('required')
    ? 'authorize the credential for single sign-on of that organisation'
    : 'it needs the rights read:packages and delete:packages, and to be an administrator of the package';
  // https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
  const isLimit =
    answer.status === 429 ||
    (answer.status === 403 &&
      (answer.header('x-ratelimit-remaining') === '0' ||
        answer.header('retry-after') !== undefined ||
        /rate limit/i.test(message)));
  if (isLimit) {
    const resetMs = Number(answer.header('x-ratelimit-reset')) * 1000 - nowMs;
    const waitMs =
      retryAfterMs(answer.header('retry-after'), nowMs) ?? (resetMs > 0 ? resetMs : UNNAMED_WAIT_MS);
    return new RegistryError('TOOMANYREQUESTS', `${host} limits our requests: ${said}`, {
      retryAfterMs: Math.min(waitMs, LONGEST_WAIT_MS),
    });
  }
  switch (answer.status) {
    case 401:
      return new RegistryError(
        'UNAUTHORIZED',
        `${host} refuses credential "${credential}": ${said}; ${advice}`,
      );
    case 403:
      return new RegistryError(
        'DENIED',
        `${host} does not let credential "${credential}" delete ${what}: ${said}; ${advice}`,
      );
    case 400:
    case 422:
      return new RegistryError('UNSUPPORTED', `${host} does not delete ${what}: ${said}`);
    default:
      return answer.status >= 500
        ? new RegistryError('UPSTREAM_UNAVAILABLE', `${host} cannot delete ${what} now: ${said}`)
        : new RegistryError('UPSTREAM_INVALID', `${host} answers a request to delete ${what} with ${said}`);
  }
}
