// Metadata in SQLite: WAL, STRICT tables, statements prepared once. A file that turns out to be damaged is
// moved aside and started anew, when it is opened or in the middle of work: content is what must not be
// lost, and all that is in here comes back from it and from the upstreams.
//
// Durability: synchronous=NORMAL. A power cut can lose the last transactions but never mixes them up; what
// is lost are links, which the next pull confirms again.
import { existsSync, renameSync, statSync } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import Database from 'better-sqlite3';
import type { Clock } from '../../base/clock.ts';
import type { Digest } from '../../oci/digest.ts';
import { StorageFailure } from '../../oci/errors.ts';
import type { Repository } from '../../oci/reference.ts';
import type {
  ContentRow,
  ManifestRow,
  Metadata,
  ReferrersRow,
  TagListRow,
  TagRow,
  UploadRow,
} from '../metadata.ts';
import { migrations } from './migrations.ts';

/** Pulls are written down this often, or when so many have come together. */
const TOUCH_INTERVAL_MS = 5_000;
const TOUCH_LIMIT = 10_000;
/** Rows that are kept in memory, of links to blobs, of those to manifests, and of tags; about 5 MB each. */
const RECALLED_LIMIT = 20_000;
const ADOPTED_AT_ONCE = 1_000;
/** The file's application id once it is complete; 0, which SQLite begins with, while it is being filled. */
const COMPLETE = 0x67686372;
/** A file up to this size is checked through when it is opened; it takes a fraction of a second. */
const CHECKED_AT_OPEN_BYTES = 32 * 1024 * 1024;

export interface SqliteOptions {
  readonly clock: Clock;
  /** All content there is: an empty store is filled from it. */
  readonly content: () => AsyncIterable<ContentRow>;
  /** A damaged file was moved to `movedTo` and a new one is in its place. */
  readonly onDamaged: (movedTo: string, reason: string) => void;
}

export class SqliteMetadata implements Metadata {
  readonly #path: string;
  readonly #options: SqliteOptions;
  #open: OpenDatabase;
  /**
   * What was looked up since the last change, so that a hot pull does not touch the database. Nobody else writes to
   * it while this process has its data directory locked.
   */
  readonly #links = { blob: new Map<string, ManifestRow>(), manifest: new Map<string, ManifestRow>() };
  readonly #tags = new Map<string, TagRow>();
  readonly #touched = new Map<Digest, number>();
  #touchTimer: NodeJS.Timeout | undefined;

  private constructor(path: string, options: SqliteOptions) {
    this.#path = path;
    this.#options = options;
    try {
      this.#open = openDatabase(path);
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#open = this.#startAnew(error);
    }
  }

  /** Opens the file, making it if need be. Throws when it cannot be used and is not merely damaged. */
  static async open(path: string, options: SqliteOptions): Promise<SqliteMetadata> {
    const metadata = new SqliteMetadata(path, options);
    if (!metadata.#open.isComplete) await metadata.#adoptAll();
    return metadata;
  }

  findBlob(repository: Repository, digest: Digest): Promise<ContentRow | undefined> {
    return this.#findLink(repository, digest, 'blob');
  }

  findManifest(repository: Repository, digest: Digest): Promise<ManifestRow | undefined> {
    return this.#findLink(repository, digest, 'manifest');
  }

  async linkBlob(repositories: readonly Repository[], content: ContentRow): Promise<void> {
    this.#change(sql => {
      sql.putContent.run(content.digest, content.sizeBytes, this.#options.clock.now());
      for (const repository of repositories) {
        sql.putLink.run(repositoryId(sql, repository), content.digest, 'blob', '');
      }
    });
  }

  async linkManifest(
    repository: Repository,
    manifest: ManifestRow,
    tags: readonly string[] = [],
  ): Promise<void> {
    this.#change(sql => {
      const now = this.#options.clock.now();
      const id = repositoryId(sql, repository);
      sql.putContent.run(manifest.digest, manifest.sizeBytes, now);
      sql.putLink.run(id, manifest.digest, 'manifest', manifest.mediaType);
      for (const tag of tags) sql.putTag.run(id, tag, manifest.digest, now);
    });
  }

  async unlinkBlob(repository: Repository, digest: Digest): Promise<boolean> {
    return this.#change(sql => {
      sql.dropLink.run(repository.upstream, repository.name, digest, 'blob');
      return sql.findAnyLink.get(digest) !== undefined;
    });
  }

  async unlinkManifest(repository: Repository, digest: Digest): Promise<boolean> {
    return this.#change(sql => {
      sql.dropLink.run(repository.upstream, repository.name, digest, 'manifest');
      sql.forgetTagsTo.run(repository.upstream, repository.name, digest);
      return sql.findAnyLink.get(digest) !== undefined;
    });
  }

  async isRecorded(digest: Digest): Promise<boolean> {
    return this.#run(sql => sql.findContent.get(digest) !== undefined);
  }

  async findHolder(upstream: string, digest: Digest): Promise<Repository | undefined> {
    return this.#run(sql => sql.findHolder.get(digest, upstream) as Repository | undefined);
  }

  async repositories(): Promise<Repository[]> {
    return this.#run(sql => sql.repositories.all() as Repository[]);
  }

  findTag(repository: Repository, tag: string): Promise<TagRow | undefined> {
    const { upstream, name } = repository;
    return this.#recall(this.#tags, keyOf(repository, tag), sql => sql.findTag.get(upstream, name, tag));
  }

  async confirmTag(repository: Repository, tag: string): Promise<void> {
    this.#change(sql =>
      sql.confirmTag.run(this.#options.clock.now(), repository.upstream, repository.name, tag),
    );
  }

  async forgetTag(repository: Repository, tag: string): Promise<void> {
    this.#change(sql => sql.forgetTag.run(repository.upstream, repository.name, tag));
  }

  async pulledTags(repository: Repository): Promise<string[]> {
    return this.#run(sql => sql.pulledTags.pluck().all(repository.upstream, repository.name) as string[]);
  }

  async findTagList(repository: Repository): Promise<TagListRow | undefined> {
    const row = this.#run(sql => sql.findTagList.get(repository.upstream, repository.name)) as
      | { tags: string; checkedAtMs: number }
      | undefined;
    return row && { tags: JSON.parse(row.tags), checkedAtMs: row.checkedAtMs };
  }

  async saveTagList(repository: Repository, tags: readonly string[]): Promise<void> {
    this.#change(sql => {
      sql.putTagList.run(repositoryId(sql, repository), JSON.stringify(tags), this.#options.clock.now());
    });
  }

  async findReferrers(repository: Repository, subject: Digest): Promise<ReferrersRow | undefined> {
    const row = this.#run(sql => sql.findReferrers.get(repository.upstream, repository.name, subject)) as
      | { descriptors: string; checkedAtMs: number }
      | undefined;
    return row && { descriptors: JSON.parse(row.descriptors), checkedAtMs: row.checkedAtMs };
  }

  async saveReferrers(
    repository: Repository,
    subject: Digest,
    descriptors: readonly unknown[],
  ): Promise<void> {
    const json = JSON.stringify(descriptors);
    this.#change(sql => {
      sql.putReferrers.run(repositoryId(sql, repository), subject, json, this.#options.clock.now());
    });
  }

  async putUpload({ id, repository, algorithm, startedAtMs }: UploadRow): Promise<void> {
    this.#change(sql => {
      sql.putUpload.run(id, repositoryId(sql, repository), algorithm, startedAtMs);
    });
  }

  async dropUpload(id: string): Promise<void> {
    this.#change(sql => sql.dropUpload.run(id));
  }

  async uploads(): Promise<UploadRow[]> {
    const rows = this.#run(sql => sql.uploads.all()) as (Omit<UploadRow, 'repository'> & Repository)[];
    return rows.map(({ upstream, name, ...upload }) => ({ ...upload, repository: { upstream, name } }));
  }

  touch(digest: Digest): void {
    this.#touched.set(digest, this.#options.clock.now());
    if (this.#touched.size >= TOUCH_LIMIT) this.#writeTouches();
    else this.#touchTimer ??= setTimeout(() => this.#writeTouches(), TOUCH_INTERVAL_MS).unref();
  }

  async drop(digest: Digest): Promise<number> {
    this.#touched.delete(digest);
    return this.#change(sql => (sql.drop.pluck().get(digest) as number | undefined) ?? 0);
  }

  async leastRecentlyUsed(limit: number, except: readonly Repository[]): Promise<ContentRow[]> {
    this.#writeTouches();
    const excepted = JSON.stringify(except.map(({ upstream, name }) => `${upstream}/${name}`));
    return this.#run(sql => sql.leastRecentlyUsed.all(excepted, limit) as ContentRow[]);
  }

  async totalBytes(): Promise<number> {
    return this.#run(sql => sql.totalBytes.pluck().get() as number);
  }

  async sync(): Promise<void> {
    // A commit is in the log; what is not in it any more was made durable with the file it was moved to.
    const log = await openFile(`${this.#path}-wal`, 'r').catch(error => {
      throw new StorageFailure(`metadata.db cannot be made durable (${error.message})`, { cause: error });
    });
    try {
      await log.datasync();
    } finally {
      await log.close();
    }
  }

  async check(): Promise<void> {
    // A transaction that changes nothing must still take the write lock, which needs a writable file.
    this.#transaction(() => {});
  }

  async close(): Promise<void> {
    this.#writeTouches();
    this.#open.database.close();
  }

  #writeTouches(): void {
    clearTimeout(this.#touchTimer);
    this.#touchTimer = undefined;
    if (this.#touched.size === 0) return;
    try {
      this.#transaction(sql => {
        for (const [digest, at] of this.#touched) sql.touch.run(at, digest);
      });
      this.#touched.clear();
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
      // On a full disk they are kept for the next time, but not without end.
      if (this.#touched.size >= TOUCH_LIMIT) this.#touched.clear();
    }
  }

  #findLink(
    repository: Repository,
    digest: Digest,
    kind: 'blob' | 'manifest',
  ): Promise<ManifestRow | undefined> {
    const { upstream, name } = repository;
    const key = keyOf(repository, digest);
    return this.#recall(this.#links[kind], key, sql => sql.findLink.get(upstream, name, digest, kind));
  }

  #recall<Row>(
    known: Map<string, Row>,
    key: string,
    find: (sql: Statements) => unknown,
  ): Promise<Row | undefined> {
    const recalled = known.get(key);
    return recalled === undefined ? this.#lookUp(known, key, find) : Promise.resolve(recalled);
  }

  async #lookUp<Row>(
    known: Map<string, Row>,
    key: string,
    find: (sql: Statements) => unknown,
  ): Promise<Row | undefined> {
    const row = this.#run(find) as Row | undefined;
    if (row !== undefined) {
      if (known.size >= RECALLED_LIMIT) known.clear();
      known.set(key, row);
    }
    return row;
  }

  #forget(): void {
    this.#links.blob.clear();
    this.#links.manifest.clear();
    this.#tags.clear();
  }

  /** Every change of what is recalled goes through here. All of it is done, or nothing. */
  #change<T>(work: (sql: Statements) => T): T {
    this.#forget();
    return this.#transaction(work);
  }

  #transaction<T>(work: (sql: Statements) => T): T {
    return this.#run((sql, database) => database.transaction(() => work(sql)).immediate());
  }

  /** Every access goes through here: damage that shows now is mended, and the work done on the new file. */
  #run<T>(work: (sql: Statements, database: Database.Database) => T): T {
    try {
      return work(this.#open.sql, this.#open.database);
    } catch (error) {
      if (!isDamage(error)) throw storageFailure(error);
      this.#open.database.close();
      this.#open = this.#startAnew(error);
      this.#forget();
      // What it misses of the content until then costs a question upstream, no download.
      void this.#adoptAll().catch(() => {});
      return work(this.#open.sql, this.#open.database);
    }
  }

  /** Records all content that is there, as many rows at a time as make a transaction worthwhile. */
  async #adoptAll(): Promise<void> {
    let rows: ContentRow[] = [];
    const write = () =>
      this.#change(sql => {
        for (const row of rows) sql.putContent.run(row.digest, row.sizeBytes, this.#options.clock.now());
        rows = [];
      });
    for await (const row of this.#options.content()) if (rows.push(row) === ADOPTED_AT_ONCE) write();
    write();
    this.#run((_, database) => database.pragma(`application_id = ${COMPLETE}`));
  }

  #startAnew(error: unknown): OpenDatabase {
    const movedTo = `${this.#path}.damaged-${this.#options.clock.now()}`;
    for (const suffix of ['', '-wal', '-shm']) {
      if (existsSync(this.#path + suffix)) renameSync(this.#path + suffix, movedTo + suffix);
    }
    const open = openDatabase(this.#path);
    this.#options.onDamaged(movedTo, (error as Error).message);
    return open;
  }
}

/** No host and no name has a space in it, so that no two read the same. */
function keyOf({ upstream, name }: Repository, what: string): string {
  return `${upstream} ${name} ${what}`;
}

interface OpenDatabase {
  /** Whether all content there was when the file was new has been recorded. */
  readonly isComplete: boolean;
  readonly database: Database.Database;
  readonly sql: Statements;
}

type Statements = ReturnType<typeof prepare>;

function openDatabase(path: string): OpenDatabase {
  const database = new Database(path, { timeout: 5_000 });
  try {
    database.pragma('journal_mode = WAL');
    database.pragma('synchronous = NORMAL');
    database.pragma('foreign_keys = ON');
    if (statSync(path).size <= CHECKED_AT_OPEN_BYTES) {
      const verdict = database.pragma('quick_check(1)', { simple: true });
      if (verdict !== 'ok') throw new Database.SqliteError(String(verdict), 'SQLITE_CORRUPT');
    }
    migrate(database, path);
    const isComplete = database.pragma('application_id', { simple: true }) === COMPLETE;
    return { isComplete, database, sql: prepare(database) };
  } catch (error) {
    database.close();
    throw error;
  }
}

function migrate(database: Database.Database, path: string): void {
  const version = database.pragma('user_version', { simple: true }) as number;
  if (version > migrations.length) {
    throw new Error(
      `${path} was written by a newer ghcr-cache (schema ${version}, this one knows ${migrations.length}): ` +
        'start that version, or move the file away to have it rebuilt',
    );
  }
  for (const [i, step] of migrations.entries()) {
    if (i < version) continue;
    database.transaction(() => {
      database.exec(step);
      database.pragma(`user_version = ${i + 1}`);
    })();
  }
}

const OF_REPOSITORY = '(SELECT id FROM repositories WHERE upstream = ? AND name = ?)';

function prepare(database: Database.Database) {
  const sql = (text: string) => database.prepare(text);
  return {
    findLink: sql(
      `SELECT digest, size_bytes AS sizeBytes, media_type AS mediaType FROM links JOIN content USING (digest)
       WHERE repository_id = ${OF_REPOSITORY} AND digest = ? AND kind = ?`,
    ),
    putContent: sql(
      `INSERT INTO content (digest, size_bytes, touched_at_ms) VALUES (?, ?, ?)
       ON CONFLICT (digest) DO UPDATE SET size_bytes = excluded.size_bytes`,
    ),
    findRepository: sql('SELECT id FROM repositories WHERE upstream = ? AND name = ?').pluck(),
    putRepository: sql('INSERT INTO repositories (upstream, name) VALUES (?, ?) RETURNING id').pluck(),
    putLink: sql(
      `INSERT INTO links (repository_id, digest, kind, media_type) VALUES (?, ?, ?, ?)
       ON CONFLICT (repository_id, digest, kind) DO UPDATE SET media_type = excluded.media_type`,
    ),
    findTag: sql(
      `SELECT digest, checked_at_ms AS checkedAtMs FROM tags WHERE repository_id = ${OF_REPOSITORY} AND tag = ?`,
    ),
    putTag: sql(
      'INSERT OR REPLACE INTO tags (repository_id, tag, digest, checked_at_ms) VALUES (?, ?, ?, ?)',
    ),
    confirmTag: sql(`UPDATE tags SET checked_at_ms = ? WHERE repository_id = ${OF_REPOSITORY} AND tag = ?`),
    forgetTag: sql(`DELETE FROM tags WHERE repository_id = ${OF_REPOSITORY} AND tag = ?`),
    pulledTags: sql(`SELECT tag FROM tags WHERE repository_id = ${OF_REPOSITORY} ORDER BY tag`),
    findTagList: sql(
      `SELECT tags, checked_at_ms AS checkedAtMs FROM tag_lists WHERE repository_id = ${OF_REPOSITORY}`,
    ),
    putTagList: sql('INSERT OR REPLACE INTO tag_lists (repository_id, tags, checked_at_ms) VALUES (?, ?, ?)'),
    dropLink: sql(`DELETE FROM links WHERE repository_id = ${OF_REPOSITORY} AND digest = ? AND kind = ?`),
    findAnyLink: sql('SELECT 1 FROM links WHERE digest = ? LIMIT 1'),
    forgetTagsTo: sql(`DELETE FROM tags WHERE repository_id = ${OF_REPOSITORY} AND digest = ?`),
    findContent: sql('SELECT 1 FROM content WHERE digest = ?'),
    findHolder: sql(
      `SELECT upstream, name FROM links JOIN repositories ON id = repository_id
       WHERE digest = ? AND upstream = ? AND kind = 'blob' LIMIT 1`,
    ),
    repositories: sql(
      `SELECT upstream, name FROM repositories WHERE id IN (SELECT repository_id FROM links)
       OR id IN (SELECT repository_id FROM tags) ORDER BY upstream, name`,
    ),
    findReferrers: sql(
      `SELECT descriptors, checked_at_ms AS checkedAtMs FROM referrers
       WHERE repository_id = ${OF_REPOSITORY} AND subject = ?`,
    ),
    putReferrers: sql(
      'INSERT OR REPLACE INTO referrers (repository_id, subject, descriptors, checked_at_ms) VALUES (?, ?, ?, ?)',
    ),
    putUpload: sql(
      'INSERT OR REPLACE INTO uploads (id, repository_id, algorithm, started_at_ms) VALUES (?, ?, ?, ?)',
    ),
    dropUpload: sql('DELETE FROM uploads WHERE id = ?'),
    uploads: sql(
      `SELECT uploads.id, upstream, name, algorithm, started_at_ms AS startedAtMs
       FROM uploads JOIN repositories ON repositories.id = repository_id`,
    ),
    touch: sql('UPDATE content SET touched_at_ms = ? WHERE digest = ?'),
    drop: sql('DELETE FROM content WHERE digest = ? RETURNING size_bytes'),
    leastRecentlyUsed: sql(
      `SELECT digest, size_bytes AS sizeBytes FROM content WHERE NOT EXISTS (
         SELECT 1 FROM links JOIN repositories ON id = repository_id
         WHERE links.digest = content.digest
           AND upstream || '/' || name IN (SELECT value FROM json_each(?))
       ) ORDER BY touched_at_ms LIMIT ?`,
    ),
    totalBytes: sql('SELECT coalesce(sum(size_bytes), 0) FROM content'),
  };
}

function repositoryId(sql: Statements, repository: Repository): unknown {
  const { upstream, name } = repository;
  return sql.findRepository.get(upstream, name) ?? sql.putRepository.get(upstream, name);
}

/** Not an error of ours, but of the disk or of who else holds the file. */
function storageFailure(error: unknown): unknown {
  const isOurs =
    !(error instanceof Database.SqliteError) ||
    !/^SQLITE_(FULL|IOERR|READONLY|CANTOPEN|BUSY|PERM)/.test(error.code);
  return isOurs
    ? error
    : new StorageFailure(`metadata.db cannot be used (${error.message})`, { cause: error });
}

function isDamage(error: unknown): boolean {
  return (
    error instanceof Database.SqliteError &&
    (error.code.startsWith('SQLITE_CORRUPT') || error.code === 'SQLITE_NOTADB')
  );
}
