// What refers to a digest (distribution spec 1.1, "Listing Referrers"). An upstream that has the API is asked, and its
// answer recorded like a list of tags. For one that lacks it, such as ghcr.io, the answer is the index under the
// fallback tag, which is pulled, kept and served stale like any other tag.
import { ExpiringCache } from '../base/expiring-cache.ts';
import { SingleFlight } from '../base/single-flight.ts';
import type { ReferrerStore, TagStore } from '../metadata/metadata.ts';
import type { Digest } from '../oci/digest.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { fallbackTag, indexEntries } from '../oci/referrers.ts';
import { isNotFound, isUnavailable } from '../upstream/upstream.ts';
import type { Outcome, Staleness } from './outcome.ts';
import type { TagDependencies, Tags } from './tags.ts';

export interface PulledReferrers {
  /** Descriptors, as they are in an image index. */
  readonly descriptors: readonly unknown[];
  readonly outcome: Outcome;
  readonly stale?: Staleness;
}

export interface ReferrersDependencies extends Pick<TagDependencies, 'clock' | 'freshness' | 'upstream'> {
  readonly tags: Tags;
  readonly metadata: ReferrerStore & TagStore;
}

const FRESH_MS = 10_000;
/** For how long an upstream that lacks the API is not asked again whether it has it. */
const LACKING_MS = 600_000;
const REMEMBERED_LIMIT = 10_000;

export class Referrers {
  readonly #dependencies: ReferrersDependencies;
  readonly #asking = new SingleFlight<PulledReferrers>();
  /** Repositories whose upstream lacks the API. */
  readonly #lacking: ExpiringCache<true>;

  constructor(dependencies: ReferrersDependencies) {
    const { clock } = dependencies;
    this.#dependencies = dependencies;
    this.#lacking = new ExpiringCache({ clock, max: REMEMBERED_LIMIT, ttlMs: LACKING_MS });
  }

  /** All that refers to the subject; nothing if that does not exist. Else throws as the verbs of Upstream do. */
  async pull(repository: Repository, subject: Digest): Promise<PulledReferrers> {
    const { metadata, freshness } = this.#dependencies;
    if (this.#lacking.get(imageName(repository))) return this.#fallback(repository, subject);
    const key = imageName(repository, { digest: subject });
    const known = await metadata.findReferrers(repository, subject);
    if (known !== undefined && freshness.isFresh(key, known, FRESH_MS)) {
      return { descriptors: known.descriptors, outcome: 'hit' };
    }
    const { result, joined } = this.#asking.run(key, () => this.#ask(key, repository, subject));
    return joined ? { ...(await result), outcome: 'joined' } : result;
  }

  /** Something that refers to the subject was pushed or deleted through here. */
  changed(repository: Repository, subject: Digest): void {
    const key = imageName(repository, { digest: subject });
    this.#asking.forget(key);
    this.#dependencies.freshness.changed(key);
  }

  /** The upstream has shown whether it has the API. */
  recordApi(repository: Repository, hasApi: boolean): void {
    const key = imageName(repository);
    if (hasApi) this.#lacking.delete(key);
    else this.#lacking.set(key, true);
  }

  async #ask(key: string, repository: Repository, subject: Digest): Promise<PulledReferrers> {
    const { metadata, upstream, freshness } = this.#dependencies;
    const asked = freshness.asking();
    let descriptors: readonly unknown[] | undefined;
    try {
      descriptors = await upstream(repository).listReferrers(repository, subject);
    } catch (error) {
      return this.#stale(key, repository, subject, error);
    }
    this.recordApi(repository, descriptors !== undefined);
    if (descriptors === undefined) return this.#fallback(repository, subject);
    if (!freshness.isCurrent(key, asked)) return { descriptors, outcome: 'bypass' };
    const save = metadata.saveReferrers(repository, subject, descriptors);
    return { descriptors, outcome: await freshness.record(key, save) };
  }

  async #fallback(repository: Repository, subject: Digest): Promise<PulledReferrers> {
    try {
      const { manifest, outcome, stale } = await this.#dependencies.tags.pull(repository, fallbackTag(subject));
      return { descriptors: indexEntries(manifest.bytes) ?? [], outcome, ...(stale && { stale }) };
    } catch (error) {
      if (!isNotFound(error)) throw error;
      return { descriptors: [], outcome: 'miss' };
    }
  }

  /** What was heard last, else the index under the fallback tag if that was ever here; throws the failure without either. */
  async #stale(key: string, repository: Repository, subject: Digest, error: unknown): Promise<PulledReferrers> {
    const { metadata, freshness, upstream } = this.#dependencies;
    const known = await metadata.findReferrers(repository, subject);
    const stale = known && freshness.staleness(key, known, error, !upstream(repository).offline);
    if (known !== undefined && stale !== undefined) {
      return { descriptors: known.descriptors, outcome: 'stale', stale };
    }
    const pulled = await metadata.findTag(repository, fallbackTag(subject));
    if (!isUnavailable(error) || pulled === undefined) throw error;
    return this.#fallback(repository, subject);
  }
}
