// The list of a repository's tags: asked for as a whole, recorded, and served from here, in lexical order as the
// distribution spec wants it (ghcr.io's own order is by age). When the upstream is unavailable it is the list that was
// heard last, else the tags that were pulled.
import { SingleFlight } from '../base/single-flight.ts';
import { reasonOf } from '../oci/errors.ts';
import { sortedOnce } from '../oci/reading.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { isNotFound } from '../upstream/upstream.ts';
import type { LocalWrites } from './local-writes.ts';
import { NegativeCache } from './negative-cache.ts';
import type { Outcome, Staleness } from './outcome.ts';
import type { TagDependencies } from './tags.ts';

export interface PulledTagList {
  readonly tags: readonly string[];
  readonly outcome: Outcome;
  readonly stale?: Staleness;
}

export interface TagListDependencies extends Pick<TagDependencies, 'metadata' | 'clock' | 'freshness' | 'upstream'> {
  readonly localWrites: Pick<LocalWrites, 'listed'>;
}

/** How long a list is served without asking. Short: a client that lists tags looks for new ones. */
const FRESH_MS = 10_000;

export class TagLists {
  readonly #dependencies: TagListDependencies;
  readonly #asking = new SingleFlight<PulledTagList>();
  readonly #missing: NegativeCache;

  constructor(dependencies: TagListDependencies) {
    this.#dependencies = dependencies;
    this.#missing = new NegativeCache(dependencies);
  }

  /** All tags, in lexical order of their bytes. Throws as the verbs of Upstream do. */
  async pull(repository: Repository): Promise<PulledTagList> {
    const { metadata, freshness } = this.#dependencies;
    const known = await metadata.findTagList(repository);
    const key = imageName(repository);
    if (known !== undefined && freshness.isFresh(key, known, FRESH_MS)) {
      return { tags: known.tags, outcome: 'hit' };
    }
    const { result, joined } = this.#asking.run(key, () => this.#ask(key, repository));
    return joined ? { ...(await result), outcome: 'joined' } : result;
  }

  /** A tag of the repository was pushed or deleted through here. */
  changed(repository: Repository): void {
    const key = imageName(repository);
    this.#missing.forget(repository);
    this.#asking.forget(key);
    this.#dependencies.freshness.changed(key);
  }

  async #ask(key: string, repository: Repository): Promise<PulledTagList> {
    const { metadata, upstream, freshness } = this.#dependencies;
    const asked = freshness.asking();
    try {
      const listed = await this.#missing.unlessKnown(repository, undefined, () =>
        upstream(repository).listTags(repository),
      );
      const tags = await sortedOnce(listed);
      if (!freshness.isCurrent(key, asked)) return { tags, outcome: 'bypass' };
      return { tags, outcome: await freshness.record(key, metadata.saveTagList(repository, tags)) };
    } catch (error) {
      if (isNotFound(error)) throw error;
      return this.#stale(key, repository, error);
    }
  }

  /** What is known without the upstream; throws its failure when nothing is. */
  async #stale(key: string, repository: Repository, error: unknown): Promise<PulledTagList> {
    const { metadata, upstream, freshness, localWrites } = this.#dependencies;
    const list = await metadata.findTagList(repository);
    const stale = list && freshness.staleness(key, list, error, !upstream(repository).offline);
    if (list !== undefined && stale !== undefined) {
      // What was pushed or deleted since it was heard is known.
      const tags = await sortedOnce(localWrites.listed(repository, list.tags));
      return { tags, outcome: 'stale', stale };
    }
    const pulled = await metadata.pulledTags(repository);
    if (pulled.length === 0) throw error;
    const ageMs = list === undefined ? 0 : freshness.ageMs(key, list);
    const why = `${reasonOf(error)}; these are the tags that were pulled here`;
    return { tags: pulled, outcome: 'stale', stale: { ageMs, why } };
  }
}
