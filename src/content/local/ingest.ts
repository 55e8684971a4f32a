// Ingests as files under ingest/. Bytes are hashed as they are handed in and written in the background, everything that
// has come meanwhile in one call; the writer waits only when too much is pending.
//
// A file there has the name of its ingest, or a number when it is not to outlive the process.
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Condition } from '../../base/condition.ts';
import { type Algorithm, algorithmOf, type Digest, DigestHasher } from '../../oci/digest.ts';
import { isOutOfDescriptors, OutOfDescriptors, StorageFailure } from '../../oci/errors.ts';
import type { Ingest, Ingests } from '../ingest.ts';
import { hashInto, type Reader } from '../read.ts';
import { ingestDirectory, inLayout, makeLayout } from './layout.ts';
import { ifMissing, SharedFile } from './shared-file.ts';

/** How much may be pending before the writer must wait: it bounds the memory of an ingest. */
const PENDING_LIMIT_BYTES = 512 * 1024;
/** An ingest that outlives the process is made durable in steps of this, so that little is left for publishing. */
const SYNC_STEP_BYTES = 32 * 1024 * 1024;

export class LocalIngests implements Ingests {
  readonly #root: string;
  readonly #directory: string;
  readonly #onExhausted: () => void;
  #unnamed = 0;

  private constructor(root: string, onExhausted: () => void) {
    this.#root = root;
    this.#directory = ingestDirectory(root);
    this.#onExhausted = onExhausted;
  }

  /** Opens the ingests of the data directory `root`, which it makes if need be. `onExhausted`: as of SharedFile. */
  static async open(root: string, onExhausted = () => {}): Promise<LocalIngests> {
    await makeLayout(root);
    return new LocalIngests(root, onExhausted);
  }

  async begin(algorithm: Algorithm, name?: string, { isDurable } = { isDurable: name !== undefined }): Promise<Ingest> {
    const path = join(this.#directory, name ?? `${process.pid}-${++this.#unnamed}`);
    const opening = inLayout(this.#root, () => SharedFile.open(path, 'wx+', this.#onExhausted));
    const file = await opening.catch(error => {
      throw storageFailure(error);
    });
    return new LocalIngest(path, file, new DigestHasher(algorithm), { writtenBytes: 0, isDurable });
  }

  async resume(algorithm: Algorithm, name: string): Promise<Ingest | undefined> {
    const path = join(this.#directory, name);
    const file = await SharedFile.open(path, 'r+', this.#onExhausted).catch(ifMissing);
    if (file === undefined) return undefined;
    const hasher = new DigestHasher(algorithm);
    try {
      const writtenBytes = await hashInto(hasher, file);
      return new LocalIngest(path, file, hasher, { writtenBytes, isDurable: true });
    } catch (error) {
      file.release();
      throw error;
    }
  }

  async discard(name: string): Promise<void> {
    // What cannot be removed now is removed at the next start.
    await rm(join(this.#directory, name), { force: true }).catch(() => {});
  }

  async list(): Promise<ReadonlyMap<string, number>> {
    const found = new Map<string, number>();
    for (const name of await readdir(this.#directory)) {
      found.set(name, (await stat(join(this.#directory, name))).size);
    }
    return found;
  }

  async keep(names: ReadonlySet<string>): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      if (!names.has(name)) await rm(join(this.#directory, name), { recursive: true, force: true });
    }
  }
}

export class LocalIngest implements Ingest {
  readonly #path: string;
  readonly #file: SharedFile;
  readonly #hasher: DigestHasher;
  readonly #isDurable: boolean;
  #syncedBytes: number;
  #isSyncing = false;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  /** The writing in the background, while there is any. It never rejects: what went wrong is in #failure. */
  #flushing: Promise<void> | undefined;
  /** Resolves when what is pending is being written, so that more may be handed in meanwhile. */
  #taken = Promise.withResolvers<void>();
  #failure: Error | undefined;
  #found: Digest | undefined;
  writtenBytes: number;
  readonly progress = new Condition();

  /** `hasher` has seen the bytes that are written already. */
  constructor(
    path: string,
    file: SharedFile,
    hasher: DigestHasher,
    state: { writtenBytes: number; isDurable: boolean },
  ) {
    this.#path = path;
    this.#file = file;
    this.#hasher = hasher;
    this.#isDurable = state.isDurable;
    this.writtenBytes = state.writtenBytes;
    this.#syncedBytes = state.writtenBytes;
  }

  write(bytes: Uint8Array): Promise<void> | undefined {
    if (this.#failure) throw this.#failure;
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.byteLength;
    this.#flushing ??= this.#flush();
    // The first bytes are being written meanwhile.
    this.#hasher.update(bytes);
    // A reader waits for the first bytes: they are written before anything is done for those that follow.
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
    await hashInto(hasher, this.#file);
    return hasher.digest();
  }

  reader(): Reader {
    const file = this.#file.retain();
    return {
      read: (into, position) => file.read(into, position),
      lend: async () => file.lend(this.writtenBytes),
      close: () => file.release(),
    };
  }

  rest(): void {
    if (this.#flushing === undefined) this.#file.rest();
  }

  /** Moves its file to `path`, durably, which ends it; when that fails it is still to be aborted. */
  async moveTo(path: string): Promise<void> {
    await this.#file.moveTo(path);
    this.#file.release();
  }

  async suspend(): Promise<void> {
    await this.#flushing;
    this.#file.release();
  }

  async abort(): Promise<void> {
    await this.#flushing;
    this.#file.release();
    // What cannot be removed now is removed at the next start.
    await rm(this.#path, { force: true }).catch(() => {});
  }

  async #flush(): Promise<void> {
    try {
      // All that comes in this turn of the event loop is written in one call, but for the first bytes.
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
        chunks.forEach(release);
        this.progress.notify();
        const unsyncedBytes = this.writtenBytes - this.#syncedBytes;
        if (this.#isDurable && !this.#isSyncing && unsyncedBytes >= SYNC_STEP_BYTES) void this.#sync();
      }
    } catch (error) {
      this.#failure = storageFailure(error);
      this.#taken.resolve();
    } finally {
      this.#flushing = undefined;
    }
  }

  /** In the background. What cannot be made durable now fails again when it is published, and is reported then. */
  async #sync(): Promise<void> {
    const upTo = this.writtenBytes;
    this.#isSyncing = true;
    await this.#file.sync().catch(() => {});
    this.#isSyncing = false;
    this.#syncedBytes = upTo;
  }
}

export function storageFailure(error: unknown): StorageFailure {
  if (isOutOfDescriptors(error)) return new OutOfDescriptors(error);
  const { code, message } = error as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'EDQUOT' ? 'the disk is full' : 'the disk cannot be written';
  return new StorageFailure(`${full} (${message})`, { cause: error });
}

/**
 * Gives the memory of a written chunk back to the system, if it is all that its ArrayBuffer holds: V8 collects such
 * memory only when some 32 MB of it have come together.
 */
function release({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}
