// One open file with several users, each of which reads at positions of its own. The descriptor is closed when the
// last user has released it and no call is in progress, so a number is never used after the system has it back.
import { close, fdatasync, fstat, fstatSync, fsync, open, read, type Stats, writev } from 'node:fs';
import { open as openHandle, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import type { LentFile } from '../content.ts';
import type { PageCache } from '../page-cache.ts';
import { PRIVATE_FILE } from './layout.ts';

const openFile = promisify(open);
const statFile = promisify(fstat);
const syncFile = promisify(fsync);

export class SharedFile {
  readonly #fd: number;
  #path: string;
  #users = 1;

  private constructor(fd: number, path: string) {
    this.#fd = fd;
    this.#path = path;
  }

  /** Opens it for a first user. */
  static async open(path: string, flags: 'r' | 'r+' | 'wx+'): Promise<SharedFile> {
    return new SharedFile(await openFile(path, flags, PRIVATE_FILE), path);
  }

  /** Another user; each must release exactly once. */
  retain(): this {
    if (this.#users === 0) throw new Error(`${this.#path} is closed`);
    this.#users++;
    return this;
  }

  release(): void {
    if (--this.#users === 0) close(this.#fd, () => {});
  }

  /** Reads from `position` into the front of `into`; resolves to the count, 0 at the end of the file. */
  read(into: Uint8Array, position: number): Promise<number> {
    return this.#use(done => read(this.#fd, into, 0, into.byteLength, position, done));
  }

  /** Lends it, as a user of its own. */
  lend(end: number): LentFile {
    this.retain();
    return { fd: this.#fd, end, release: () => this.release() };
  }

  /** Writes all bytes of all chunks at `position`. */
  async write(chunks: Uint8Array[], position: number): Promise<void> {
    while (chunks.length > 0) {
      const count = await this.#use<number>(done => writev(this.#fd, chunks, position, done));
      position += count;
      chunks = after(chunks, count);
    }
  }

  /** Makes what was written so far durable. */
  sync(): Promise<void> {
    return this.#use(done => fdatasync(this.#fd, error => done(error, undefined)));
  }

  stat(): Promise<Stats> {
    return statFile(this.#fd);
  }

  /** Synchronously, since an open file is asked without a disk. Undefined when it was removed or replaced. */
  statIfThere(): Stats | undefined {
    try {
      const stat = fstatSync(this.#fd);
      return stat.nlink > 0 ? stat : undefined;
    } catch {
      // On a network file system, where another machine has removed it.
      return undefined;
    }
  }

  /** Whether its bytes up to `end` are in memory; undefined where that is not known. */
  isInMemory(pageCache: PageCache | undefined, end: number): boolean | undefined {
    return this.#users === 0 ? undefined : pageCache?.holds(this.#fd, 0, end);
  }

  /** Makes the bytes durable, then the name, in this order: after a crash the name never holds less. */
  async moveTo(path: string): Promise<void> {
    await syncFile(this.#fd);
    await rename(this.#path, path);
    this.#path = path;
    await using directory = await openHandle(dirname(path), 'r');
    await directory.sync();
  }

  #use<T>(call: (done: (error: Error | null, result: T) => void) => void): Promise<T> {
    this.retain();
    return new Promise<T>((resolve, reject) => {
      call((error, result) => {
        this.release();
        if (error) reject(error);
        else resolve(result);
      });
    });
  }
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
