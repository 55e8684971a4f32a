// One open file with several users, each of which reads at positions of its own. The descriptor is closed when the
// last user has released it and no call is in progress, so a number is never used after the system has it back. A file
// with a single user may rest meanwhile: it has no descriptor until it is used again.
import { close, fdatasync, fstat, fstatSync, fsync, open, read, type Stats, writev } from 'node:fs';
import { open as openHandle, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isOutOfDescriptors } from '../../oci/errors.ts';
import type { LentFile } from '../content.ts';
import type { PageCache } from '../page-cache.ts';
import { PRIVATE_FILE } from './layout.ts';

export class SharedFile {
  /** Undefined while it rests. */
  #fd: number | undefined;
  #path: string;
  #users = 1;
  #waking: Promise<number> | undefined;
  readonly #onExhausted: () => void;

  private constructor(fd: number, path: string, onExhausted: () => void) {
    this.#fd = fd;
    this.#path = path;
    this.#onExhausted = onExhausted;
  }

  /** Opens it for a first user. `onExhausted` is to close others when no descriptor is left, for another attempt. */
  static async open(path: string, flags: 'r' | 'r+' | 'wx+', onExhausted: () => void): Promise<SharedFile> {
    return new SharedFile(await openFile(path, flags, onExhausted), path, onExhausted);
  }

  /** Another user; each must release exactly once. */
  retain(): this {
    if (this.#users === 0) throw new Error(`${this.#path} is closed`);
    this.#users++;
    return this;
  }

  release(): void {
    if (--this.#users === 0) this.#close();
  }

  /** Gives the descriptor back, unless others use the file too. The next call opens it again, if it is still there. */
  rest(): void {
    if (this.#users === 1) this.#close();
  }

  /** Reads from `position` into the front of `into`; resolves to the count, 0 at the end of the file. */
  read(into: Uint8Array, position: number): Promise<number> {
    return this.#use((fd, done) => read(fd, into, 0, into.byteLength, position, done));
  }

  /** Lends it, as a user of its own. */
  async lend(end: number): Promise<LentFile> {
    this.retain();
    const fd = this.#fd ?? (await this.#wake());
    return { fd, end, release: () => this.release() };
  }

  /** Writes all bytes of all chunks at `position`. */
  async write(chunks: Uint8Array[], position: number): Promise<void> {
    while (chunks.length > 0) {
      const count = await this.#use<number>((fd, done) => writev(fd, chunks, position, done));
      position += count;
      chunks = after(chunks, count);
    }
  }

  /** Makes what was written so far durable. */
  sync(): Promise<void> {
    return this.#use((fd, done) => fdatasync(fd, error => done(error, undefined)));
  }

  stat(): Promise<Stats> {
    return this.#use((fd, done) => fstat(fd, done));
  }

  /** Synchronously, since an open file is asked without a disk. Undefined when it was removed or replaced. */
  statIfThere(): Stats | undefined {
    try {
      const stat = fstatSync(this.#fd as number);
      return stat.nlink > 0 ? stat : undefined;
    } catch {
      // On a network file system, where another machine has removed it.
      return undefined;
    }
  }

  /** Whether its bytes up to `end` are in memory; undefined where that is not known. */
  isInMemory(pageCache: PageCache | undefined, end: number): boolean | undefined {
    return this.#fd === undefined ? undefined : pageCache?.holds(this.#fd, 0, end);
  }

  /** Makes the bytes durable, then the name, in this order: after a crash the name never holds less. */
  async moveTo(path: string): Promise<void> {
    await this.#use<void>((fd, done) => fsync(fd, error => done(error, undefined)));
    await rename(this.#path, path);
    this.#path = path;
    await using directory = await openHandle(dirname(path), 'r');
    await directory.sync();
  }

  #use<T>(call: (fd: number, done: (error: Error | null, result: T) => void) => void): Promise<T> {
    this.retain();
    const fd = this.#fd;
    return fd === undefined ? this.#wake().then(fd => this.#call(fd, call)) : this.#call(fd, call);
  }

  /** Releases it afterwards. */
  #call<T>(fd: number, call: (fd: number, done: (error: Error | null, result: T) => void) => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      call(fd, (error, result) => {
        this.release();
        if (error) reject(error);
        else resolve(result);
      });
    });
  }

  /** Opens it again for a user, who is one no more if that fails. */
  async #wake(): Promise<number> {
    this.#waking ??= openFile(this.#path, 'r+', this.#onExhausted).finally(() => {
      this.#waking = undefined;
    });
    try {
      this.#fd = await this.#waking;
      return this.#fd;
    } catch (error) {
      this.release();
      throw error;
    }
  }

  #close(): void {
    if (this.#fd !== undefined) close(this.#fd, () => {});
    this.#fd = undefined;
  }
}

async function openFile(path: string, flags: string, onExhausted: () => void): Promise<number> {
  try {
    return await openOnce(path, flags);
  } catch (error) {
    if (!isOutOfDescriptors(error)) throw error;
    onExhausted();
    // The thread pool does the closing first.
    return openOnce(path, flags);
  }
}

function openOnce(path: string, flags: string): Promise<number> {
  return new Promise((resolve, reject) => {
    open(path, flags, PRIVATE_FILE, (error, fd) => (error ? reject(error) : resolve(fd)));
  });
}

/** What is left of the chunks after `count` bytes were written: nearly always nothing. */
function after(chunks: Uint8Array[], count: number): Uint8Array[] {
  let i = 0;
  for (; i < chunks.length; i++) {
    const length = chunks[i]?.byteLength ?? 0;
    if (count < length) break;
    count -= length;
  }
  const rest = chunks.slice(i);
  if (rest[0] !== undefined && count > 0) rest[0] = rest[0].subarray(count);
  return rest;
}

/** For `catch`: a file that does not exist is undefined, also where something else than its directory is. */
export function ifMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
}
