// The contracts of metadata: what is known about content, beside the content itself. One store implements all of
// them; each consumer declares only those it uses. They say nothing of SQL dialects or files, so that one database
// can serve many replicas.
//
// Every implementation guarantees:
// - each call is atomic: a reader sees all of it or nothing;
// - a link exists only for content that is recorded, and goes when that is removed;
// - what cannot be read or written is a StorageFailure, except in touch(), which is best effort;
// - all of it can be lost: links and tags come back as upstreams confirm them.
// Times are wall time in milliseconds since the epoch: they outlive the process.
import type { Algorithm, Digest } from '../oci/digest.ts';
import type { Reference, Repository } from '../oci/reference.ts';

export interface ContentRow {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** What a repository serves under a digest as a manifest. */
export interface ManifestRow extends ContentRow {
  readonly mediaType: string;
}

/** A manifest to be linked, with what it is made of: the parts that ManifestInfo (oci/manifest.ts) tells. */
export interface LinkedManifest extends ManifestRow {
  readonly parts: readonly Digest[];
}

export interface TagRow {
  readonly digest: Digest;
  /** When the upstream last confirmed it. */
  readonly checkedAtMs: number;
}

export interface TagListRow {
  /** In lexical order of their bytes. */
  readonly tags: readonly string[];
  readonly checkedAtMs: number;
}

export interface ReferrersRow {
  /** As the upstream gave them: JSON values of any shape. */
  readonly descriptors: readonly unknown[];
  readonly checkedAtMs: number;
}

/** An open upload. */
export interface UploadRow {
  readonly id: string;
  readonly repository: Repository;
  /** Of the hash that its ingest was begun with. */
  readonly algorithm: Algorithm;
  readonly startedAtMs: number;
  /** The user who began it; absent when no one was identified. */
  readonly owner?: string;
}

export interface UsageRow extends ContentRow {
  readonly touchedAtMs: number;
}

/** An image that is never evicted. By tag, it is whatever the tag points to now. */
export interface Pin {
  readonly repository: Repository;
  readonly reference: Reference;
}

/** Which repository may serve what. */
export interface LinkStore {
  /** The content if this repository may serve it as a blob. */
  findBlob(repository: Repository, digest: Digest): Promise<ContentRow | undefined>;
  /** The content if this repository may serve it as a manifest. */
  findManifest(repository: Repository, digest: Digest): Promise<ManifestRow | undefined>;
  /** Records the content, if it is new, and the right of these repositories to serve it as a blob. */
  linkBlob(repositories: readonly Repository[], content: ContentRow): Promise<void>;
  /** The same for a manifest and its parts; the tags point to it, confirmed now, in the same transaction. */
  linkManifest(repository: Repository, manifest: LinkedManifest, tags?: readonly string[]): Promise<void>;
  /** Takes the right to serve it as a blob from the repository; false when no repository has any right to it now. */
  unlinkBlob(repository: Repository, digest: Digest): Promise<boolean>;
  /** The same for a manifest, and all tags of the repository that point to it. */
  unlinkManifest(repository: Repository, digest: Digest): Promise<boolean>;
  /** Whether it is recorded as content, linked or not. */
  isRecorded(digest: Digest): Promise<boolean>;
  /** A repository of the upstream that may serve this as a blob, if there is one. */
  findHolder(upstream: string, digest: Digest): Promise<Repository | undefined>;
  /** All repositories that have a link or a tag, in lexical order of upstream and name. */
  repositories(): Promise<Repository[]>;
}

/** Where tags point, and the upstream's lists of them. Tags are set by linkManifest and removed by unlinkManifest too. */
export interface TagStore {
  findTag(repository: Repository, tag: string): Promise<TagRow | undefined>;
  /** The upstream has just confirmed that the tag still points where it did. */
  confirmTag(repository: Repository, tag: string): Promise<void>;
  forgetTag(repository: Repository, tag: string): Promise<void>;
  /** Tags that are known because they were pulled, in lexical order of their bytes. */
  pulledTags(repository: Repository): Promise<string[]>;
  /** The upstream's whole list of tags, as last saved. */
  findTagList(repository: Repository): Promise<TagListRow | undefined>;
  saveTagList(repository: Repository, tags: readonly string[]): Promise<void>;
}

/** What an upstream last listed as referring to a digest (distribution spec 1.1, "Listing Referrers"). */
export interface ReferrerStore {
  findReferrers(repository: Repository, subject: Digest): Promise<ReferrersRow | undefined>;
  saveReferrers(repository: Repository, subject: Digest, descriptors: readonly unknown[]): Promise<void>;
}

/** Uploads that outlive the process. */
export interface UploadStore {
  /** Records it, in place of one with the same id. */
  putUpload(upload: UploadRow): Promise<void>;
  removeUpload(id: string): Promise<void>;
  uploads(): Promise<UploadRow[]>;
}

/** What content takes up, and when it was last pulled. */
export interface UsageStore {
  /** The content was pulled now. Returns at once and never throws; a crash may lose the last few seconds of it. */
  touch(digest: Digest): void;
  /** Forgets the content with all links to it; resolves to how many bytes were recorded. */
  remove(digests: readonly Digest[]): Promise<number>;
  /** Up to `limit` rows of the content that was pulled longest ago, oldest first, from the one after `last` on. */
  leastRecentlyUsed(limit: number, last?: UsageRow): Promise<UsageRow[]>;
  /** All recorded content that pins protect: the manifests that they name and, recursively, the parts of those. */
  pinned(pins: readonly Pin[]): Promise<ContentRow[]>;
  totalBytes(): Promise<number>;
}

/** Its methods are own properties that need no `this`, so that a decorator can spread and hand on those of another. */
export interface Metadata extends LinkStore, TagStore, ReferrerStore, UploadStore, UsageStore {
  /** Makes all that was written before durable, against loss of power too. */
  sync(): Promise<void>;
  /** Whether it can be read and written now; rejects with the reason when it cannot. */
  check(): Promise<void>;
  /** Writes what is pending and releases everything. */
  close(): Promise<void>;
}

/** What a database implements: Metadata, except that pulls are recorded many at once; usage-buffer.ts makes it whole. */
export interface MetadataStore extends Omit<Metadata, 'touch'> {
  /** Sets when content was last pulled, in one transaction. What is not recorded is skipped. */
  touchAll(pulls: Iterable<readonly [digest: Digest, atMs: number]>): Promise<void>;
}
