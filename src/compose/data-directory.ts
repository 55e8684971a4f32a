// The data directory: made if need be, locked against a second process, and closed to other users. Where it cannot be
// used, an error says so in a sentence: which directory, which user, and what to do.
import { chmodSync, closeSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../base/log.ts';
import { makeDirectory, PRIVATE_DIRECTORY, PRIVATE_FILE } from '../content/local/layout.ts';

/** What we put there, also in earlier versions. The directory itself is closed to others if there is nothing else. */
const OURS = /^(?:content|ingest|metadata\.db.*|credentials\.json.*|control\.sock|lock|lost\+found)$/;
/** Left by earlier versions: a lock that a person could remove. */
const OLD_LOCK = 'lock';

/**
 * Makes the directory and takes it for this process, until what it returns is called or the process ends, however that
 * happens. Throws a sentence when it cannot, or when another process has it, which would lose what it has in flight.
 */
export async function takeDataDirectory(directory: string): Promise<() => void> {
  await inSentences(directory, () => makeDirectory(directory));
  return lock(directory);
}

/** Closes to other users what an earlier version, or somebody else, has left open. Also removes what is of no use now. */
export function closeToOthers(directory: string, log: Log): void {
  try {
    closeAll(directory);
    rmSync(join(directory, OLD_LOCK), { force: true });
  } catch (error) {
    // Of another owner, or on a file system without modes.
    log.warn({}, `other users may be able to read what is in ${directory}: ${(error as Error).message}`);
  }
}

/** Does what needs the directory. An error of the system becomes a sentence, any other stays what it is. */
export async function inSentences<T>(directory: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const first = firstCause(error);
    if (typeof first?.code !== 'string') throw error;
    const [why, remedy] = explain(directory, first);
    const message = `the data directory ${directory} cannot be used by ${whoWeAre()}: ${why}; ${remedy}`;
    throw new Error(message, { cause: error });
  }
}

type SystemError = Error & { code?: string; path?: string };

function firstCause(error: unknown): SystemError | undefined {
  return error instanceof Error ? (firstCause(error.cause) ?? error) : undefined;
}

function explain(directory: string, { code = '', path = directory, message }: SystemError): [string, string] {
  const elsewhere = 'give "data" a directory that can be written';
  const give = `give the directory, and what is in it, to that user (chown -R ${userId() ?? 'USER'} ${directory})`;
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return [`${path} is closed to that user`, `${give}, or ${elsewhere}`];
    case 'EROFS':
      return ['it is on a file system that is mounted read-only', `mount that writable, or ${elsewhere}`];
    case 'EEXIST':
    case 'ENOTDIR':
      return [`${path} is not a directory, or not in one`, elsewhere];
    case 'ENOENT':
      return [`its file system takes no new files (${message})`, elsewhere];
    case 'EXDEV':
      return ['its content/ and ingest/ are on different file systems', 'move both to the same one'];
  }
  if (code.startsWith('SQLITE_BUSY')) {
    return ['another program has its metadata.db open', 'stop that one, or give this one another "data"'];
  }
  if (/^SQLITE_(?:READONLY|CANTOPEN|PERM)/.test(code)) {
    return [`its metadata.db cannot be written (${message})`, `${give}, or ${elsewhere}`];
  }
  return [message, elsewhere];
}

/** The name is unknown where the system has no such user, as in many containers. */
function whoWeAre(): string {
  const uid = userId();
  if (uid === undefined) return 'this user';
  try {
    return `the user ${userInfo().username} (uid ${uid})`;
  } catch {
    return `the user of uid ${uid}`;
  }
}

function userId(): number | undefined {
  return process.geteuid?.();
}

/**
 * Locks the directory itself, which cannot be removed without what is in it: flock(2), which the system releases with
 * the process. Where there is no such call, the lock that SQLite holds on metadata.db is what keeps a second one out.
 */
async function lock(directory: string): Promise<() => void> {
  const flock = await loadFlock();
  if (flock === undefined) return () => {};
  const fd = await inSentences(directory, async () => openSync(directory, 'r'));
  if (flock(fd)) return () => closeSync(fd);
  closeSync(fd);
  throw new Error(`${directory} is in use by another ghcr-cache; stop that one, or give this one another "data"`);
}

/** How long another process may take with a lock that is waited for. */
const LOCKED_MS = 10_000;
const LOOK_MS = 50;

/** Locks a file, which it makes, against other processes. Throws a sentence when one has it for too long. */
export async function lockFile(file: string): Promise<AsyncDisposable> {
  const flock = await loadFlock();
  const fd = openSync(file, 'a', PRIVATE_FILE);
  for (let waitedMs = 0; flock !== undefined && !flock(fd); waitedMs += LOOK_MS) {
    if (waitedMs >= LOCKED_MS) {
      closeSync(fd);
      throw new Error(`another process has held ${file} for ${LOCKED_MS / 1000} s; try again when it has ended`);
    }
    await sleep(LOOK_MS);
  }
  return { [Symbol.asyncDispose]: async () => closeSync(fd) };
}

const LOCK_EX = 2;
const LOCK_NB = 4;

/** Takes the lock on an open file; false when another process has it. */
type Flock = (fd: number) => boolean;

async function loadFlock(): Promise<Flock | undefined> {
  try {
    const { default: koffi } = await import('koffi');
    const flock = koffi.load(null).func('int flock(int fd, int operation)');
    // A file system that knows no locks fails in other ways.
    return fd => flock(fd, LOCK_EX | LOCK_NB) === 0 || koffi.errno() !== koffi.os.errno.EWOULDBLOCK;
  } catch {
    return undefined;
  }
}

/** Throws the error of the first file whose mode cannot be changed. */
function closeAll(directory: string): void {
  const entries = readdirSync(directory, { withFileTypes: true });
  for (const entry of entries) {
    const path = join(directory, entry.name);
    if (entry.isFile() && entry.name.startsWith('metadata.db')) closeMode(path, PRIVATE_FILE);
    // Only once, after an earlier version: the mode of the top is set last.
    else if (['content', 'ingest'].includes(entry.name) && isOpen(path)) closeTree(path);
  }
  if (entries.every(({ name }) => OURS.test(name))) closeMode(directory, PRIVATE_DIRECTORY);
}

/** Follows no links, but for the top itself: content/ may be on another disk. */
function closeTree(directory: string): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) closeTree(path);
    else if (entry.isFile()) closeMode(path, PRIVATE_FILE);
  }
  closeMode(directory, PRIVATE_DIRECTORY);
}

function closeMode(path: string, mode: number): void {
  if (isOpen(path)) chmodSync(path, mode);
}

function isOpen(path: string): boolean {
  return (statSync(path).mode & 0o077) !== 0;
}
