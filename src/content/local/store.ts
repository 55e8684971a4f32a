// Content as files: content/blobs/<algorithm>/<hex>, which is the blobs/ of an OCI image layout, and
// ingest/ for what is on its way in.
//
// A file under ingest/ is named by its ingest, or by a number when it is not to outlive the process.
//
// A file under content/ is whole and durable: commit is fsync, rename, fsync of the directory. Nothing is
// ever written to it again, so its time of modification tells whether a hash that was computed still speaks for it.
//
// Small content is kept in memory once it was opened, and found to be right; what is larger is kept open, so that a
// hit waits for no thread that opens, asks and closes.
import type { Stats } from 'node:fs';
import { access, constants, mkdir, readdir, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LRUCache } from 'lru-cache';
import {
  ALGORITHMS,
  type Algorithm,
  algorithmOf,
  type Digest,
  DigestHasher,
  digestOf,
  hexOf,
  parseDigest,
} from '../../oci/digest.ts';
import type { Content, Ingest, OpenContent } from '../content.ts';
import { hashInto, LocalIngest, storageFailure } from './ingest.ts';
import { SharedFile } from './shared-file.ts';

/** How many verdicts are kept; one that is forgotten costs a hashing. */
const VERDICTS_LIMIT = 100_000;
const SMALL_BYTES = 256 * 1024;
/** Of small content. */
const MEMORY_BYTES = 32 * 1024 * 1024;
/** Files that stay open when nobody reads them: the layers of some ten images. */
const OPEN_LIMIT = 256;

export class LocalContent implements Content {
  readonly #root: string;
  /** Time of modification of the file whose bytes were last found to be right. */
  readonly #verified = new LRUCache<Digest, number>({ max: VERDICTS_LIMIT });
  readonly #small = new LRUCache<Digest, OpenContent>({
    maxSize: MEMORY_BYTES,
    // Nothing may have no size.
    sizeCalculation: ({ sizeBytes }) => sizeBytes + 1,
  });
  readonly #large = new LRUCache<Digest, SharedFile>({
    max: OPEN_LIMIT,
    dispose: file => file.release(),
  });
  #removals = 0;
  readonly #verifying = new Map<Digest, Promise<boolean>>();
  /** Commits of one digest are done one after another. */
  readonly #storing = new Map<Digest, Promise<unknown>>();
  #ingests = 0;

  private constructor(root: string) {
    this.#root = root;
  }

  /** Opens the store under the data directory `root`, making it if need be. */
  static async open(root: string): Promise<LocalContent> {
    const layout = join(root, 'content');
    await mkdir(join(root, 'ingest'), { recursive: true });
    for (const algorithm of ALGORITHMS) await mkdir(join(layout, 'blobs', algorithm), { recursive: true });
    // With these two files other OCI tools take the folder for what it is.
    await writeOnce(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}\n');
    await writeOnce(join(layout, 'index.json'), '{"schemaVersion":2,"manifests":[]}\n');
    return new LocalContent(root);
  }

  open(digest: Digest): Promise<OpenContent | undefined> {
    const kept = this.#small.get(digest);
    return kept === undefined ? this.#openFile(digest) : Promise.resolve(kept);
  }

  async #openFile(digest: Digest): Promise<OpenContent | undefined> {
    const open = this.#large.get(digest);
    const found = open?.statIfThere();
    if (open !== undefined && found !== undefined) return this.#inFile(digest, open.retain(), found);
    const removals = this.#removals;
    const file = await SharedFile.open(this.#path(digest), 'r').catch(ifMissing);
    if (file === undefined) return undefined;
    const stat = await file.stat();
    const small = stat.size <= SMALL_BYTES ? await readSmall(digest, file, stat.size) : undefined;
    // What was removed meanwhile is not to be found again.
    const isHere = removals === this.#removals;
    if (small !== undefined) {
      if (isHere) this.#small.set(digest, small);
      return small;
    }
    if (isHere) this.#large.set(digest, file.retain());
    return this.#inFile(digest, file, stat);
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    return (await stat(this.#path(digest)).catch(ifMissing))?.size;
  }

  async ingest(algorithm: Algorithm, name?: string): Promise<Ingest> {
    const path = this.#ingestPath(name ?? `${process.pid}-${++this.#ingests}`);
    const file = await SharedFile.open(path, 'wx+').catch(error => {
      throw storageFailure(error);
    });
    return this.#ingestOf(path, file, new DigestHasher(algorithm), {
      writtenBytes: 0,
      outlives: name !== undefined,
    });
  }

  async resume(algorithm: Algorithm, name: string): Promise<Ingest | undefined> {
    const path = this.#ingestPath(name);
    const file = await SharedFile.open(path, 'r+').catch(ifMissing);
    if (file === undefined) return undefined;
    const hasher = new DigestHasher(algorithm);
    const writtenBytes = await hashInto(hasher, file.retain());
    return this.#ingestOf(path, file, hasher, { writtenBytes, outlives: true });
  }

  async keepIngests(names: ReadonlySet<string>): Promise<void> {
    for (const name of await readdir(join(this.#root, 'ingest'))) {
      if (!names.has(name)) await rm(this.#ingestPath(name), { recursive: true, force: true });
    }
  }

  async remove(digest: Digest): Promise<void> {
    this.#verified.delete(digest);
    this.#removals++;
    this.#small.delete(digest);
    this.#large.delete(digest);
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

  #inFile(digest: Digest, file: SharedFile, { size, mtimeMs }: Stats): OpenContent {
    return {
      sizeBytes: size,
      verified: this.#verified.get(digest) === mtimeMs || this.#verify(digest, file, mtimeMs),
      read: (into, position) => file.read(into, position),
      lend: async () => file.lend(size),
      close: () => file.release(),
    };
  }

  #ingestOf(
    path: string,
    file: SharedFile,
    hasher: DigestHasher,
    state: { writtenBytes: number; outlives: boolean },
  ): LocalIngest {
    return new LocalIngest(path, file, hasher, state, digest => this.#store(file, digest));
  }

  /** Moves a complete ingest to its place; false when its content is there already, and right for all we know. */
  async #store(file: SharedFile, digest: Digest): Promise<boolean> {
    const before = this.#storing.get(digest);
    const storing = (before ?? Promise.resolve())
      .catch(() => {})
      .then(async () => {
        if ((await this.sizeOf(digest)) !== undefined) return false;
        const { mtimeMs } = await file.stat();
        await file.moveTo(this.#path(digest));
        this.#verified.set(digest, mtimeMs);
        return true;
      });
    this.#storing.set(digest, storing);
    try {
      return await storing;
    } finally {
      if (this.#storing.get(digest) === storing) this.#storing.delete(digest);
    }
  }

  #ingestPath(name: string): string {
    return join(this.#root, 'ingest', name);
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

/** Reads it, and lets go of the file; undefined, and the file is kept, when it cannot be had or is wrong. */
async function readSmall(
  digest: Digest,
  file: SharedFile,
  sizeBytes: number,
): Promise<OpenContent | undefined> {
  const bytes = Buffer.allocUnsafeSlow(sizeBytes);
  const count = await file.read(bytes, 0).catch(() => 0);
  if (count !== sizeBytes || digestOf(bytes, algorithmOf(digest)) !== digest) return undefined;
  file.release();
  return {
    sizeBytes,
    bytes,
    verified: true,
    read: async (into, position) => bytes.copy(into, 0, position),
    close: () => {},
  };
}

async function hashOf(file: SharedFile, algorithm: Algorithm): Promise<Digest> {
  const hasher = new DigestHasher(algorithm);
  await hashInto(hasher, file);
  return hasher.digest();
}

async function writeOnce(path: string, text: string): Promise<void> {
  await writeFile(path, text, { flag: 'wx' }).catch(error => {
    if (error.code !== 'EEXIST') throw error;
  });
}

function ifMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
