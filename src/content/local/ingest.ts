// Ingests as files under ingest/. Bytes are written in the background, everything that has come meanwhile in one call, and
// hashed meanwhile; the writer waits only when too much is pending.
//
// A file there has the name of its ingest, or a number when it is not to outlive the process. Where bytes have not come
// between others that have, it has a hole, which reads as zeros.
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Condition } from '../../base/condition.ts';
import { type Span, Spans } from '../../base/spans.ts';
import { type Algorithm, algorithmOf, type Digest, DigestHasher } from '../../oci/digest.ts';
import { isOutOfDescriptors, OutOfDescriptors, StorageFailure } from '../../oci/errors.ts';
import { type Ingests, type SparseIngest, WRITER_ALIGNMENT, type Write } from '../ingest.ts';
import { hashInto, type Reader } from '../read.ts';
import { findWritten } from './holes.ts';
import { ingestDirectory, inLayout, makeLayout } from './layout.ts';
import { Copied, Owned, type Pending } from './pending.ts';
import { ifMissing, SharedFile } from './shared-file.ts';
import { Writer } from './writer.ts';

/** How much is read at a time to be hashed. */
const REREAD_BYTES = 256 * 1024;
/** An ingest that outlives the process is made durable in steps of this, so that little is left for publishing. */
const SYNC_STEP_BYTES = 32 * 1024 * 1024;

/** What stat(2) counts `blocks` in. */
const BLOCK_BYTES = 512;

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

  async begin(
    algorithm: Algorithm,
    name?: string,
    { isDurable } = { isDurable: name !== undefined },
  ): Promise<SparseIngest> {
    const path = join(this.#directory, name ?? `${process.pid}-${++this.#unnamed}`);
    const opening = inLayout(this.#root, () => SharedFile.open(path, 'wx+', this.#onExhausted));
    const file = await opening.catch(error => {
      throw storageFailure(error);
    });
    return new LocalIngest(path, file, new DigestHasher(algorithm), { spans: new Spans(), isDurable });
  }

  async resume(
    algorithm: Algorithm,
    name: string,
    { isSparse } = { isSparse: false },
  ): Promise<SparseIngest | undefined> {
    const path = join(this.#directory, name);
    const file = await SharedFile.open(path, 'r+', this.#onExhausted).catch(ifMissing);
    if (file === undefined) return undefined;
    const hasher = new DigestHasher(algorithm);
    try {
      const spans = isSparse
        ? await findWritten(file, hasher)
        : new Spans([{ start: 0, end: await hashInto(hasher, file) }]);
      return new LocalIngest(path, file, hasher, { spans, isDurable: !isSparse });
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
      const { size, blocks } = await stat(join(this.#directory, name));
      // Without holes; of small files, which may have no block, as they are.
      found.set(name, size < WRITER_ALIGNMENT ? size : Math.min(size, blocks * BLOCK_BYTES));
    }
    return found;
  }

  async keep(names: ReadonlySet<string>): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      if (!names.has(name)) await rm(join(this.#directory, name), { recursive: true, force: true });
    }
  }
}

export class LocalIngest implements SparseIngest {
  readonly #path: string;
  readonly #file: SharedFile;
  readonly #isDurable: boolean;
  #syncedBytes: number;
  #isSyncing = false;
  readonly #spans: Spans;
  /** Those that are writing. */
  readonly #writers = new Set<Writer>();
  readonly #hasher: DigestHasher;
  #hashedBytes: number;
  /** The hashing of what came before its turn, while there is any. It never rejects: what went wrong is in #failure. */
  #hashing: Promise<void> | undefined;
  #failure: Error | undefined;
  #found: Digest | undefined;
  writtenBytes: number;
  readonly progress = new Condition();
  readonly write: Write;

  /** `hasher` has seen the bytes that are there from the first one on. */
  constructor(
    path: string,
    file: SharedFile,
    hasher: DigestHasher,
    state: { readonly spans: Spans; readonly isDurable: boolean },
  ) {
    this.#path = path;
    this.#file = file;
    this.#hasher = hasher;
    this.#isDurable = state.isDurable;
    this.#spans = state.spans;
    this.writtenBytes = this.#spans.endOf(0);
    this.#hashedBytes = this.writtenBytes;
    this.#syncedBytes = this.writtenBytes;
    this.write = this.#writer(this.writtenBytes, new Owned());
  }

  get ahead(): readonly Span[] {
    return this.#spans.list.filter(({ start }) => start > this.writtenBytes);
  }

  get storedBytes(): number {
    return this.#spans.size;
  }

  endOf(position: number): number {
    return this.#spans.endOf(position);
  }

  writer(position: number): Write {
    return this.#writer(position, new Copied());
  }

  async flush(): Promise<void> {
    while (this.#writers.size > 0) for (const writer of this.#writers) await writer.flushing;
    if (this.#failure) throw this.#failure;
  }
  async finish(algorithm?: Algorithm): Promise<Digest> {
    await this.flush();
    await this.#hashing;
    if (this.#failure) throw this.#failure;
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
      lend: async position => file.lend(this.endOf(position)),
      close: () => file.release(),
    };
  }

  rest(): void {
    if (this.#writers.size === 0 && this.#hashing === undefined) this.#file.rest();
  }

  /** Moves its file to `path`, durably, which ends it; when that fails it is still to be aborted. */
  async moveTo(path: string): Promise<void> {
    await this.#file.moveTo(path);
    this.#file.release();
  }

  async suspend(): Promise<void> {
    await this.#settled();
    this.#file.release();
  }

  async abort(): Promise<void> {
    await this.#settled();
    this.#file.release();
    // What cannot be removed now is removed at the next start.
    await rm(this.#path, { force: true }).catch(() => {});
  }

  #writer(position: number, pending: Pending): Write {
    const writer = new Writer(this.#file, position, pending, {
      failure: () => this.#failure,
      begins: () => this.#writers.add(writer),
      isWriting: (chunks, start) => this.#hash(chunks, start),
      hasWritten: span => this.#hasWritten(span),
      ends: error => {
        this.#writers.delete(writer);
        if (error !== undefined) this.#failure = storageFailure(error);
      },
    });
    return bytes => writer.write(bytes);
  }

  async #settled(): Promise<void> {
    await this.flush().catch(() => {});
    await this.#hashing;
  }

  /** Hashes what is being written, if it is its turn. */
  #hash(chunks: readonly Uint8Array[], start: number): void {
    if (start !== this.#hashedBytes || this.#hashing !== undefined) return;
    for (const chunk of chunks) {
      this.#hasher.update(chunk);
      this.#hashedBytes += chunk.byteLength;
    }
  }

  #hasWritten(span: Span): void {
    this.#spans.add(span);
    this.writtenBytes = this.#spans.endOf(0);
    this.progress.notify();
    if (this.#hashedBytes < this.writtenBytes) this.#hashing ??= this.#hashBehind();
    const unsyncedBytes = this.writtenBytes - this.#syncedBytes;
    if (this.#isDurable && !this.#isSyncing && unsyncedBytes >= SYNC_STEP_BYTES) void this.#sync();
  }

  /** Reads back and hashes what was written before its turn came, which is nearly always in memory still. */
  async #hashBehind(): Promise<void> {
    const buffer = Buffer.allocUnsafeSlow(REREAD_BYTES);
    try {
      while (this.#hashedBytes < this.writtenBytes && this.#failure === undefined) {
        const into = buffer.subarray(0, this.writtenBytes - this.#hashedBytes);
        const count = await this.#file.read(into, this.#hashedBytes);
        if (count === 0) throw new Error('what was written cannot be read back');
        this.#hasher.update(into.subarray(0, count));
        this.#hashedBytes += count;
      }
    } catch (error) {
      this.#failure = storageFailure(error);
    } finally {
      this.#hashing = undefined;
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
