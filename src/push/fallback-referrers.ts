// Maintains the list of a subject's referrers for upstreams that do not: the index under the fallback tag (distribution
// spec 1.1, "Referrers Tag Schema") is read from the upstream, changed and written back, one change at a time for each
// subject. What the upstream shows may be older than what was written: no entry that is known is lost to that.
import type { KeyedMutex } from '../base/keyed-mutex.ts';
import type { TagStore } from '../metadata/metadata.ts';
import { type Digest, digestOf, parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { MANIFEST_LIMIT_BYTES } from '../oci/manifest.ts';
import { readManifest } from '../oci/reading.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { entryDigest, fallbackTag, INDEX_TYPE, indexEntries, indexOf, isFor } from '../oci/referrers.ts';
import type { Freshness } from '../pull/freshness.ts';
import type { LocalReferrers } from '../pull/local-referrers.ts';
import type { LocalWrites } from '../pull/local-writes.ts';
import type { Manifests } from '../pull/manifests.ts';
import type { Referrers } from '../pull/referrers.ts';
import type { Tags } from '../pull/tags.ts';
import {
  isIncomplete,
  isNotFound,
  type PushReceipt,
  type Upstream,
  type UpstreamWrites,
} from '../upstream/upstream.ts';

export interface FallbackReferrersDependencies {
  readonly metadata: Pick<TagStore, 'findTag'>;
  readonly manifests: Manifests;
  readonly tags: Tags;
  readonly referrers: Referrers;
  readonly localWrites: LocalWrites;
  readonly localReferrers: LocalReferrers;
  readonly freshness: Freshness;
  /** How long what was written stands against an older answer. */
  readonly graceMs: number;
  readonly tagMutex: KeyedMutex;
  upstream(repository: Repository): Upstream;
  writes(repository: Repository): UpstreamWrites;
}

/** More entries than these are not looked for one by one before they are listed again. */
const CHECKED_LIMIT = 100;

interface FoundIndex {
  /** The bytes of the index that the upstream has; undefined: it has none. */
  readonly index: Buffer | undefined;
  readonly listed: readonly unknown[];
  readonly entries: readonly unknown[];
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
    digest: Digest,
    descriptor: Record<string, unknown>,
    answer: PushReceipt | undefined,
  ): Promise<void> {
    const { referrers, localReferrers } = this.#dependencies;
    const hasApi = answer?.notedSubject === true;
    referrers.recordApi(repository, hasApi);
    if (!hasApi) await this.#change(repository, subject, digest, descriptor);
    localReferrers.pushed(repository, subject, digest, descriptor);
    referrers.changed(repository, subject);
  }

  /** Removes a manifest that was deleted from the list. */
  async remove(repository: Repository, subject: Digest, digest: Digest): Promise<void> {
    const { referrers, localReferrers, upstream } = this.#dependencies;
    localReferrers.deleted(repository, subject, digest);
    const listed = await upstream(repository).listReferrers(repository, subject);
    // Where the API lists nothing the index may be what lists it.
    if (listed === undefined || listed.length === 0) await this.#change(repository, subject, digest, undefined);
    referrers.changed(repository, subject);
  }

  /** Lists the manifest by this entry, or no longer if that is undefined. */
  async #change(repository: Repository, subject: Digest, digest: Digest, entry: unknown): Promise<void> {
    const { tagMutex, localReferrers } = this.#dependencies;
    const tag = fallbackTag(subject);
    await tagMutex.run(imageName(repository, { tag }), async () => {
      const found = await this.#read(repository, tag);
      const others = localReferrers.completed(repository, subject, found.entries).filter(each => !isFor(each, digest));
      // One that is listed already stays where it is.
      const own = found.listed.find(each => isFor(each, digest)) ?? entry;
      const wanted = entry === undefined ? others : [...others, own];
      if (!isSame(wanted, found.listed)) await this.#write(repository, subject, digest, wanted, found.index);
    });
  }

  /**
   * The index under the tag, as the upstream lists it, and with what is known to be missing there: what it listed less
   * than the grace time ago, and where it lists nothing, what is here and still exists. Other tools change the same index
   * through other ways, and an older answer must not make us erase what they wrote.
   */
  async #read(repository: Repository, tag: string): Promise<FoundIndex> {
    const { upstream, metadata, manifests, freshness, graceMs } = this.#dependencies;
    const what = imageName(repository, { tag });
    const row = await metadata.findTag(repository, tag);
    const known = row && (await manifests.find(repository, row.digest));
    const asking =
      known === undefined
        ? upstream(repository).getManifest(repository, { tag })
        : upstream(repository)
            .getIfChanged(repository, tag, known.digest)
            .then(changed => changed ?? known);
    const index = (await unlessNotFound(asking))?.bytes;
    const listed = index === undefined ? [] : indexEntries(index);
    if (listed === undefined) {
      throw new RegistryError('UPSTREAM_INVALID', `${what}, where referrers are listed, is not an image index`);
    }
    const shown = new Set(listed.map(entryDigest));
    const missing = ((known && indexEntries(known.bytes)) ?? []).filter(entry => !shown.has(entryDigest(entry)));
    const isRecent = row !== undefined && freshness.ageMs(what, row) < graceMs;
    if (isRecent) return { index, listed, entries: [...listed, ...missing] };
    if (listed.length > 0) return { index, listed, entries: listed };
    const isChecked = missing.length <= CHECKED_LIMIT;
    return { index, listed, entries: isChecked ? await this.#existing(repository, missing) : missing };
  }

  async #write(
    repository: Repository,
    subject: Digest,
    own: Digest,
    entries: readonly unknown[],
    previous: Buffer | undefined,
  ): Promise<void> {
    const { manifests, tags, localReferrers, localWrites } = this.#dependencies;
    const tag = fallbackTag(subject);
    let bytes: Buffer;
    try {
      bytes = await this.#put(repository, tag, entries, previous);
    } catch (error) {
      if (!isIncomplete(error)) throw error;
      // Some were deleted by other tools, and the upstream takes no index that names them.
      const others = digestsOf(entries).filter(digest => digest !== own);
      for (const digest of others) localWrites.forget(repository, { digest });
      const existing = await this.#existing(repository, entries);
      if (existing.length === entries.length) throw error;
      bytes = await this.#put(repository, tag, existing, previous);
      const left = new Set<string>(digestsOf(existing));
      for (const gone of others) if (!left.has(gone)) localReferrers.deleted(repository, subject, gone);
    }
    const digest = digestOf(bytes);
    localWrites.pushed(repository, digest);
    await localWrites.tagged(repository, tag, digest, previous && digestOf(previous));
    const { parts } = await readManifest(bytes, INDEX_TYPE);
    await manifests.store(repository, { digest, mediaType: INDEX_TYPE, bytes }, parts, [tag]);
    tags.arrived(repository, tag);
  }

  /** Puts the index, again if it names what was accepted a moment ago; resolves to its bytes. */
  async #put(
    repository: Repository,
    tag: string,
    entries: readonly unknown[],
    previous: Buffer | undefined,
  ): Promise<Buffer> {
    const { writes, localWrites } = this.#dependencies;
    const bytes = indexOf(entries, previous);
    if (bytes.length > MANIFEST_LIMIT_BYTES) {
      throw new RegistryError(
        'TOO_LARGE',
        `${imageName(repository, { tag })} lists more referrers than an index can hold`,
      );
    }
    const isPushed = digestsOf(entries).some(digest => localWrites.stateOf(repository, digest) === 'pushed');
    const put = () => writes(repository).putManifest(repository, { tag }, { mediaType: INDEX_TYPE, bytes });
    await localWrites.retrying(put, error => isPushed && isIncomplete(error));
    return bytes;
  }

  /** Those of the entries whose manifests the upstream holds. */
  async #existing(repository: Repository, entries: readonly unknown[]): Promise<unknown[]> {
    const upstream = this.#dependencies.upstream(repository);
    const existing: unknown[] = [];
    for (const entry of entries) {
      const digest = parseDigest(entryDigest(entry) ?? '');
      if (digest === undefined) continue;
      if (await unlessNotFound(upstream.confirmManifest(repository, digest).then(() => true))) existing.push(entry);
    }
    return existing;
  }
}

function digestsOf(entries: readonly unknown[]): Digest[] {
  return entries.flatMap(entry => parseDigest(entryDigest(entry) ?? '') ?? []);
}

/** The same entries, whatever their order. */
function isSame(one: readonly unknown[], other: readonly unknown[]): boolean {
  const digests = new Set(other.map(entryDigest));
  return one.length === other.length && one.every(entry => digests.has(entryDigest(entry)));
}

/** Undefined when the upstream does not have what it was asked for. */
function unlessNotFound<T>(asking: Promise<T>): Promise<T | undefined> {
  return asking.catch(error => {
    if (isNotFound(error)) return undefined;
    throw error;
  });
}
