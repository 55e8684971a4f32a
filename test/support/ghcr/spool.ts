// Where pushed bytes go: up to a few MiB stay in memory, more goes to a file, so an upload of any size costs little
// memory. Bytes are hashed as they arrive. Every Spool must be finished or discarded; the files of finished ones stay
// until `close`.
import { closeSync, openSync, readSync } from 'node:fs';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Algorithm, algorithmOf, type Digest, DigestHasher } from '../../../src/oci/digest.ts';
import { type Content, sourceOf } from '../images.ts';

const MEMORY_BYTES = 4 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;

/** The directory of the files, created with the first one. */
export class Spools {
  #directory: Promise<string> | undefined;
  #made = 0;

  async path(): Promise<string> {
    this.#directory ??= mkdtemp(join(tmpdir(), 'ghcr-fake-'));
    return join(await this.#directory, String(this.#made++));
  }

  async close(): Promise<void> {
    const directory = await this.#directory;
    this.#directory = undefined;
    if (directory !== undefined) await rm(directory, { recursive: true, force: true });
  }
}

export class Spool {
  readonly #spools: Spools;
  readonly #hashers: ReadonlyMap<Algorithm, DigestHasher>;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #file: { path: string; handle: FileHandle } | undefined;
  sizeBytes = 0;

  /** `finish` accepts digests of these algorithms only. */
  constructor(spools: Spools, algorithms: readonly Algorithm[]) {
    this.#spools = spools;
    this.#hashers = new Map(algorithms.map(algorithm => [algorithm, new DigestHasher(algorithm)]));
  }

  /** The chunk must not be modified afterwards. */
  async append(chunk: Uint8Array): Promise<void> {
    for (const hasher of this.#hashers.values()) hasher.update(chunk);
    this.sizeBytes += chunk.length;
    this.#waiting.push(chunk);
    this.#waitingBytes += chunk.length;
    if (this.#waitingBytes > MEMORY_BYTES) await this.#flush();
  }

  async #flush(): Promise<void> {
    if (!this.#file) {
      const path = await this.#spools.path();
      this.#file = { path, handle: await open(path, 'wx') };
    }
    const chunks = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    await this.#file.handle.writeFile(chunks);
  }

  /** The content if `digest` is its digest; otherwise undefined, and nothing is kept. */
  async finish(digest: Digest): Promise<Content | undefined> {
    if (this.#hashers.get(algorithmOf(digest))?.digest() !== digest) {
      await this.discard();
      return undefined;
    }
    if (!this.#file) return { ...sourceOf(Buffer.concat(this.#waiting)), digest };
    await this.#flush();
    const { path, handle } = this.#file;
    await handle.close();
    return fileContent(path, this.sizeBytes, digest);
  }

  async discard(): Promise<void> {
    this.#waiting = [];
    const file = this.#file;
    this.#file = undefined;
    await file?.handle.close();
    if (file) await rm(file.path, { force: true });
  }
}

/** Content that is read from its file on every use. */
function fileContent(path: string, sizeBytes: number, digest: Digest): Content {
  function* chunks(start = 0, end = sizeBytes): Generator<Uint8Array> {
    const file = openSync(path, 'r');
    try {
      for (let at = start; at < end; ) {
        const chunk = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, end - at));
        const length = readSync(file, chunk, 0, chunk.length, at);
        yield chunk.subarray(0, length);
        at += length;
      }
    } finally {
      closeSync(file);
    }
  }
  return { sizeBytes, digest, chunks };
}
