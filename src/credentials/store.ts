// The logins that `ghcr-cache login` keeps, in one file that nobody but its owner can read. Commands change the file, and
// a running server takes up what has changed. A secret is in the file and in closures, and nowhere else.
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { fileProblem } from '../base/file-problem.ts';
import type { OwnedCredential } from './credential.ts';
import { kindOf } from './kinds.ts';

const loginSchema = z.object({
  /** The name of the upstream. */
  host: z.string(),
  /** What logs and errors call it; no two of a host have the same. */
  name: z.string(),
  /** A glob over the owners of repositories, in lower case. */
  owner: z.string(),
  username: z.string(),
  token: z.string(),
  /** When it was last found to be good, and when it ends, if that is known: ISO 8601. */
  checkedAt: z.string(),
  expiresAt: z.string().optional(),
});
const fileSchema = z.object({ logins: z.array(loginSchema) });

export type Login = z.output<typeof loginSchema>;

/** What may be shown of one. */
export interface ShownLogin extends Omit<Login, 'token'> {
  /** By its prefix. */
  readonly kind: string | undefined;
}

const PRIVATE = 0o600;
const OTHERS = 0o077;
/** Keeps other processes from changing the file meanwhile, until it is disposed of. */
export type Lock = (file: string) => Promise<AsyncDisposable>;

export class CredentialStore {
  readonly #file: string;
  readonly #lock: Lock;
  #logins: readonly { readonly shown: ShownLogin; readonly credential: OwnedCredential }[] = [];
  /** Of the file when it was read. */
  #stamp: string | undefined;
  readonly #listeners: (() => void)[] = [];

  private constructor(file: string, lock: Lock) {
    this.#file = file;
    this.#lock = lock;
  }

  /** Reads the file, if there is one. Throws a sentence when it cannot be used, or others can read it. */
  static async open(file: string, lock: Lock): Promise<CredentialStore> {
    const store = new CredentialStore(file, lock);
    await store.refresh();
    return store;
  }

  /** Calls back after each change. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Those of an upstream: the more its owner pattern says, the earlier, whenever it was kept. */
  of(host: string): readonly OwnedCredential[] {
    return this.#logins
      .filter(({ shown }) => shown.host === host)
      .map(({ credential }) => credential)
      .sort((a, b) => exactness(b.owner) - exactness(a.owner));
  }

  get logins(): readonly ShownLogin[] {
    return this.#logins.map(({ shown }) => shown);
  }

  /** Takes up what was changed since. Throws as open(); what was known stays then. */
  async refresh(): Promise<void> {
    const stamp = await stampOf(this.#file);
    if (stamp === this.#stamp) return;
    const logins = await readLogins(this.#file);
    this.#stamp = stamp;
    this.#logins = logins.map(({ token, ...login }) => ({
      shown: { ...login, kind: kindOf(token)?.name },
      credential: { ...login, read: async () => ({ username: login.username, secret: token }) },
    }));
    for (const listener of this.#listeners) listener();
  }

  /** Keeps a login, in place of one of the same host and name. Throws a sentence when it cannot. */
  async keep(login: Login): Promise<void> {
    await this.#change(logins => {
      const at = logins.findIndex(each => isSame(each, login));
      return at === -1 ? [...logins, login] : logins.with(at, login);
    });
  }

  /** Forgets the logins of a host, or the one of this name. Returns the names of those that there were. */
  async forget(host: string, name?: string): Promise<string[]> {
    let names: string[] = [];
    await this.#change(logins => {
      const gone = logins.filter(each => each.host === host && (name === undefined || each.name === name));
      names = gone.map(each => each.name);
      return gone.length === 0 ? undefined : logins.filter(each => !gone.includes(each));
    });
    return names;
  }

  /** `edit` returns the logins to be kept, or undefined when there is nothing to change. */
  async #change(edit: (logins: readonly Login[]) => readonly Login[] | undefined): Promise<void> {
    try {
      await using _lock = await this.#lock(`${this.#file}.lock`);
      // Left by a command that was killed.
      await rm(`${this.#file}.new`, { force: true });
      const changed = edit(await readLogins(this.#file));
      if (changed !== undefined) await replace(this.#file, `${JSON.stringify({ logins: changed }, undefined, 2)}\n`);
    } catch (error) {
      if (typeof (error as NodeJS.ErrnoException).code !== 'string') throw error;
      throw new Error(`${this.#file} cannot be written: ${(error as Error).message}`, { cause: error });
    }
    await this.refresh();
  }
}

function isSame(a: Login, b: Login): boolean {
  return a.host === b.host && a.name === b.name;
}

/** Changes whenever the file does; undefined when there is none. */
async function stampOf(file: string): Promise<string | undefined> {
  try {
    const { mtimeMs, size, ino, mode } = await stat(file);
    return `${mtimeMs} ${size} ${ino} ${mode}`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Error(`${file}: ${fileProblem(error)}`, { cause: error });
  }
}

async function readLogins(file: string): Promise<Login[]> {
  let text: string;
  try {
    await using opened = await open(file, 'r');
    const mode = (await opened.stat()).mode & 0o777;
    if ((mode & OTHERS) !== 0) {
      const shown = mode.toString(8).padStart(4, '0');
      throw new Error(`${file} holds tokens, and others can read it (mode ${shown}); run: chmod 600 ${file}`);
    }
    text = await readFile(opened, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return [];
    if (code === undefined) throw error;
    throw new Error(`${file}: ${fileProblem(error)}`, { cause: error });
  }
  try {
    return fileSchema.parse(JSON.parse(text)).logins;
  } catch {
    // Not what the parser says, which may quote a token.
    throw new Error(`${file} is not as "ghcr-cache login" writes it; remove it, and log in again`);
  }
}

/** The file holds the old text or the new one, whatever happens. */
async function replace(file: string, text: string): Promise<void> {
  const fresh = `${file}.new`;
  {
    await using opened = await open(fresh, 'wx', PRIVATE);
    if (((await opened.stat()).mode & OTHERS) !== 0) {
      await rm(fresh);
      throw new Error(
        `${dirname(file)} is on a file system without modes, where no token can be kept from other users`,
      );
    }
    await opened.writeFile(text);
    await opened.sync();
  }
  await rename(fresh, file);
  await using directory = await open(dirname(file), 'r');
  await directory.sync();
}

/** An owner by its name says the most, `*` the least. */
function exactness(owner: string): number {
  return owner.includes('*') ? owner.length : Infinity;
}
