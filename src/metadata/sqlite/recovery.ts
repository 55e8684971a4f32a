// The database file, and what is done when it is damaged: it is moved aside, an empty one is created in its place, and
// all content is indexed again, be it at the start or in the middle of work. Content is what must not be lost; what is
// in here comes back from it and from the upstreams.
//
// Durability: WAL and synchronous=NORMAL. A power cut can lose the last transactions but never mixes them up; what is
// lost are links, which the next pull confirms again.
import { closeSync, existsSync, openSync, renameSync, statSync } from 'node:fs';
import Database from 'better-sqlite3';
import type { Clock } from '../../base/clock.ts';
import { StorageFailure } from '../../oci/errors.ts';
import type { ContentRow } from '../metadata.ts';
import { migrate } from './migrations.ts';
import { prepare, type Statements } from './statements.ts';

export interface FileOptions {
  readonly clock: Clock;
  /**
   * Locks every other program out, also such as only read, for as long as the file is open. WAL then needs no memory
   * that processes share, which a network file system does not have.
   */
  readonly exclusive?: boolean;
  /** All content there is: an empty database is filled from it. */
  readonly content: () => AsyncIterable<ContentRow>;
  /** A damaged file was moved to `movedTo` and an empty one is in its place. */
  readonly onDamaged: (movedTo: string, reason: string) => void;
}

const INDEXED_AT_ONCE = 1_000;
/** The file's application id once all content is indexed; 0, which SQLite begins with, until then. */
const COMPLETE = 0x67686372;
/** How long another program, such as the sqlite3 shell, may take to let go of the file. */
const LOCK_TIMEOUT_MS = 500;
/** A file up to this size is checked through when it is opened; it takes a fraction of a second. */
const CHECKED_AT_OPEN_BYTES = 32 * 1024 * 1024;

export class RecoverableFile {
  readonly #path: string;
  readonly #options: FileOptions;
  /** Undefined when a damaged file could not be replaced: the next work tries again. */
  #open: OpenDatabase | undefined;

  private constructor(path: string, options: FileOptions) {
    this.#path = path;
    this.#options = options;
    try {
      this.#open = openDatabase(path, options);
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#recreate(error);
    }
  }

  /** Opens the file, making it if need be. Throws when it cannot be used and is not merely damaged. */
  static async open(path: string, options: FileOptions): Promise<RecoverableFile> {
    const file = new RecoverableFile(path, options);
    try {
      const id = file.run((_, database) => database.pragma('application_id', { simple: true }));
      if (id !== COMPLETE) await file.#index();
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Does the work, which must be synchronous; on a new file if this one turns out to be damaged. Throws StorageFailure. */
  run<T>(work: (sql: Statements, database: Database.Database) => T): T {
    try {
      return this.#do(work);
    } catch (error) {
      if (!isDamage(error)) throw storageFailure(error);
      try {
        this.#recreate(error);
        // What it lacks of the content until then costs a question upstream, no download.
        void this.#index().catch(() => {});
        return this.#do(work);
      } catch (again) {
        throw isDamage(again)
          ? new StorageFailure('metadata.db is damaged again', { cause: again })
          : storageFailure(again);
      }
    }
  }

  /** The same; all of it is done, or nothing. */
  transaction<T>(work: (sql: Statements) => T): T {
    return this.run((sql, database) => database.transaction(() => work(sql)).immediate());
  }

  /** Throws StorageFailure when the file is not in its place any more: what is written to it goes with the process. */
  checkPlace(): void {
    if (this.#open === undefined || this.#open.place === placeOf(this.#path)) return;
    throw new StorageFailure(
      `${this.#path} was removed or replaced while it was in use, so nothing new can be kept: ` +
        'restart, to go on with the file that is there, or with a new one that is filled from content/',
    );
  }

  close(): void {
    this.#open?.database.close();
  }

  #do<T>(work: (sql: Statements, database: Database.Database) => T): T {
    this.#open ??= openDatabase(this.#path, this.#options);
    return work(this.#open.sql, this.#open.database);
  }

  /** Records all content there is, as many rows at a time as make a transaction worthwhile. */
  async #index(): Promise<void> {
    let rows: ContentRow[] = [];
    const write = () =>
      this.transaction(sql => {
        for (const row of rows) sql.putContent.run(row.digest, row.sizeBytes, this.#options.clock.now());
        rows = [];
      });
    for await (const row of this.#options.content()) if (rows.push(row) === INDEXED_AT_ONCE) write();
    write();
    this.run((_, database) => database.pragma(`application_id = ${COMPLETE}`));
  }

  #recreate(error: unknown): void {
    this.#open?.database.close();
    this.#open = undefined;
    const movedTo = `${this.#path}.damaged-${this.#options.clock.now()}`;
    try {
      for (const suffix of ['', '-wal', '-shm']) {
        if (existsSync(this.#path + suffix)) renameSync(this.#path + suffix, movedTo + suffix);
      }
    } catch (cause) {
      const message = `metadata.db is damaged and cannot be moved aside (${(cause as Error).message})`;
      throw new StorageFailure(message, { cause });
    }
    this.#open = openDatabase(this.#path, this.#options);
    this.#options.onDamaged(movedTo, (error as Error).message);
  }
}

interface OpenDatabase {
  readonly database: Database.Database;
  readonly sql: Statements;
  /** What is at its path: see placeOf. */
  readonly place: string;
}

function openDatabase(path: string, { exclusive = false }: FileOptions): OpenDatabase {
  makePrivate(path);
  const database = new Database(path, { timeout: LOCK_TIMEOUT_MS });
  try {
    if (exclusive) database.pragma('locking_mode = EXCLUSIVE');
    database.pragma('journal_mode = WAL');
    database.pragma('synchronous = NORMAL');
    database.pragma('foreign_keys = ON');
    if (statSync(path).size <= CHECKED_AT_OPEN_BYTES) {
      const verdict = database.pragma('quick_check(1)', { simple: true });
      if (verdict !== 'ok') throw new Database.SqliteError(String(verdict), 'SQLITE_CORRUPT');
    }
    migrate(database, path);
    return { database, sql: prepare(database), place: placeOf(path) };
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Makes an empty file if there is none: SQLite would make one that others can read. Those beside it get its mode. */
function makePrivate(path: string): void {
  try {
    closeSync(openSync(path, 'ax', 0o600));
  } catch {
    // It is there; if not, SQLite says why.
  }
}

/** Which file is at the path; empty when there is none, or it cannot be reached. */
function placeOf(path: string): string {
  try {
    const { dev, ino } = statSync(path);
    return `${dev} ${ino}`;
  } catch {
    return '';
  }
}

/** Errors of the disk, or of another process that holds the file; anything else is a bug and stays as it is. */
function storageFailure(error: unknown): unknown {
  const isStorage =
    error instanceof Database.SqliteError && /^SQLITE_(FULL|IOERR|READONLY|CANTOPEN|BUSY|PERM)/.test(error.code);
  return isStorage ? new StorageFailure(`metadata.db cannot be used (${error.message})`, { cause: error }) : error;
}

function isDamage(error: unknown): boolean {
  return (
    error instanceof Database.SqliteError && (error.code.startsWith('SQLITE_CORRUPT') || error.code === 'SQLITE_NOTADB')
  );
}
