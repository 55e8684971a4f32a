// An ingest as a file under ingest/. Bytes are hashed as they are handed in and written in the background,
// everything that has come meanwhile in one call; whoever hands them in waits only when too much is pending.
import { rm } from 'node:fs/promises';
import { Condition } from '../../base/condition.ts';
import { releaseBuffer } from '../../base/receive-buffers.ts';
import { type Algorithm, algorithmOf, type Digest, DigestHasher } from '../../oci/digest.ts';
import { type Ingest, StorageFailure } from '../content.ts';
import type { SharedFile } from './shared-file.ts';

/** How much may be pending before the writer must wait: what bounds the memory of an ingest. */
const PENDING_LIMIT_BYTES = 512 * 1024;
/** An ingest that outlives the process is made durable in steps of this, so that little is left for its commit. */
const SYNC_STEP_BYTES = 32 * 1024 * 1024;
/** How much is read at a time when content is hashed. */
const HASH_READ_BYTES = 512 * 1024;

export class LocalIngest implements Ingest {
  readonly #path: string;
  readonly #file: SharedFile;
  readonly #hasher: DigestHasher;
  readonly #store: (digest: Digest) => Promise<boolean>;
  readonly #outlives: boolean;
  #syncedBytes: number;
  #isSyncing = false;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  /** The writing in the background, while there is one. It never rejects: what went wrong is in #failure. */
  #flushing: Promise<void> | undefined;
  /** Resolves when what is pending is on its way, so that there is room again while it is being written. */
  #taken = Promise.withResolvers<void>();
  #failure: Error | undefined;
  #found: Digest | undefined;
  writtenBytes: number;
  readonly progress = new Condition();
  onWritten: () => void = () => {};

  /**
   * `hasher` has seen the bytes that are written already. `store` makes the file content under its digest, or
   * says that there is such content.
   */
  constructor(
    path: string,
    file: SharedFile,
    hasher: DigestHasher,
    state: { writtenBytes: number; outlives: boolean },
    store: (digest: Digest) => Promise<boolean>,
  ) {
    this.#path = path;
    this.#file = file;
    this.#hasher = hasher;
    this.#outlives = state.outlives;
    this.writtenBytes = state.writtenBytes;
    this.#syncedBytes = state.writtenBytes;
    this.#store = store;
  }

  write(bytes: Uint8Array): Promise<void> | undefined {
    if (this.#failure) throw this.#failure;
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.byteLength;
    this.#flushing ??= this.#flush();
    // The first bytes are being written meanwhile.
    this.#hasher.update(bytes);
    // Somebody waits for the first bytes: they are written before anything else is done for those that follow.
    if (this.writtenBytes === 0) return this.#flushing;
    return this.#pendingBytes > PENDING_LIMIT_BYTES ? this.#taken.promise : undefined;
  }

  async flush(): Promise<void> {
    await this.#flushing;
    if (this.#failure) throw this.#failure;
  }

  async finish(algorithm?: Algorithm): Promise<Digest> {
    await this.flush();
    this.#found ??= this.#hasher.digest();
    if (algorithm === undefined || algorithm === algorithmOf(this.#found)) return this.#found;
    const hasher = new DigestHasher(algorithm);
    await hashInto(hasher, this.#file.retain());
    return hasher.digest();
  }

  reader(): ReturnType<Ingest['reader']> {
    const file = this.#file.retain();
    return {
      read: (into, position) => file.read(into, position),
      lend: async () => file.lend(this.writtenBytes),
      close: () => file.release(),
    };
  }

  async commit(digest: Digest): Promise<boolean> {
    let isStored = false;
    try {
      isStored = await this.#store(digest);
      return isStored;
    } catch (error) {
      throw storageFailure(error);
    } finally {
      if (!isStored) await rm(this.#path, { force: true }).catch(() => {});
      this.#file.release();
    }
  }

  async abort(): Promise<void> {
    await this.#flushing;
    this.#file.release();
    // What cannot be removed now is removed at the next start.
    await rm(this.#path, { force: true }).catch(() => {});
  }

  async #flush(): Promise<void> {
    try {
      // All that comes in this turn of the event loop goes in one call; the first bytes somebody waits for.
      if (this.writtenBytes > 0) await new Promise(setImmediate);
      while (this.#pending.length > 0) {
        const chunks = this.#pending;
        const bytes = this.#pendingBytes;
        this.#pending = [];
        this.#pendingBytes = 0;
        this.#taken.resolve();
        this.#taken = Promise.withResolvers();
        await this.#file.write(chunks, this.writtenBytes);
        this.writtenBytes += bytes;
        chunks.forEach(releaseBuffer);
        this.progress.notify();
        this.onWritten();
        if (this.#outlives && !this.#isSyncing) this.#sync();
      }
    } catch (error) {
      this.#failure = storageFailure(error);
      this.#taken.resolve();
    } finally {
      this.#flushing = undefined;
    }
  }

  /** In the background. What cannot be made durable now fails again, and then for all to see, at commit. */
  #sync(): void {
    const upTo = this.writtenBytes;
    if (upTo - this.#syncedBytes < SYNC_STEP_BYTES) return;
    this.#isSyncing = true;
    void this.#file
      .sync()
      .catch(() => {})
      .then(() => {
        this.#isSyncing = false;
        this.#syncedBytes = upTo;
      });
  }
}

/** Feeds a file to a hasher, and lets go of it; resolves to its length in bytes. */
export async function hashInto(hasher: DigestHasher, file: SharedFile): Promise<number> {
  try {
    const buffer = Buffer.allocUnsafe(HASH_READ_BYTES);
    for (let position = 0; ; ) {
      const count = await file.read(buffer, position);
      if (count === 0) return position;
      hasher.update(buffer.subarray(0, count));
      position += count;
    }
  } finally {
    file.release();
  }
}

export function storageFailure(error: unknown): StorageFailure {
  const { code, message } = error as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'EDQUOT' ? 'the disk is full' : 'the disk cannot be written';
  return new StorageFailure(`${full} (${message})`, { cause: error });
}
