// Remembers for a moment what an upstream does not have or denies, so that a client that asks in a loop does not hammer
// it: ghcr.io denies what does not exist. A denial counts only for the credential that was denied, and for what was
// asked for: some registries deny single manifests or blobs of a repository.
import type { Clock } from '../base/clock.ts';
import { ExpiringCache } from '../base/expiring-cache.ts';
import type { RegistryError } from '../oci/errors.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import { isDenied, isNotFound, type Upstream } from '../upstream/upstream.ts';

export interface NegativeCacheDependencies {
  readonly clock: Clock;
  upstream(repository: Repository): Pick<Upstream, 'identity'>;
}

interface Known {
  readonly error: RegistryError;
  /** Who was denied; undefined when it was not found. */
  readonly denied: string | undefined;
}

/** Shorter than anyone takes to change what a credential may do, and to try again. */
const REMEMBERED_MS = 10_000;
const REMEMBERED_LIMIT = 10_000;

export class NegativeCache {
  readonly #dependencies: NegativeCacheDependencies;
  readonly #known: ExpiringCache<Known>;
  #forgets = 0;

  constructor(dependencies: NegativeCacheDependencies) {
    this.#dependencies = dependencies;
    const { clock } = dependencies;
    this.#known = new ExpiringCache({ clock, max: REMEMBERED_LIMIT, ttlMs: REMEMBERED_MS });
  }

  /**
   * Does the work, which asks for this reference or for a list of the repository, unless that is known to be missing or
   * denied; then throws what was thrown before.
   */
  async unlessKnown<T>(repository: Repository, reference: Reference | undefined, work: () => Promise<T>): Promise<T> {
    const key = imageName(repository, reference);
    const known = this.#known.get(key);
    if (known !== undefined && (await this.#isSame(repository, known))) throw known.error;
    const forgets = this.#forgets;
    try {
      return await work();
    } catch (error) {
      const isMissing = isNotFound(error);
      if (isMissing || isDenied(error)) {
        const denied = isMissing ? undefined : await this.#identity(repository);
        // It may have come while it was being looked for.
        if (forgets === this.#forgets) this.#known.set(key, { error, denied });
      }
      throw error;
    }
  }

  /** It exists now, or may exist. */
  forget(repository: Repository, reference?: Reference): void {
    this.#forgets++;
    this.#known.delete(imageName(repository, reference));
  }

  async #isSame(repository: Repository, { denied }: Known): Promise<boolean> {
    return denied === undefined || denied === (await this.#identity(repository));
  }

  #identity(repository: Repository): Promise<string> {
    return this.#dependencies.upstream(repository).identity(repository);
  }
}
