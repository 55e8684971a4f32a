// The list of a repository's tags: asked for as a whole, remembered, and handed out in pages from here, in
// lexical order as the distribution spec wants it (ghcr.io's own order is by age). When the upstream is away
// it is what was heard last, else the tags that were pulled.
import type { Clock } from '../base/clock.ts';
import { SingleFlight } from '../base/single-flight.ts';
import type { TagStore } from '../metadata/metadata.ts';
import { reasonOf, StorageFailure } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { isNotFound, type Upstream } from '../upstream/upstream.ts';
import { LocalWrites } from './local-writes.ts';
import { NegativeCache } from './negative-cache.ts';
import type { Outcome, Staleness } from './outcome.ts';

export interface PulledTagList {
  readonly tags: readonly string[];
  readonly outcome: Outcome;
  readonly stale?: Staleness;
}

export interface TagListDependencies {
  readonly metadata: TagStore;
  readonly clock: Clock;
  readonly staleIfErrorMs: number;
  upstream(repository: Repository): Upstream;
}

/** How long a list is handed out without asking. Short: who lists tags looks for new ones. */
const FRESH_MS = 10_000;

export class TagLists {
  readonly #dependencies: TagListDependencies;
  readonly #asking = new SingleFlight<PulledTagList>();
  readonly #missing: NegativeCache;
  readonly #changes = new LocalWrites();

  constructor(dependencies: TagListDependencies) {
    this.#dependencies = dependencies;
    this.#missing = new NegativeCache(dependencies.clock);
  }

  /** All tags, in lexical order of their bytes. Throws as the verbs of Upstream do. */
  async pull(repository: Repository): Promise<PulledTagList> {
    const { metadata, clock } = this.#dependencies;
    const known = await metadata.findTagList(repository);
    const key = imageName(repository);
    const fresh = known !== undefined && clock.now() - known.checkedAtMs < FRESH_MS;
    if (fresh && !this.#changes.has(key)) return { tags: known.tags, outcome: 'hit' };
    const { result, joined } = this.#asking.run(key, () =>
      this.#missing.unlessKnown(key, () => this.#ask(repository)),
    );
    return joined ? { ...(await result), outcome: 'joined' } : result;
  }

  /** A tag of the repository has come or gone by our doing. */
  changed(repository: Repository): void {
    const key = imageName(repository);
    this.#missing.forget(key);
    this.#asking.forget(key);
    this.#changes.note(key);
  }

  async #ask(repository: Repository): Promise<PulledTagList> {
    const { metadata, upstream } = this.#dependencies;
    const key = imageName(repository);
    const asked = this.#changes.ask();
    try {
      const tags = [...new Set(await upstream(repository).listTags(repository))].sort();
      if (!this.#changes.isCurrent(key, asked)) return { tags, outcome: 'bypass' };
      const kept = await metadata.saveTagList(repository, tags).then(
        () => true,
        error => {
          if (!(error instanceof StorageFailure)) throw error;
          return false;
        },
      );
      return { tags, outcome: kept ? 'miss' : 'bypass' };
    } catch (error) {
      if (isNotFound(error)) throw error;
      return this.#stale(repository, error);
    }
  }

  /** What is known without the upstream; throws its failure when nothing is. */
  async #stale(repository: Repository, error: unknown): Promise<PulledTagList> {
    const { metadata, clock, upstream, staleIfErrorMs } = this.#dependencies;
    const why = reasonOf(error);
    const list = await metadata.findTagList(repository);
    const ageMs = list === undefined ? 0 : clock.now() - list.checkedAtMs;
    if (list !== undefined && (ageMs <= staleIfErrorMs || upstream(repository).offline)) {
      return { tags: list.tags, outcome: 'stale', stale: { ageMs, why } };
    }
    const pulled = await metadata.pulledTags(repository);
    if (pulled.length === 0) throw error;
    return {
      tags: pulled,
      outcome: 'stale',
      stale: { ageMs, why: `${why}; these are the tags that were pulled here` },
    };
  }
}
