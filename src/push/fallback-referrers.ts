// Maintains the list of a subject's referrers for upstreams that do not: the index under the fallback tag (distribution
// spec 1.1, "Referrers Tag Schema") is read from the upstream, changed and written back, one change at a time for each
// subject, so that no entry is lost.
import type { KeyedMutex } from '../base/keyed-mutex.ts';
import { type Digest, digestOf, parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { MANIFEST_LIMIT_BYTES } from '../oci/manifest.ts';
import { readManifest } from '../oci/reading.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { fallbackTag, INDEX_TYPE, indexEntries, indexOf, isFor } from '../oci/referrers.ts';
import type { Manifests } from '../pull/manifests.ts';
import type { Referrers } from '../pull/referrers.ts';
import type { Tags } from '../pull/tags.ts';
import { isNotFound, type PushReceipt, type Upstream, type UpstreamWrites } from '../upstream/upstream.ts';

export interface FallbackReferrersDependencies {
  readonly manifests: Manifests;
  readonly tags: Tags;
  readonly referrers: Referrers;
  readonly tagMutex: KeyedMutex;
  upstream(repository: Repository): Upstream;
  writes(repository: Repository): UpstreamWrites;
}

export class FallbackReferrers {
  readonly #dependencies: FallbackReferrersDependencies;

  constructor(dependencies: FallbackReferrersDependencies) {
    this.#dependencies = dependencies;
  }

  /** Lists a manifest that was pushed, unless the upstream's response says that it does. Throws when that fails. */
  async add(
    repository: Repository,
    subject: Digest,
    descriptor: Record<string, unknown>,
    answer: PushReceipt | undefined,
  ): Promise<void> {
    const { referrers } = this.#dependencies;
    const hasApi = answer?.notedSubject === true;
    referrers.recordApi(repository, hasApi);
    if (!hasApi) {
      await this.#change(repository, subject, entries =>
        entries.some(entry => isFor(entry, descriptor.digest as Digest)) ? entries : [...entries, descriptor],
      );
    }
    referrers.changed(repository, subject);
  }

  /** Removes a manifest that was deleted from the list. */
  async remove(repository: Repository, subject: Digest, digest: Digest): Promise<void> {
    const { referrers, upstream } = this.#dependencies;
    const hasApi = (await upstream(repository).listReferrers(repository, subject)) !== undefined;
    if (!hasApi) {
      await this.#change(repository, subject, entries => entries.filter(entry => !isFor(entry, digest)));
    }
    referrers.changed(repository, subject);
  }

  async #change(repository: Repository, subject: Digest, change: (entries: unknown[]) => unknown[]): Promise<void> {
    const { tagMutex, upstream, writes, manifests, tags } = this.#dependencies;
    const tag = fallbackTag(subject);
    const what = imageName(repository, { tag });
    await tagMutex.run(what, async () => {
      const current = await found(upstream(repository).getManifest(repository, { tag }));
      const entries = current === undefined ? [] : indexEntries(current.bytes);
      if (entries === undefined) {
        throw new RegistryError('UPSTREAM_INVALID', `${what}, where referrers are listed, is not an image index`);
      }
      const changed = change(entries);
      if (changed.length === entries.length) return;
      const put = async (listed: readonly unknown[]) => {
        const bytes = indexOf(listed, current?.bytes);
        if (bytes.length > MANIFEST_LIMIT_BYTES) {
          throw new RegistryError('TOO_LARGE', `${what} lists more referrers than an index can hold`);
        }
        await writes(repository).putManifest(repository, { tag }, { mediaType: INDEX_TYPE, bytes });
        return bytes;
      };
      const bytes = await put(changed).catch(async error => {
        if (!(error instanceof RegistryError) || error.code !== 'MANIFEST_BLOB_UNKNOWN') throw error;
        // Some were deleted by other tools, and the upstream takes no index that names them.
        return put(await this.#existing(repository, changed));
      });
      const { parts } = await readManifest(bytes, INDEX_TYPE);
      await manifests.store(repository, { digest: digestOf(bytes), mediaType: INDEX_TYPE, bytes }, parts, [tag]);
      tags.arrived(repository, tag);
    });
  }

  /** Those of the entries whose manifests the upstream holds. */
  async #existing(repository: Repository, entries: readonly unknown[]): Promise<unknown[]> {
    const upstream = this.#dependencies.upstream(repository);
    const existing: unknown[] = [];
    for (const entry of entries) {
      const digest = parseDigest(String((entry as { digest?: unknown } | null)?.digest));
      if (digest === undefined) continue;
      if (await found(upstream.confirmManifest(repository, digest).then(() => true))) existing.push(entry);
    }
    return existing;
  }
}

/** Undefined when the upstream does not have what it was asked for. */
function found<T>(asking: Promise<T>): Promise<T | undefined> {
  return asking.catch(error => {
    if (isNotFound(error)) return undefined;
    throw error;
  });
}
