// Pulling a manifest by tag. Fresh by its rule: served. Else one conditional request upstream, shared by all that ask
// meanwhile: unchanged → revalidated; changed → fetched. When the upstream fails: stale, within limits.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import type { KeyedMutex } from '../base/keyed-mutex.ts';
import { SingleFlight } from '../base/single-flight.ts';
import type { TagRow, TagStore } from '../metadata/metadata.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { isNotFound, type Upstream } from '../upstream/upstream.ts';
import type { Freshness } from './freshness.ts';
import type { Manifests, PulledManifest } from './manifests.ts';
import { NegativeCache } from './negative-cache.ts';
import type { Staleness } from './outcome.ts';
import type { TagRule } from './tag-rules.ts';

export interface TagDependencies {
  readonly manifests: Manifests;
  readonly metadata: TagStore;
  readonly clock: Clock;
  /** Of the answers that are recorded; the manifests confirm there the tags that they record. */
  readonly freshness: Freshness;
  /** By the names of tagged images: shared with the pushes of tags, so that no older answer overwrites a push. */
  readonly tagMutex: KeyedMutex;
  upstream(repository: Repository): Upstream;
  rule(repository: Repository, tag: string): TagRule;
}

const DOUBTED_LIMIT = 10_000;

export class Tags {
  readonly #dependencies: TagDependencies;
  readonly #asking = new SingleFlight<PulledManifest>();
  readonly #missing: NegativeCache;
  /** Tags that a push may or may not have moved: the upstream is asked, fresh or not. */
  readonly #doubted = new LRUCache<string, true>({ max: DOUBTED_LIMIT });

  constructor(dependencies: TagDependencies) {
    this.#dependencies = dependencies;
    this.#missing = new NegativeCache(dependencies);
  }

  /** The manifest that the tag points to. Throws as the verbs of Upstream do. */
  async pull(repository: Repository, tag: string): Promise<PulledManifest> {
    const { metadata, manifests } = this.#dependencies;
    const key = imageName(repository, { tag });
    const known = await metadata.findTag(repository, tag);
    if (known !== undefined && this.#isFresh(key, known, repository, tag)) {
      const manifest = await manifests.find(repository, known.digest);
      if (manifest !== undefined) return { manifest, outcome: 'hit' };
    }
    const { result, joined } = this.#asking.run(key, () =>
      this.#dependencies.tagMutex.run(key, () => this.#ask(key, repository, tag)),
    );
    const pulled = await result;
    return joined && pulled.outcome === 'miss' ? { ...pulled, outcome: 'joined' } : pulled;
  }

  /** The tag was pushed, and what it points to is recorded. */
  arrived(repository: Repository, tag: string): void {
    this.#missing.forget(repository, { tag });
    this.#doubted.delete(imageName(repository, { tag }));
  }

  /** A push of the tag may or may not have been accepted. */
  doubt(repository: Repository, tag: string): void {
    this.#missing.forget(repository, { tag });
    this.#doubted.set(imageName(repository, { tag }), true);
  }

  #isFresh(key: string, known: TagRow, repository: Repository, tag: string): boolean {
    if (this.#doubted.size > 0 && this.#doubted.has(key)) return false;
    const { rule, freshness } = this.#dependencies;
    return freshness.isFresh(key, known, rule(repository, tag).freshMs);
  }

  /** Under the mutex: what is known may have changed while that was waited for. */
  async #ask(key: string, repository: Repository, tag: string): Promise<PulledManifest> {
    const { manifests, metadata } = this.#dependencies;
    const known = await metadata.findTag(repository, tag);
    const manifest = known && (await manifests.find(repository, known.digest));
    if (manifest !== undefined && known !== undefined && this.#isFresh(key, known, repository, tag)) {
      return { manifest, outcome: 'hit' };
    }
    try {
      const pulled = await this.#missing.unlessKnown(repository, { tag }, () =>
        manifest === undefined ? manifests.fetch(repository, { tag }) : manifests.revalidate(repository, tag, manifest),
      );
      this.#doubted.delete(key);
      return pulled;
    } catch (error) {
      if (manifest === undefined || known === undefined) throw error;
      return { manifest, outcome: 'stale', stale: await this.#stale(key, repository, tag, known, error) };
    }
  }

  /** Whether what is known already may stand in for the answer that failed; throws the failure if not. */
  async #stale(key: string, repository: Repository, tag: string, known: TagRow, error: unknown): Promise<Staleness> {
    const { upstream, metadata, freshness, rule } = this.#dependencies;
    const isDeleted = isNotFound(error);
    if (isDeleted && !rule(repository, tag).keepDeleted) {
      await metadata.forgetTag(repository, tag);
      throw error;
    }
    const hasLimit = !isDeleted && !upstream(repository).offline;
    const stale = freshness.staleness(key, known, error, hasLimit);
    if (stale === undefined) throw error;
    return stale;
  }
}
