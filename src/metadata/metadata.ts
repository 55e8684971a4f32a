// The contract of metadata: what is known about content, beside the content itself. Repositories, the
// links that let them serve content, tags with the time they were last confirmed, and when content was
// last pulled. It says nothing of SQL dialects or files, so that one PostgreSQL can serve many replicas.
//
// Every implementation guarantees:
// - each call is atomic: a reader sees all of it or nothing;
// - a link exists only for content that is recorded, and goes when that is dropped;
// - what cannot be read or written is a StorageFailure, except in touch(), which does not matter that much;
// - all of it can be lost: links and tags come back as upstreams confirm them.
import type { Algorithm, Digest } from '../oci/digest.ts';
import type { Repository } from '../oci/reference.ts';

export interface ContentRow {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** What a repository serves under a digest as a manifest. */
export interface ManifestRow extends ContentRow {
  readonly mediaType: string;
}

export interface TagRow {
  readonly digest: Digest;
  /** When the upstream last said so, in milliseconds since the epoch. */
  readonly checkedAtMs: number;
}

export interface TagListRow {
  /** In lexical order of their bytes. */
  readonly tags: readonly string[];
  readonly checkedAtMs: number;
}

export interface ReferrersRow {
  /** As the upstream gave them: JSON values, of which nothing is known. */
  readonly descriptors: readonly unknown[];
  readonly checkedAtMs: number;
}

/** An upload that is open. */
export interface UploadRow {
  readonly id: string;
  readonly repository: Repository;
  /** Of the hash that its ingest was begun with. */
  readonly algorithm: Algorithm;
  readonly startedAtMs: number;
}

export interface Metadata {
  /** The content if this repository may serve it as a blob. */
  findBlob(repository: Repository, digest: Digest): Promise<ContentRow | undefined>;
  /** The content if this repository may serve it as a manifest. */
  findManifest(repository: Repository, digest: Digest): Promise<ManifestRow | undefined>;
  /** Records the content, if it is new, and the right of these repositories to serve it as a blob. */
  linkBlob(repositories: readonly Repository[], content: ContentRow): Promise<void>;
  /** The same for a manifest; the tags point to it, confirmed now, in the same transaction. */
  linkManifest(repository: Repository, manifest: ManifestRow, tags?: readonly string[]): Promise<void>;
  /** Takes the right to serve it as a blob from the repository; false when nobody is left who has any right to it. */
  unlinkBlob(repository: Repository, digest: Digest): Promise<boolean>;
  /** The same for a manifest, and all tags of the repository that point to it. */
  unlinkManifest(repository: Repository, digest: Digest): Promise<boolean>;
  /** Whether it is recorded as content, whoever may serve it. */
  isRecorded(digest: Digest): Promise<boolean>;
  /** A repository of the upstream that may serve this as a blob, if there is one. */
  findHolder(upstream: string, digest: Digest): Promise<Repository | undefined>;
  /** All repositories that have a link or a tag, in lexical order of upstream and name. */
  repositories(): Promise<Repository[]>;

  findTag(repository: Repository, tag: string): Promise<TagRow | undefined>;
  /** The upstream has just confirmed that the tag still points where it did. */
  confirmTag(repository: Repository, tag: string): Promise<void>;
  forgetTag(repository: Repository, tag: string): Promise<void>;
  /** Tags that are known because they were pulled, in lexical order of their bytes. */
  pulledTags(repository: Repository): Promise<string[]>;
  /** The upstream's whole list of tags, as last heard. */
  findTagList(repository: Repository): Promise<TagListRow | undefined>;
  saveTagList(repository: Repository, tags: readonly string[]): Promise<void>;
  /** What the upstream last said refers to a digest. */
  findReferrers(repository: Repository, subject: Digest): Promise<ReferrersRow | undefined>;
  saveReferrers(repository: Repository, subject: Digest, descriptors: readonly unknown[]): Promise<void>;

  putUpload(upload: UploadRow): Promise<void>;
  dropUpload(id: string): Promise<void>;
  uploads(): Promise<UploadRow[]>;

  /** Content was pulled. Kept in memory and written from time to time, many at once. */
  touch(digest: Digest): void;
  /** Forgets the content and all links to it; resolves to its size in bytes, 0 when it was not known. */
  drop(digest: Digest): Promise<number>;
  /** The content that was pulled longest ago and that none of these repositories links, oldest first. */
  leastRecentlyUsed(limit: number, except: readonly Repository[]): Promise<ContentRow[]>;
  totalBytes(): Promise<number>;

  /** Makes all that was written before durable, against loss of power too. */
  sync(): Promise<void>;
  /** Whether it can be read and written now; rejects with the reason when it cannot. */
  check(): Promise<void>;
  /** Writes what is pending and lets go. */
  close(): Promise<void>;
}
