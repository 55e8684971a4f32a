// Content as files: content/blobs/<algorithm>/<hex>, which is the blobs/ of an OCI image layout.
//
// A file there is whole and durable: publishing is fsync, rename, fsync of the directory. Nothing is ever written to
// it again, so its time of modification is its version.
//
// Files of large content stay open, so that a hit waits for no thread that opens and stats.
import type { Stats } from 'node:fs';
import { readdir, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LRUCache } from 'lru-cache';
import { KeyedMutex } from '../../base/keyed-mutex.ts';
import { ALGORITHMS, algorithmOf, type Digest, DigestHasher, parseDigest } from '../../oci/digest.ts';
import type { Content, LentFile, OpenContent } from '../content.ts';
import type { Ingest } from '../ingest.ts';
import { SMALL_BYTES } from '../memory.ts';
import type { PageCache } from '../page-cache.ts';
import { hashInto } from '../read.ts';
import { LocalIngest, storageFailure } from './ingest.ts';
import { blobPath, blobsDirectory, ingestDirectory, inLayout, makeLayout, PRIVATE_FILE } from './layout.ts';
import { ifMissing, SharedFile } from './shared-file.ts';

/** The name of the file by which check() finds out whether content can come in: not that of any content. */
const TRIAL = '.check';

export interface LocalContentOptions {
  /** How many files stay open without a reader. Default: the layers of some ten images. */
  readonly keptFiles?: number;
  /** As of SharedFile. */
  readonly onExhausted?: () => void;
  /** Tells whether a file is in memory; absent where that is not known. */
  readonly pageCache?: PageCache;
}

export class LocalContent implements Content {
  readonly #root: string;
  readonly #pageCache: PageCache | undefined;
  readonly #open: LRUCache<Digest, SharedFile>;
  readonly #onExhausted: () => void;
  #removals = 0;
  readonly #publishing = new KeyedMutex();

  private constructor(root: string, { keptFiles = 256, onExhausted = () => {}, pageCache }: LocalContentOptions) {
    this.#root = root;
    this.#pageCache = pageCache;
    this.#open = new LRUCache({ max: keptFiles, dispose: file => file.release() });
    this.#onExhausted = onExhausted;
  }

  /** Opens the content of the data directory `root`, which it makes if need be. */
  static async open(root: string, options: LocalContentOptions = {}): Promise<LocalContent> {
    await makeLayout(root);
    return new LocalContent(root, options);
  }

  /** Closes the files that have no reader. */
  shrink(): void {
    this.#open.clear();
  }

  open(digest: Digest): Promise<OpenContent | undefined> | OpenContent | undefined {
    const file = this.#open.get(digest);
    const found = file?.statIfThere();
    return file && found ? new ContentFile(digest, file.retain(), found, this.#pageCache) : this.#openFile(digest);
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    return (await stat(this.#path(digest)).catch(ifMissing))?.size;
  }

  async publish(ingest: Ingest, digest: Digest): Promise<boolean> {
    if (!(ingest instanceof LocalIngest)) throw new Error('only an ingest of the same disk can be published');
    let isNew = false;
    try {
      isNew = await this.#publishing.run(digest, async () => {
        if ((await this.sizeOf(digest)) !== undefined) return false;
        await inLayout(this.#root, () => ingest.moveTo(this.#path(digest)));
        return true;
      });
      return isNew;
    } catch (error) {
      throw storageFailure(error);
    } finally {
      if (!isNew) await ingest.abort();
    }
  }

  async remove(digest: Digest): Promise<void> {
    try {
      await rm(this.#path(digest), { force: true });
    } finally {
      // A file that is being opened now may be the one that is gone, so it does not stay open either.
      this.#removals++;
      this.#open.delete(digest);
    }
  }

  async *list(): AsyncIterable<{ digest: Digest; sizeBytes: number }> {
    for (const algorithm of ALGORITHMS) {
      for (const hex of await inLayout(this.#root, () => readdir(blobsDirectory(this.#root, algorithm)))) {
        const digest = parseDigest(`${algorithm}:${hex}`);
        const sizeBytes = digest && (await this.sizeOf(digest));
        if (digest !== undefined && sizeBytes !== undefined) yield { digest, sizeBytes };
      }
    }
  }

  async free(): Promise<{ bytes: number; files: number }> {
    const { bavail, bsize, files, ffree } = await statfs(this.#root);
    // Where files need nothing that can run out, as on btrfs, there are 0 in all.
    return { bytes: bavail * bsize, files: files === 0 ? Infinity : ffree };
  }

  async check(): Promise<void> {
    await inLayout(this.#root, () => this.#tryOut()).catch(error => {
      // Whether there is room, or can be, is for the budget to tell.
      if (error.code !== 'ENOSPC') throw storageFailure(error);
    });
  }

  /** Brings an empty file in as content comes: made in ingest/, and moved to where blobs are. */
  async #tryOut(): Promise<void> {
    let path = join(ingestDirectory(this.#root), TRIAL);
    try {
      await writeFile(path, '', { mode: PRIVATE_FILE });
      for (const algorithm of ALGORITHMS) {
        const next = join(blobsDirectory(this.#root, algorithm), TRIAL);
        await rename(path, next);
        path = next;
      }
    } finally {
      await rm(path, { force: true });
    }
  }

  async #openFile(digest: Digest): Promise<OpenContent | undefined> {
    const removals = this.#removals;
    const file = await SharedFile.open(this.#path(digest), 'r', this.#onExhausted).catch(ifMissing);
    if (file === undefined) return undefined;
    const found = await file.stat().catch(error => {
      file.release();
      throw error;
    });
    // What is smaller, and wanted often, is kept in memory.
    if (found.size > SMALL_BYTES && removals === this.#removals) this.#open.set(digest, file.retain());
    return new ContentFile(digest, file, found, this.#pageCache);
  }

  #path(digest: Digest): string {
    return blobPath(this.#root, digest);
  }
}

class ContentFile implements OpenContent {
  readonly sizeBytes: number;
  readonly version: number;
  readonly #digest: Digest;
  readonly #file: SharedFile;
  readonly #pageCache: PageCache | undefined;

  /** Releases the file when it is closed. */
  constructor(digest: Digest, file: SharedFile, { size, mtimeMs }: Stats, pageCache: PageCache | undefined) {
    this.sizeBytes = size;
    this.version = mtimeMs;
    this.#digest = digest;
    this.#file = file;
    this.#pageCache = pageCache;
  }

  async verify(): Promise<boolean> {
    const file = this.#file.retain();
    try {
      const hasher = new DigestHasher(algorithmOf(this.#digest));
      await hashInto(hasher, file);
      return hasher.digest() === this.#digest;
    } catch {
      return false;
    } finally {
      file.release();
    }
  }

  isInMemory(): boolean | undefined {
    return this.#file.isInMemory(this.#pageCache, this.sizeBytes);
  }

  read(into: Uint8Array, position: number): Promise<number> {
    return this.#file.read(into, position);
  }

  async lend(): Promise<LentFile> {
    return this.#file.lend(this.sizeBytes);
  }

  close(): void {
    this.#file.release();
  }
}
