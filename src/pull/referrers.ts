// What refers to a digest (distribution spec 1.1, "Listing Referrers"). An upstream that has the API is asked,
// and its answer remembered like a list of tags. For one that has not, as ghcr.io, the answer is the index
// under the fallback tag, which is pulled, kept and served stale like any other tag.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import { SingleFlight } from '../base/single-flight.ts';
import type { ReferrerStore, TagStore } from '../metadata/metadata.ts';
import type { Digest } from '../oci/digest.ts';
import { reasonOf, StorageFailure } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { fallbackTag, indexEntries } from '../oci/referrers.ts';
import { isNotFound, isUnavailable, type Upstream } from '../upstream/upstream.ts';
import { LocalWrites } from './local-writes.ts';
import type { Outcome, Staleness } from './outcome.ts';
import type { Tags } from './tags.ts';

export interface PulledReferrers {
  /** Descriptors, as they are in an image index. */
  readonly descriptors: readonly unknown[];
  readonly outcome: Outcome;
  readonly stale?: Staleness;
}

export interface ReferrersDependencies {
  readonly tags: Tags;
  readonly metadata: ReferrerStore & TagStore;
  readonly clock: Clock;
  readonly staleIfErrorMs: number;
  upstream(repository: Repository): Upstream;
}

const FRESH_MS = 10_000;
/** For how long an upstream that lacks the API is not asked again whether it has it. */
const LACKING_MS = 600_000;
const REMEMBERED_LIMIT = 10_000;

export class Referrers {
  readonly #dependencies: ReferrersDependencies;
  readonly #asking = new SingleFlight<PulledReferrers>();
  /** Repositories whose upstream lacks the API, until when that is believed. */
  readonly #lacking = new LRUCache<string, number>({ max: REMEMBERED_LIMIT });
  readonly #changes = new LocalWrites();

  constructor(dependencies: ReferrersDependencies) {
    this.#dependencies = dependencies;
  }

  /** All that refers to the subject, which need not exist. Throws as the verbs of Upstream do, but not that there is nothing. */
  async pull(repository: Repository, subject: Digest): Promise<PulledReferrers> {
    const { metadata, clock } = this.#dependencies;
    if ((this.#lacking.get(imageName(repository)) ?? 0) > clock.now())
      return this.#fallback(repository, subject);
    const key = imageName(repository, { digest: subject });
    const known = await metadata.findReferrers(repository, subject);
    const fresh = known !== undefined && clock.now() - known.checkedAtMs < FRESH_MS;
    if (fresh && !this.#changes.has(key)) return { descriptors: known.descriptors, outcome: 'hit' };
    const { result, joined } = this.#asking.run(key, () => this.#ask(repository, subject));
    return joined ? { ...(await result), outcome: 'joined' } : result;
  }

  /** Something that refers to the subject has come or gone by our doing. */
  changed(repository: Repository, subject: Digest): void {
    const key = imageName(repository, { digest: subject });
    this.#asking.forget(key);
    this.#changes.note(key);
  }

  /** The upstream has shown whether it has the API. */
  learn(repository: Repository, hasApi: boolean): void {
    const key = imageName(repository);
    if (hasApi) this.#lacking.delete(key);
    else this.#lacking.set(key, this.#dependencies.clock.now() + LACKING_MS);
  }

  async #ask(repository: Repository, subject: Digest): Promise<PulledReferrers> {
    const { metadata, upstream } = this.#dependencies;
    const key = imageName(repository, { digest: subject });
    const asked = this.#changes.ask();
    let descriptors: readonly unknown[] | undefined;
    try {
      descriptors = await upstream(repository).listReferrers(repository, subject);
    } catch (error) {
      return this.#stale(repository, subject, error);
    }
    this.learn(repository, descriptors !== undefined);
    if (descriptors === undefined) return this.#fallback(repository, subject);
    if (!this.#changes.isCurrent(key, asked)) return { descriptors, outcome: 'bypass' };
    const kept = await metadata.saveReferrers(repository, subject, descriptors).then(
      () => true,
      error => {
        if (!(error instanceof StorageFailure)) throw error;
        return false;
      },
    );
    return { descriptors, outcome: kept ? 'miss' : 'bypass' };
  }

  async #fallback(repository: Repository, subject: Digest): Promise<PulledReferrers> {
    try {
      const { manifest, outcome, stale } = await this.#dependencies.tags.pull(
        repository,
        fallbackTag(subject),
      );
      return { descriptors: indexEntries(manifest.bytes) ?? [], outcome, ...(stale && { stale }) };
    } catch (error) {
      if (!isNotFound(error)) throw error;
      return { descriptors: [], outcome: 'miss' };
    }
  }

  /** What was heard last, else what was pulled or pushed under the fallback tag; throws the failure when there is neither. */
  async #stale(repository: Repository, subject: Digest, error: unknown): Promise<PulledReferrers> {
    const { metadata, clock, staleIfErrorMs, upstream } = this.#dependencies;
    const known = await metadata.findReferrers(repository, subject);
    const ageMs = known === undefined ? 0 : clock.now() - known.checkedAtMs;
    if (known !== undefined && (ageMs <= staleIfErrorMs || upstream(repository).offline)) {
      return { descriptors: known.descriptors, outcome: 'stale', stale: { ageMs, why: reasonOf(error) } };
    }
    if (!isUnavailable(error) || (await metadata.findTag(repository, fallbackTag(subject))) === undefined)
      throw error;
    return this.#fallback(repository, subject);
  }
}
