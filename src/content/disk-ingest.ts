// An ingest as a file under ingest/. Bytes are hashed as they are handed in and written in the background,
// everything that has come meanwhile in one call; whoever hands them in waits only when too much is pending.
import { rm } from 'node:fs/promises';
import { type Algorithm, type Digest, DigestHasher } from '../oci/digest.ts';
import { type Ingest, type Source, StorageFailure } from './content.ts';
import type { SharedFile } from './shared-file.ts';

/** How much may be pending before the writer must wait: what bounds the memory of an ingest. */
const PENDING_LIMIT_BYTES = 512 * 1024;

export class DiskIngest implements Ingest {
  readonly #path: string;
  readonly #file: SharedFile;
  readonly #hasher: DigestHasher;
  readonly #store: (digest: Digest) => Promise<void>;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  /** The writing in the background, while there is one. It never rejects: what went wrong is in #failure. */
  #flushing: Promise<void> | undefined;
  #failure: Error | undefined;
  writtenBytes = 0;
  onWritten: () => void = () => {};

  /** `store` makes the file content under its digest. */
  constructor(
    path: string,
    file: SharedFile,
    algorithm: Algorithm,
    store: (digest: Digest) => Promise<void>,
  ) {
    this.#path = path;
    this.#file = file;
    this.#hasher = new DigestHasher(algorithm);
    this.#store = store;
  }

  write(bytes: Uint8Array): Promise<void> | undefined {
    if (this.#failure) throw this.#failure;
    this.#hasher.update(bytes);
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.byteLength;
    this.#flushing ??= this.#flush();
    return this.#pendingBytes > PENDING_LIMIT_BYTES ? this.#flushing : undefined;
  }

  async finish(): Promise<Digest> {
    await this.#flushing;
    if (this.#failure) throw this.#failure;
    return this.#hasher.digest();
  }

  reader(): Pick<Source, 'read' | 'close'> {
    const file = this.#file.retain();
    return { read: (into, position) => file.read(into, position), close: () => file.release() };
  }

  async commit(digest: Digest): Promise<void> {
    try {
      await this.#store(digest);
    } catch (error) {
      await rm(this.#path, { force: true }).catch(() => {});
      throw storageFailure(error);
    } finally {
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
      while (this.#pending.length > 0) {
        const chunks = this.#pending;
        const bytes = this.#pendingBytes;
        this.#pending = [];
        this.#pendingBytes = 0;
        await this.#file.write(chunks, this.writtenBytes);
        this.writtenBytes += bytes;
        this.onWritten();
      }
    } catch (error) {
      this.#failure = storageFailure(error);
    } finally {
      this.#flushing = undefined;
    }
  }
}

export function storageFailure(error: unknown): StorageFailure {
  const { code, message } = error as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'EDQUOT' ? 'the disk is full' : 'the disk cannot be written';
  return new StorageFailure(`${full} (${message})`, { cause: error });
}
