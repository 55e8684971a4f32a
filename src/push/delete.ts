// Deletes: done by the upstream first, then here. Content is removed when no repository links it any more.
import type { LinkStore, Metadata, TagStore } from '../metadata/metadata.ts';
import { algorithmOf, type Digest, digestOf } from '../oci/digest.ts';
import { RegistryError, StorageFailure } from '../oci/errors.ts';
import { readManifest } from '../oci/reading.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import type { Manifest, PulledManifest } from '../pull/manifests.ts';
import type { Budget } from '../retention/budget.ts';
import { isNotFound } from '../upstream/upstream.ts';
import type { ManifestPushDependencies } from './manifest.ts';

type Shared = Pick<
  ManifestPushDependencies,
  'manifests' | 'tagLists' | 'tagMutex' | 'localWrites' | 'fallbackReferrers' | 'writeOnce' | 'log' | 'writes'
>;

export interface DeleteDependencies extends Shared {
  readonly metadata: LinkStore & TagStore & Pick<Metadata, 'sync'>;
  readonly budget: Budget;
}

export class Deletes {
  readonly #dependencies: DeleteDependencies;

  constructor(dependencies: DeleteDependencies) {
    this.#dependencies = dependencies;
  }

  /** Deletes a manifest with all its tags. Throws as UpstreamWrites.deleteManifest does. */
  async manifest(repository: Repository, digest: Digest): Promise<void> {
    const { manifests, tagLists, localWrites, writeOnce } = this.#dependencies;
    // Its subject is known only as long as it can be read.
    const known = await knownOf(manifests.pull(repository, digest));
    // By whichever of its digests: an upstream that knows only sha256 is asked by that.
    for (const each of new Set([digest, ...(known ? [digestOf(known.bytes)] : [])])) {
      await writeOnce.assertMayDelete(repository, { digest: each });
    }
    const tags = await this.#tagsTo(repository, digest);
    const deleting = this.#delete(repository, digest, known).then(async () => {
      localWrites.deleted(repository, digest);
      for (const tag of tags) await localWrites.tagged(repository, tag, undefined);
    });
    await this.#forgetting(repository, [{ digest }, ...tags.map(tag => ({ tag }))], deleting, async () => {
      tagLists.changed(repository);
      await this.#unlinkManifest(repository, digest);
    });
    await this.#removeReferrer(repository, digest, known);
  }

  /** Deletes a tag, and its manifest only if the upstream does so. Throws as UpstreamWrites.deleteManifest does. */
  async tag(repository: Repository, tag: string): Promise<void> {
    const { metadata, manifests, tagLists, tagMutex, localWrites, writeOnce } = this.#dependencies;
    const writes = this.#dependencies.writes(repository);
    await tagMutex.run(imageName(repository, { tag }), async () => {
      await writeOnce.assertMayDelete(repository, { tag });
      // Where it points now is what an older answer is going to say.
      const known = await knownOf(manifests.fetch(repository, { tag }));
      const standing = await localWrites.standing(repository, tag);
      const isLag = (error: unknown) => standing?.digest !== undefined && isNotFound(error);
      const deleting = localWrites
        .retrying(() => writes.deleteManifest(repository, { tag }), isLag)
        .then(async gone => {
          await localWrites.tagged(repository, tag, undefined, known?.digest);
          return gone;
        });
      const gone = await this.#forgetting(repository, [{ tag }], deleting, async () => {
        tagLists.changed(repository);
        await metadata.forgetTag(repository, tag);
      });
      if (gone !== 'manifest' || known === undefined) return;
      localWrites.deleted(repository, known.digest);
      await this.#unlinkManifest(repository, known.digest);
      await this.#removeReferrer(repository, known.digest, known);
    });
  }

  /** Deletes a blob. Throws as UpstreamWrites.deleteBlob does. */
  async blob(repository: Repository, digest: Digest): Promise<void> {
    const { metadata, writes, localWrites } = this.#dependencies;
    const deleting = this.#retrying(repository, digest, () => writes(repository).deleteBlob(repository, digest));
    const noted = deleting.then(() => localWrites.deleted(repository, digest));
    const forget = () => this.#removeUnlinked(digest, metadata.unlinkBlob(repository, digest));
    await this.#forgetting(repository, [{ digest }], noted, forget);
  }

  async #delete(repository: Repository, digest: Digest, known: Manifest | undefined): Promise<void> {
    const writes = this.#dependencies.writes(repository);
    try {
      await this.#retrying(repository, digest, () => writes.deleteManifest(repository, { digest }));
    } catch (error) {
      // An upstream that knows only sha256 has it under that digest.
      if (algorithmOf(digest) === 'sha256' || known === undefined || !(error instanceof RegistryError)) throw error;
      await writes.deleteManifest(repository, { digest: digestOf(known.bytes) });
    }
  }

  /** Removes a manifest that is gone upstream from the referrers of its subject. */
  async #removeReferrer(repository: Repository, digest: Digest, known: Manifest | undefined): Promise<void> {
    const subject = known && (await readManifest(known.bytes, undefined)).subject;
    if (subject !== undefined) await this.#dependencies.fallbackReferrers.remove(repository, subject, digest);
  }

  /** Deletes, again if the upstream does not know yet what it accepted a moment ago. */
  #retrying<T>(repository: Repository, digest: Digest, deleting: () => Promise<T>): Promise<T> {
    const { localWrites } = this.#dependencies;
    const isPushed = localWrites.stateOf(repository, digest) === 'pushed';
    return localWrites.retrying(deleting, error => isPushed && isNotFound(error));
  }

  /** The tags that are known to point to the manifest, all of which go with it. */
  async #tagsTo(repository: Repository, digest: Digest): Promise<string[]> {
    const { metadata } = this.#dependencies;
    const found: string[] = [];
    for (const tag of await metadata.pulledTags(repository)) {
      if ((await metadata.findTag(repository, tag))?.digest === digest) found.push(tag);
    }
    return found;
  }

  /** Deletes upstream, then here, durably: what the upstream does not have is not served from here either. */
  async #forgetting<T>(
    repository: Repository,
    references: readonly Reference[],
    deleting: Promise<T>,
    forget: () => Promise<void>,
  ): Promise<T> {
    try {
      const result = await deleting;
      await this.#forget(forget);
      return result;
    } catch (error) {
      if (isNotFound(error)) {
        for (const reference of references) this.#dependencies.localWrites.forget(repository, reference);
        await this.#forget(forget);
      }
      throw error;
    }
  }

  async #forget(forget: () => Promise<void>): Promise<void> {
    const { metadata, log } = this.#dependencies;
    await forget();
    try {
      await metadata.sync();
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
      log.warn({}, error.message);
    }
  }

  #unlinkManifest(repository: Repository, digest: Digest): Promise<void> {
    return this.#removeUnlinked(digest, this.#dependencies.metadata.unlinkManifest(repository, digest));
  }

  async #removeUnlinked(digest: Digest, unlinking: Promise<boolean>): Promise<void> {
    if (!(await unlinking)) await this.#dependencies.budget.remove(digest);
  }
}

/** The manifest, if it can be read. */
async function knownOf(pulling: Promise<PulledManifest>): Promise<Manifest | undefined> {
  const pulled = await pulling.catch(() => undefined);
  return pulled?.manifest;
}
