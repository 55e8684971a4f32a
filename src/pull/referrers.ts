// What refers to a digest (distribution spec 1.1, "Listing Referrers"). An upstream that has the API is asked, and its
// answer recorded like a list of tags. For one that lacks it, such as ghcr.io, the answer is the index under the
// fallback tag, which is pulled, kept and served stale like any other tag; that there is none is recorded as well. Both
// are completed by what was pushed and deleted through here a moment ago.
import { ExpiringCache } from '../base/expiring-cache.ts';
import { SingleFlight } from '../base/single-flight.ts';
import type { ReferrerStore, TagStore } from '../metadata/metadata.ts';
import type { Digest } from '../oci/digest.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { fallbackTag, indexEntries } from '../oci/referrers.ts';
import { isNotFound, isUnavailable } from '../upstream/upstream.ts';
import type { LocalReferrers } from './local-referrers.ts';
import { NegativeCache } from './negative-cache.ts';
import type { Outcome, Staleness } from './outcome.ts';
import { ReferrerDetails } from './referrer-details.ts';
import type { TagDependencies, Tags } from './tags.ts';

export interface PulledReferrers {
  /** Descriptors, as they are in an image index. */
  readonly descriptors: readonly unknown[];
  readonly outcome: Outcome;
  readonly stale?: Staleness;
}

export interface ReferrersDependencies extends Pick<TagDependencies, 'clock' | 'freshness' | 'manifests' | 'upstream'> {
  readonly tags: Tags;
  readonly metadata: ReferrerStore & TagStore;
  readonly localReferrers: LocalReferrers;
}

const FRESH_MS = 10_000;
/** For how long an upstream that lacks the API is not asked again whether it has it. */
const LACKING_MS = 600_000;
const REMEMBERED_LIMIT = 10_000;

export class Referrers {
  readonly #dependencies: ReferrersDependencies;
  readonly #asking = new SingleFlight<PulledReferrers>();
  readonly #details: ReferrerDetails;
  readonly #denied: NegativeCache;
  /** Repositories whose upstream lacks the API. */
  readonly #lacking: ExpiringCache<true>;

  constructor(dependencies: ReferrersDependencies) {
    const { clock } = dependencies;
    this.#dependencies = dependencies;
    this.#details = new ReferrerDetails(dependencies.manifests);
    this.#denied = new NegativeCache(dependencies);
    this.#lacking = new ExpiringCache({ clock, max: REMEMBERED_LIMIT, ttlMs: LACKING_MS });
  }

  /** All that refers to the subject; nothing if that does not exist. Else throws as the verbs of Upstream do. */
  async pull(repository: Repository, subject: Digest): Promise<PulledReferrers> {
    const pulled = await this.#listed(repository, subject);
    const descriptors = await this.#details.complete(repository, pulled.descriptors);
    return { ...pulled, descriptors };
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

  async #listed(repository: Repository, subject: Digest): Promise<PulledReferrers> {
    const { metadata, freshness } = this.#dependencies;
    if (this.#lacking.get(imageName(repository))) return this.#fallback(repository, subject);
    const key = imageName(repository, { digest: subject });
    const known = await metadata.findReferrers(repository, subject);
    if (known !== undefined && freshness.isFresh(key, known, FRESH_MS)) {
      // That there was nothing may have been heard before the push that an earlier process has taken.
      const isOutdated =
        known.descriptors.length === 0 && (await metadata.findTag(repository, fallbackTag(subject))) !== undefined;
      if (!isOutdated) return { descriptors: known.descriptors, outcome: 'hit' };
    }
    const { result, joined } = this.#asking.run(key, () => this.#ask(repository, subject));
    return joined ? { ...(await result), outcome: 'joined' } : result;
  }

  async #ask(repository: Repository, subject: Digest): Promise<PulledReferrers> {
    const { upstream, freshness } = this.#dependencies;
    const asked = freshness.asking();
    let listed: readonly unknown[] | undefined;
    try {
      listed = await this.#denied.unlessKnown(repository, { digest: subject }, () =>
        upstream(repository).listReferrers(repository, subject),
      );
      this.recordApi(repository, listed !== undefined);
      // What was pushed before the upstream had the API may be under the fallback tag alone.
      if (listed?.length === 0) listed = (await this.#underTag(repository, subject))?.descriptors ?? [];
    } catch (error) {
      return this.#instead(repository, subject, error);
    }
    if (listed === undefined) return this.#fallback(repository, subject);
    return this.#record(repository, subject, this.#completed(repository, subject, listed), asked);
  }

  async #fallback(repository: Repository, subject: Digest): Promise<PulledReferrers> {
    const asked = this.#dependencies.freshness.asking();
    let found: PulledReferrers | undefined;
    try {
      found = await this.#underTag(repository, subject);
    } catch (error) {
      const last = await this.#lastHeard(repository, subject, error);
      if (last === undefined) throw error;
      return last;
    }
    const descriptors = this.#completed(repository, subject, found?.descriptors ?? []);
    if (found !== undefined) return { ...found, descriptors };
    return descriptors.length === 0
      ? this.#record(repository, subject, descriptors, asked)
      : { descriptors, outcome: 'bypass' };
  }

  /** The entries of the index under the fallback tag; undefined when there is none. */
  async #underTag(repository: Repository, subject: Digest): Promise<PulledReferrers | undefined> {
    try {
      const { manifest, outcome, stale } = await this.#dependencies.tags.pull(repository, fallbackTag(subject));
      return { descriptors: indexEntries(manifest.bytes) ?? [], outcome, ...(stale && { stale }) };
    } catch (error) {
      if (!isNotFound(error)) throw error;
      return undefined;
    }
  }

  #completed(repository: Repository, subject: Digest, listed: readonly unknown[]): readonly unknown[] {
    return this.#dependencies.localReferrers.completed(repository, subject, listed);
  }

  /** Records what was heard, unless that is recorded already and fresh. */
  async #record(
    repository: Repository,
    subject: Digest,
    descriptors: readonly unknown[],
    asked: number,
  ): Promise<PulledReferrers> {
    const { metadata, freshness } = this.#dependencies;
    const key = imageName(repository, { digest: subject });
    if (!freshness.isCurrent(key, asked)) return { descriptors, outcome: 'bypass' };
    if (descriptors.length === 0) {
      const known = await metadata.findReferrers(repository, subject);
      const isKnown = known?.descriptors.length === 0 && freshness.isFresh(key, known, FRESH_MS);
      if (isKnown) return { descriptors, outcome: 'miss' };
    }
    return {
      descriptors,
      outcome: await freshness.record(key, metadata.saveReferrers(repository, subject, descriptors)),
    };
  }

  /** What stands in for an answer of the API that failed: what was heard last, or is under the fallback tag. */
  async #instead(repository: Repository, subject: Digest, error: unknown): Promise<PulledReferrers> {
    const last = await this.#lastHeard(repository, subject, error);
    if (last !== undefined && last.descriptors.length > 0) return last;
    const pulled = await this.#dependencies.metadata.findTag(repository, fallbackTag(subject));
    if (isUnavailable(error) && pulled !== undefined) return this.#fallback(repository, subject);
    if (last === undefined) throw error;
    return last;
  }

  async #lastHeard(repository: Repository, subject: Digest, error: unknown): Promise<PulledReferrers | undefined> {
    const { metadata, freshness, upstream } = this.#dependencies;
    const known = await metadata.findReferrers(repository, subject);
    const key = imageName(repository, { digest: subject });
    const stale = known && freshness.staleness(key, known, error, !upstream(repository).offline);
    if (known === undefined || stale === undefined) return undefined;
    return { descriptors: this.#completed(repository, subject, known.descriptors), outcome: 'stale', stale };
  }
}
