// Deletes: done by the upstream first, then here. Content is removed when no repository links it any more.
import type { KeyedMutex } from '../base/keyed-mutex.ts';
import type { LinkStore, TagStore } from '../metadata/metadata.ts';
import { algorithmOf, type Digest, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { readManifest } from '../oci/manifest.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import type { Manifest, Manifests, PulledManifest } from '../pull/manifests.ts';
import type { TagLists } from '../pull/tag-lists.ts';
import type { Budget } from '../retention/budget.ts';
import { isNotFound, type Upstream, type UpstreamWrites } from '../upstream/upstream.ts';
import type { FallbackReferrers } from './fallback-referrers.ts';

export interface DeleteDependencies {
  readonly metadata: LinkStore & TagStore;
  readonly budget: Budget;
  readonly manifests: Manifests;
  readonly tagLists: TagLists;
  readonly tagMutex: KeyedMutex;
  readonly fallbackReferrers: FallbackReferrers;
  upstream(repository: Repository): Upstream;
  writes(repository: Repository): UpstreamWrites;
}

export class Deletes {
  readonly #dependencies: DeleteDependencies;

  constructor(dependencies: DeleteDependencies) {
    this.#dependencies = dependencies;
  }

  /** Deletes a manifest with all its tags. Throws as UpstreamWrites.deleteManifest does. */
  async manifest(repository: Repository, digest: Digest): Promise<void> {
    const { manifests, metadata, tagLists } = this.#dependencies;
    // Its subject is known only as long as it can be read.
    const known = await knownOf(manifests.pull(repository, digest));
    try {
      await this.#delete(repository, digest, known);
    } catch (error) {
      // What the upstream does not have is not served from here either.
      if (isNotFound(error)) await this.#removeUnlinked(digest, metadata.unlinkManifest(repository, digest));
      throw error;
    }
    tagLists.changed(repository);
    await this.#removed(repository, digest, known);
  }

  /** Deletes a tag, and its manifest only if the upstream does so. Throws as UpstreamWrites.deleteManifest does. */
  async tag(repository: Repository, tag: string): Promise<void> {
    const { metadata, manifests, tagLists, tagMutex } = this.#dependencies;
    const writes = this.#dependencies.writes(repository);
    await tagMutex.run(imageName(repository, { tag }), async () => {
      const takesManifest = writes.capabilities.deletesWholeVersions;
      const known = takesManifest ? await knownOf(manifests.fetch(repository, { tag })) : undefined;
      const gone = await writes.deleteManifest(repository, { tag }).catch(async error => {
        if (isNotFound(error)) await metadata.forgetTag(repository, tag);
        throw error;
      });
      await metadata.forgetTag(repository, tag);
      tagLists.changed(repository);
      if (gone === 'manifest' && known !== undefined) await this.#removed(repository, known.digest, known);
    });
  }

  /** Deletes a blob. Throws as UpstreamWrites.deleteBlob does. */
  async blob(repository: Repository, digest: Digest): Promise<void> {
    const { metadata } = this.#dependencies;
    try {
      await this.#dependencies.writes(repository).deleteBlob(repository, digest);
    } catch (error) {
      if (isNotFound(error)) await this.#removeUnlinked(digest, metadata.unlinkBlob(repository, digest));
      throw error;
    }
    await this.#removeUnlinked(digest, metadata.unlinkBlob(repository, digest));
  }

  async #delete(repository: Repository, digest: Digest, known: Manifest | undefined): Promise<void> {
    const writes = this.#dependencies.writes(repository);
    const reference: Reference = { digest };
    try {
      await writes.deleteManifest(repository, reference);
    } catch (error) {
      // An upstream that knows only sha256 has it under that digest.
      if (algorithmOf(digest) === 'sha256' || known === undefined || !(error instanceof RegistryError)) throw error;
      await writes.deleteManifest(repository, { digest: digestOf(known.bytes) });
    }
  }

  /** Removes a manifest that is gone upstream, also from the referrers of its subject. */
  async #removed(repository: Repository, digest: Digest, known: Manifest | undefined): Promise<void> {
    const { metadata, fallbackReferrers } = this.#dependencies;
    await this.#removeUnlinked(digest, metadata.unlinkManifest(repository, digest));
    const subject = known && subjectOf(known);
    if (subject !== undefined) await fallbackReferrers.remove(repository, subject, digest);
  }

  async #removeUnlinked(digest: Digest, unlinking: Promise<boolean>): Promise<void> {
    const isLinked = await unlinking;
    if (!isLinked) await this.#dependencies.budget.remove(digest);
  }
}

/** The manifest, if it can be read. */
function knownOf(pulling: Promise<PulledManifest>): Promise<Manifest | undefined> {
  return pulling.then(
    ({ manifest }) => manifest,
    () => undefined,
  );
}

/** The subject of a manifest; none if it is malformed, as pulled ones may be. */
function subjectOf({ bytes }: Manifest): Digest | undefined {
  try {
    return readManifest(bytes, undefined).subject;
  } catch {
    return undefined;
  }
}
