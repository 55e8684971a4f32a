// Pulling a manifest by tag. Fresh by its rule: served. Else one conditional question upstream, shared by all
// who ask now: unchanged → revalidated; changed → fetched. When the upstream fails: stale, within limits.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import type { KeyedMutex } from '../base/keyed-mutex.ts';
import { SingleFlight } from '../base/single-flight.ts';
import type { TagRow, TagStore } from '../metadata/metadata.ts';
import { reasonOf } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { isNotFound, type Upstream } from '../upstream/upstream.ts';
import type { Manifest, Manifests, PulledManifest } from './manifests.ts';
import { NegativeCache } from './negative-cache.ts';
import type { TagRule } from './tag-rules.ts';

export interface TagDependencies {
  readonly manifests: Manifests;
  readonly metadata: TagStore;
  readonly clock: Clock;
  /** By the names of tagged images: shared with whoever pushes tags. */
  readonly tagMutex: KeyedMutex;
  /** How old an answer may be when the upstream fails. */
  readonly staleIfErrorMs: number;
  upstream(repository: Repository): Upstream;
  rule(repository: Repository, tag: string): TagRule;
}

const DOUBTED_LIMIT = 10_000;

export class Tags {
  readonly #dependencies: TagDependencies;
  readonly #asking = new SingleFlight<PulledManifest>();
  readonly #missing: NegativeCache;
  /** Tags of which it is not known whether a push has moved them: they are asked about, fresh or not. */
  readonly #doubted = new LRUCache<string, true>({ max: DOUBTED_LIMIT });

  constructor(dependencies: TagDependencies) {
    this.#dependencies = dependencies;
    this.#missing = new NegativeCache(dependencies.clock);
  }

  /** The manifest that the tag points to. Throws as the verbs of Upstream do. */
  async pull(repository: Repository, tag: string): Promise<PulledManifest> {
    const { metadata, manifests } = this.#dependencies;
    const known = await metadata.findTag(repository, tag);
    if (known !== undefined && this.#isFresh(repository, tag, known)) {
      const manifest = await manifests.find(repository, known.digest);
      if (manifest !== undefined) return { manifest, outcome: 'hit' };
    }
    const key = imageName(repository, { tag });
    const { result, joined } = this.#asking.run(key, () =>
      this.#dependencies.tagMutex.run(key, () => this.#ask(repository, tag)),
    );
    const pulled = await result;
    return joined && pulled.outcome === 'miss' ? { ...pulled, outcome: 'joined' } : pulled;
  }

  /** The tag was pushed, and what it points to is known. */
  arrived(repository: Repository, tag: string): void {
    const key = imageName(repository, { tag });
    this.#missing.forget(key);
    this.#doubted.delete(key);
  }

  /** A push to it may or may not have come through. */
  doubt(repository: Repository, tag: string): void {
    this.#doubted.set(imageName(repository, { tag }), true);
  }

  #isFresh(repository: Repository, tag: string, { checkedAtMs }: TagRow): boolean {
    const { rule, clock } = this.#dependencies;
    const ageMs = clock.now() - checkedAtMs;
    if (this.#doubted.size > 0 && this.#doubted.has(imageName(repository, { tag }))) return false;
    // A time of confirmation that is still to come was written by a clock that has been set back since.
    return ageMs >= 0 && ageMs < rule(repository, tag).freshMs;
  }

  /** In its turn: what is known may have changed while it was waited for. */
  async #ask(repository: Repository, tag: string): Promise<PulledManifest> {
    const { manifests, metadata, rule } = this.#dependencies;
    const key = imageName(repository, { tag });
    const known = await metadata.findTag(repository, tag);
    const manifest = known && (await manifests.find(repository, known.digest));
    let pulled: PulledManifest;
    if (known === undefined || manifest === undefined) {
      const fetch = () => manifests.fetch(repository, { tag });
      pulled = await (known === undefined
        ? this.#missing.unlessKnown(key, fetch)
        : this.#missing.noting(key, fetch));
    } else if (this.#isFresh(repository, tag, known)) {
      return { manifest, outcome: 'hit' };
    } else {
      const { keepDeleted } = rule(repository, tag);
      pulled = await this.#missing.noting(key, () =>
        manifests
          .revalidate(repository, tag, manifest)
          .catch(error => this.#stale(repository, tag, manifest, known, keepDeleted, error)),
      );
    }
    if (pulled.outcome !== 'stale') this.#doubted.delete(key);
    return pulled;
  }

  /** What is known already, if it may stand in for the answer that failed; else throws the failure. */
  async #stale(
    repository: Repository,
    tag: string,
    manifest: Manifest,
    known: TagRow,
    keepDeleted: boolean,
    error: unknown,
  ): Promise<PulledManifest> {
    const { upstream, metadata, clock, staleIfErrorMs } = this.#dependencies;
    const ageMs = clock.now() - known.checkedAtMs;
    if (isNotFound(error) && !keepDeleted) {
      await metadata.forgetTag(repository, tag);
      throw error;
    }
    const allowed = isNotFound(error) || upstream(repository).offline || ageMs <= staleIfErrorMs;
    if (!allowed) throw error;
    return { manifest, outcome: 'stale', stale: { ageMs, why: reasonOf(error) } };
  }
}
