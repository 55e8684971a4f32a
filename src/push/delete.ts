// Deletes: done by the upstream first, then here. Content is removed when no repository links it any more.
import type { LinkStore, TagStore } from '../metadata/metadata.ts';
import { algorithmOf, type Digest, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { readManifest } from '../oci/reading.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { Manifest, PulledManifest } from '../pull/manifests.ts';
import type { Budget } from '../retention/budget.ts';
import { isNotFound } from '../upstream/upstream.ts';
import type { ManifestPushDependencies } from './manifest.ts';

type Shared = Pick<ManifestPushDependencies, 'manifests' | 'tagLists' | 'tagMutex' | 'fallbackReferrers' | 'writes'>;

export interface DeleteDependencies extends Shared {
  readonly metadata: LinkStore & TagStore;
  readonly budget: Budget;
}

export class Deletes {
  readonly #dependencies: DeleteDependencies;

  constructor(dependencies: DeleteDependencies) {
    this.#dependencies = dependencies;
  }

  /** Deletes a manifest with all its tags. Throws as UpstreamWrites.deleteManifest does. */
  async manifest(repository: Repository, digest: Digest): Promise<void> {
    const { manifests, tagLists } = this.#dependencies;
    // Its subject is known only as long as it can be read.
    const known = await knownOf(manifests.pull(repository, digest));
    await forgetting(this.#delete(repository, digest, known), async () => {
      tagLists.changed(repository);
      await this.#unlinkManifest(repository, digest);
    });
    await this.#removeReferrer(repository, digest, known);
  }

  /** Deletes a tag, and its manifest only if the upstream does so. Throws as UpstreamWrites.deleteManifest does. */
  async tag(repository: Repository, tag: string): Promise<void> {
    const { metadata, manifests, tagLists, tagMutex } = this.#dependencies;
    const writes = this.#dependencies.writes(repository);
    await tagMutex.run(imageName(repository, { tag }), async () => {
      const takesManifest = writes.capabilities.deletesWholeVersions;
      const known = takesManifest ? await knownOf(manifests.fetch(repository, { tag })) : undefined;
      const gone = await forgetting(writes.deleteManifest(repository, { tag }), async () => {
        tagLists.changed(repository);
        await metadata.forgetTag(repository, tag);
      });
      if (gone !== 'manifest' || known === undefined) return;
      await this.#unlinkManifest(repository, known.digest);
      await this.#removeReferrer(repository, known.digest, known);
    });
  }

  /** Deletes a blob. Throws as UpstreamWrites.deleteBlob does. */
  async blob(repository: Repository, digest: Digest): Promise<void> {
    const { metadata, writes } = this.#dependencies;
    const forget = () => this.#removeUnlinked(digest, metadata.unlinkBlob(repository, digest));
    await forgetting(writes(repository).deleteBlob(repository, digest), forget);
  }

  async #delete(repository: Repository, digest: Digest, known: Manifest | undefined): Promise<void> {
    const writes = this.#dependencies.writes(repository);
    try {
      await writes.deleteManifest(repository, { digest });
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

  #unlinkManifest(repository: Repository, digest: Digest): Promise<void> {
    return this.#removeUnlinked(digest, this.#dependencies.metadata.unlinkManifest(repository, digest));
  }

  async #removeUnlinked(digest: Digest, unlinking: Promise<boolean>): Promise<void> {
    if (!(await unlinking)) await this.#dependencies.budget.remove(digest);
  }
}

/** Deletes upstream, then here: what the upstream does not have is not served from here either. */
async function forgetting<T>(deleting: Promise<T>, forget: () => Promise<void>): Promise<T> {
  const result = await deleting.catch(async error => {
    if (isNotFound(error)) await forget();
    throw error;
  });
  await forget();
  return result;
}

/** The manifest, if it can be read. */
async function knownOf(pulling: Promise<PulledManifest>): Promise<Manifest | undefined> {
  const pulled = await pulling.catch(() => undefined);
  return pulled?.manifest;
}
