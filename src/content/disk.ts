// Content as files: content/blobs/<algorithm>/<hex>, which is the blobs/ of an OCI image layout, and
// ingest/ for what is on its way in.
//
// A file under content/ is whole and durable: commit is fsync, rename, fsync of the directory. Nothing is
// ever written to it again, so its time of modification tells whether a hash that was computed still speaks for it.
import { access, constants, mkdir, readdir, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LRUCache } from 'lru-cache';
import {
  ALGORITHMS,
  type Algorithm,
  algorithmOf,
  type Digest,
  DigestHasher,
  hexOf,
  parseDigest,
} from '../oci/digest.ts';
import type { Content, Ingest, OpenContent } from './content.ts';
import { DiskIngest, storageFailure } from './disk-ingest.ts';
import { SharedFile } from './shared-file.ts';

/** How much is read at a time when content is hashed. */
const HASH_READ_BYTES = 512 * 1024;
/** How many verdicts are kept; one that is forgotten costs a hashing. */
const VERDICTS_LIMIT = 100_000;

export class DiskContent implements Content {
  readonly #root: string;
  /** Time of modification of the file whose bytes were last found to be right. */
  readonly #verified = new LRUCache<Digest, number>({ max: VERDICTS_LIMIT });
  readonly #verifying = new Map<Digest, Promise<boolean>>();
  #ingests = 0;

  private constructor(root: string) {
    this.#root = root;
  }

  /** Opens the store under the data directory `root`, making it if need be and removing old ingests. */
  static async open(root: string): Promise<DiskContent> {
    const layout = join(root, 'content');
    await rm(join(root, 'ingest'), { recursive: true, force: true });
    await mkdir(join(root, 'ingest'), { recursive: true });
    for (const algorithm of ALGORITHMS) await mkdir(join(layout, 'blobs', algorithm), { recursive: true });
    // With these two files other OCI tools take the folder for what it is.
    await writeOnce(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}\n');
    await writeOnce(join(layout, 'index.json'), '{"schemaVersion":2,"manifests":[]}\n');
    return new DiskContent(root);
  }

  async open(digest: Digest): Promise<OpenContent | undefined> {
    const file = await SharedFile.open(this.#path(digest), 'r').catch(ifMissing);
    if (file === undefined) return undefined;
    const { size, mtimeMs } = await file.stat();
    return {
      sizeBytes: size,
      verified: this.#verified.get(digest) === mtimeMs || this.#verify(digest, file, mtimeMs),
      read: (into, position) => file.read(into, position),
      close: () => file.release(),
    };
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    return (await stat(this.#path(digest)).catch(ifMissing))?.size;
  }

  async ingest(algorithm: Algorithm): Promise<Ingest> {
    const path = join(this.#root, 'ingest', `${process.pid}-${++this.#ingests}`);
    const file = await SharedFile.open(path, 'wx+').catch(error => {
      throw storageFailure(error);
    });
    return new DiskIngest(path, file, algorithm, async digest => {
      const { mtimeMs } = await file.stat();
      await file.moveTo(this.#path(digest));
      this.#verified.set(digest, mtimeMs);
    });
  }

  async remove(digest: Digest): Promise<void> {
    this.#verified.delete(digest);
    await rm(this.#path(digest), { force: true });
  }

  async *list(): AsyncIterable<{ digest: Digest; sizeBytes: number }> {
    for (const algorithm of ALGORITHMS) {
      for (const hex of await readdir(join(this.#root, 'content', 'blobs', algorithm))) {
        const digest = parseDigest(`${algorithm}:${hex}`);
        const sizeBytes = digest && (await this.sizeOf(digest));
        if (digest !== undefined && sizeBytes !== undefined) yield { digest, sizeBytes };
      }
    }
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#root);
    return bavail * bsize;
  }

  check(): Promise<void> {
    return access(join(this.#root, 'ingest'), constants.W_OK);
  }

  #path(digest: Digest): string {
    return join(this.#root, 'content', 'blobs', algorithmOf(digest), hexOf(digest));
  }

  /** Hashes the file, once for all who have it open now, and remembers a good verdict. */
  #verify(digest: Digest, file: SharedFile, mtimeMs: number): Promise<boolean> {
    let verdict = this.#verifying.get(digest);
    if (verdict === undefined) {
      verdict = hashOf(file.retain(), algorithmOf(digest))
        .then(found => {
          if (found === digest) this.#verified.set(digest, mtimeMs);
          return found === digest;
        })
        // What cannot be read is as bad as what is wrong.
        .catch(() => false)
        .finally(() => this.#verifying.delete(digest));
      this.#verifying.set(digest, verdict);
    }
    return verdict;
  }
}

async function hashOf(file: SharedFile, algorithm: Algorithm): Promise<Digest> {
  try {
    const hasher = new DigestHasher(algorithm);
    const buffer = Buffer.allocUnsafe(HASH_READ_BYTES);
    for (let position = 0; ; ) {
      const count = await file.read(buffer, position);
      if (count === 0) return hasher.digest();
      hasher.update(buffer.subarray(0, count));
      position += count;
    }
  } finally {
    file.release();
  }
}

async function writeOnce(path: string, text: string): Promise<void> {
  await writeFile(path, text, { flag: 'wx' }).catch(error => {
    if (error.code !== 'EEXIST') throw error;
  });
}

function ifMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
