import assert from 'node:assert/strict';
import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, mkdtemp, open as openFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { metadataSuite, row } from '../../../test/contracts/metadata.ts';
import { TestClock } from '../../../test/support/clock.ts';
import type { ContentRow } from '../metadata.ts';
import { migrations } from './migrations.ts';
import { SqliteMetadata } from './store.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };

metadataSuite('SqliteMetadata', async (t, clock) => {
  const path = await place(t);
  const metadata = await open(t, path, { clock });
  return {
    metadata,
    reopen: async () => {
      await metadata.close();
      return open(t, path, { clock });
    },
  };
});

describe('the file of SqliteMetadata', () => {
  test('is made when there is none, and again when it is empty, from the content that is here', async t => {
    const path = await place(t);
    const content = [row('a', 1), row('b', 2)];
    for (const make of [() => {}, () => writeFileSync(path, '')]) {
      make();
      const metadata = await open(t, path, { content });
      assert.equal(await metadata.totalBytes(), 3);
      assert.equal(
        await metadata.findBlob(APP, row('a').digest),
        undefined,
        'no link comes from content alone',
      );
      await metadata.close();
      await rm(path);
    }
  });

  test('is not filled from content when it has been already', async t => {
    const path = await place(t);
    await (await open(t, path, { content: [row('a')] })).close();
    const metadata = await open(t, path, { content: [row('b')] });
    assert.equal(await metadata.totalBytes(), 100);
  });

  test('takes in more content than goes into one transaction', async t => {
    const content = Array.from({ length: 2500 }, (_, i) => row(`${i}`, 1));
    const metadata = await open(t, await place(t), { content });
    assert.equal(await metadata.totalBytes(), 2500);
  });

  test('is filled at the next start when the first was cut short in the middle of it', async t => {
    const path = await place(t);
    const rows = Array.from({ length: 2500 }, (_, i) => row(`${i}`, 1));
    const cut = async function* () {
      yield* rows.slice(0, 1200);
      throw new Error('cut short');
    };
    const clock = new TestClock();
    const onDamaged = () => assert.fail();
    await assert.rejects(SqliteMetadata.open(path, { clock, content: cut, onDamaged }), /cut short/);
    const metadata = await open(t, path, { content: rows });
    assert.equal(await metadata.totalBytes(), 2500);
  });

  test('of a newer version is refused with what to do, and left as it is', async t => {
    const path = await place(t);
    await (await open(t, path)).close();
    const database = new Database(path);
    database.pragma(`user_version = ${migrations.length + 1}`);
    database.close();
    await assert.rejects(open(t, path), (error: Error) => {
      assert.match(error.message, /newer ghcr-cache .*schema 3.*: start that version, or move the file away/);
      assert.ok(error.message.startsWith(path));
      return true;
    });
    assert.deepEqual(damagedFiles(path), []);
    assert.equal(new Database(path).pragma('user_version', { simple: true }), migrations.length + 1);
  });

  test('that cannot be opened is no damage: the reason is thrown', async t => {
    const path = await place(t);
    await assert.rejects(open(t, join(path, 'in-no-folder')), { name: 'TypeError' });
  });

  test('is of the newest schema, and has a write-ahead log', async t => {
    const path = await place(t);
    await (await open(t, path)).close();
    const database = new Database(path);
    assert.equal(database.pragma('user_version', { simple: true }), migrations.length);
    assert.equal(database.pragma('journal_mode', { simple: true }), 'wal');
    database.close();
  });

  test('shows that it cannot be written when it is checked', async t => {
    const path = await place(t);
    const metadata = await open(t, path);
    await metadata.check();
    await metadata.close();
    await assert.rejects(metadata.check());
  });
});

describe('a file of schema 1', () => {
  const blob = row('blob', 7);
  const manifest = row('manifest', 9);

  /** As the first version left it, with a row in every table. */
  function writeFirst(path: string, isComplete: boolean): void {
    const database = new Database(path);
    database.pragma('journal_mode = WAL');
    database.exec(migrations[0] ?? assert.fail());
    database.pragma('user_version = 1');
    if (isComplete) database.pragma(`application_id = ${0x67686372}`);
    database.exec(`
      INSERT INTO content VALUES ('${blob.digest}', 7, 1000), ('${manifest.digest}', 9, 2000);
      INSERT INTO repositories VALUES (5, 'ghcr.io', 'owner/app');
      INSERT INTO links VALUES (5, '${blob.digest}', 'blob', ''), (5, '${manifest.digest}', 'manifest', 'a/b');
      INSERT INTO tags VALUES (5, 'latest', '${manifest.digest}', 3000), (5, 'gone', '${row('x').digest}', 4000);
      INSERT INTO tag_lists VALUES (5, '["latest","v1"]', 5000);
    `);
    database.close();
  }

  test('is brought to the newest one, and keeps all that is in it', async t => {
    const path = await place(t);
    writeFirst(path, true);
    const metadata = await open(t, path, { content: [row('not taken in again')] });
    assert.deepEqual(
      { ...(await metadata.findManifest(APP, manifest.digest)) },
      { ...manifest, mediaType: 'a/b' },
    );
    assert.equal((await metadata.findBlob(APP, blob.digest))?.sizeBytes, 7);
    assert.equal(await metadata.totalBytes(), 16);
    assert.deepEqual(
      (await metadata.leastRecentlyUsed(10, [])).map(({ digest }) => digest),
      [blob.digest, manifest.digest],
    );
    assert.deepEqual(await metadata.pulledTags(APP), ['gone', 'latest']);
    assert.deepEqual(
      { ...(await metadata.findTag(APP, 'latest')) },
      { digest: manifest.digest, checkedAtMs: 3000 },
    );
    assert.deepEqual(await metadata.findTagList(APP), { tags: ['latest', 'v1'], checkedAtMs: 5000 });
    assert.deepEqual(
      (await metadata.repositories()).map(repository => ({ ...repository })),
      [APP],
    );
    assert.deepEqual(damagedFiles(path), []);

    // What is new works on it, beside the old rows.
    await metadata.saveReferrers(APP, manifest.digest, [{}]);
    await metadata.putUpload({ id: 'upload', repository: APP, algorithm: 'sha256', startedAtMs: 1 });
    assert.equal(await metadata.unlinkManifest(APP, manifest.digest), false);
    assert.deepEqual(await metadata.pulledTags(APP), ['gone']);
    await metadata.close();
    const database = new Database(path);
    t.after(() => database.close());
    assert.equal(database.pragma('user_version', { simple: true }), migrations.length);
    assert.deepEqual(database.prepare('SELECT repository_id FROM uploads').pluck().all(), [5]);
    assert.deepEqual(database.pragma('foreign_key_check'), []);
  });

  test('that was cut short while it was filled is filled, and keeps what it has', async t => {
    const path = await place(t);
    writeFirst(path, false);
    const metadata = await open(t, path, { content: [blob, row('more', 100)] });
    assert.equal(await metadata.totalBytes(), 116);
    assert.equal((await metadata.findBlob(APP, blob.digest))?.sizeBytes, 7);
  });

  test('is the same as one that is made anew', async t => {
    const [old, fresh] = [await place(t), await place(t)];
    writeFirst(old, true);
    const schemas = [];
    for (const path of [old, fresh]) {
      await (await open(t, path)).close();
      const database = new Database(path);
      schemas.push(database.prepare('SELECT type, name, sql FROM sqlite_schema ORDER BY name').all());
      database.close();
    }
    assert.deepEqual(schemas[0], schemas[1]);
  });

  test('that cannot be brought to the newest one is left as it was', async t => {
    const path = await place(t);
    writeFirst(path, true);
    const database = new Database(path);
    // The last thing that the step makes: the rest of it must not stay.
    database.exec('CREATE INDEX tags_by_digest ON tags (digest)');
    await assert.rejects(open(t, path), /tags_by_digest/);
    assert.equal(database.pragma('user_version', { simple: true }), 1);
    const tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all();
    assert.ok(!tables.includes('uploads'));
    database.exec('DROP INDEX tags_by_digest');
    database.close();
    assert.equal(await (await open(t, path)).totalBytes(), 16);
  });
});

describe('a damaged file', () => {
  const garbage = Buffer.alloc(100_000, 'not a database ');

  test('of garbage is moved aside, whatever lies beside it, and rebuilt from content', async t => {
    const path = await place(t);
    for (const suffix of ['', '-wal', '-shm']) writeFileSync(path + suffix, garbage);
    const clock = new TestClock();
    const damaged: string[] = [];
    const metadata = await open(t, path, { clock, content: [row('a', 5)], damaged });
    const movedTo = `${path}.damaged-${clock.now()}`;
    assert.deepEqual(damaged, [movedTo]);
    assert.deepEqual(readFileSync(movedTo), garbage);
    assert.equal(await metadata.totalBytes(), 5);
    await metadata.linkBlob([APP], row('b', 6));
    await metadata.close();
    assert.equal(await (await open(t, path)).totalBytes(), 11);
  });

  test('does not lend its write-ahead log to the new one', async t => {
    const path = await place(t);
    const original = await open(t, path);
    await original.linkBlob([APP], row('old', 5));
    // As after a crash: the rows are in the log, and the file they belong to is broken.
    for (const suffix of ['', '-wal', '-shm']) copyFileSync(path + suffix, `${path}2${suffix}`);
    assert.ok(statSync(`${path}2-wal`).size > 0);
    writeFileSync(`${path}2`, garbage);
    writeFileSync(`${path}2-wal`, readFileSync(`${path}2-wal`).subarray(0, 100));
    const damaged: string[] = [];
    const metadata = await open(t, `${path}2`, { damaged, content: [row('here', 7)] });
    assert.equal(damaged.length, 1);
    assert.equal(await metadata.totalBytes(), 7);
    assert.equal(await metadata.findBlob(APP, row('old').digest), undefined);
  });

  test('of a moderate size is found out at the start, wherever it is broken', async t => {
    const path = await place(t);
    const rows = Array.from({ length: 3000 }, (_, i) => row(`${i}`, 1));
    const whole = await open(t, path, { content: rows });
    await whole.close();
    const pages = statSync(path).size / 4096;
    assert.ok(pages > 100);
    for (const page of [1, 20, Math.floor(pages / 2), pages - 2]) {
      const copy = `${path}-${page}`;
      copyFileSync(path, copy);
      overwritePage(copy, page);
      const damaged: string[] = [];
      const metadata = await open(t, copy, { damaged, content: rows });
      assert.equal(damaged.length, 1, `page ${page} of ${pages}`);
      assert.equal(await metadata.totalBytes(), 3000);
    }
  });

  for (const verb of ['findBlob', 'linkBlob', 'leastRecentlyUsed'] as const) {
    test(`that is too large to be checked at the start is mended when ${verb} comes upon it, which works`, async t => {
      const path = await place(t);
      const old = row('old', 5);
      const first = await open(t, path);
      await first.linkBlob([APP], old);
      await first.close();
      // Makes the file large, then breaks the table of content.
      const database = new Database(path);
      database.exec(
        `CREATE TABLE padding (bytes BLOB); INSERT INTO padding VALUES (zeroblob(${33 * 1024 * 1024}))`,
      );
      const pages = database
        .prepare("SELECT rootpage FROM sqlite_schema WHERE tbl_name IN ('content', 'links') AND rootpage > 0")
        .pluck()
        .all() as number[];
      database.close();
      assert.ok(pages.length > 1);
      for (const page of pages) overwritePage(path, page - 1);

      const clock = new TestClock();
      const damaged: string[] = [];
      const metadata = await open(t, path, { clock, damaged, content: [old, row('here', 7)] });
      assert.deepEqual(damaged, []);
      const fresh = row('new', 1);
      if (verb === 'findBlob') assert.equal(await metadata.findBlob(APP, old.digest), undefined);
      else if (verb === 'linkBlob') await metadata.linkBlob([APP], fresh);
      else await metadata.leastRecentlyUsed(10, []);
      const movedTo = `${path}.damaged-${clock.now()}`;
      assert.deepEqual(damaged, [movedTo]);
      assert.ok(existsSync(movedTo));
      // Content is taken in in the background, beside what goes on.
      await new Promise(resolve => setImmediate(resolve));
      assert.equal(await metadata.totalBytes(), verb === 'linkBlob' ? 13 : 12);
      await metadata.linkBlob([APP], fresh);
      assert.equal((await metadata.findBlob(APP, fresh.digest))?.sizeBytes, 1);
      assert.equal(damaged.length, 1);
    });
  }
});

describe('touches', () => {
  async function touched(t: TestContext) {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const path = await place(t);
    const clock = new TestClock();
    const metadata = await open(t, path, { clock });
    const blob = row('blob');
    await metadata.linkBlob([APP], blob);
    const linkedMs = clock.now();
    clock.advance(1000);
    metadata.touch(blob.digest);
    const reader = new Database(path);
    t.after(() => reader.close());
    const writtenMs = () =>
      reader.prepare('SELECT touched_at_ms FROM content WHERE digest = ?').pluck().get(blob.digest) as number;
    return { metadata, clock, linkedMs, writtenMs, blob };
  }

  test('are written together some seconds later, and not before', async t => {
    const { metadata, clock, linkedMs, writtenMs, blob } = await touched(t);
    t.mock.timers.tick(4000);
    clock.advance(500);
    metadata.touch(blob.digest);
    assert.equal(writtenMs(), linkedMs);
    t.mock.timers.tick(1000);
    assert.equal(writtenMs(), linkedMs + 1500);
    // And again: the first time is not the only one.
    clock.advance(1000);
    metadata.touch(blob.digest);
    t.mock.timers.tick(4999);
    assert.equal(writtenMs(), linkedMs + 1500);
    t.mock.timers.tick(1);
    assert.equal(writtenMs(), linkedMs + 2500);
  });

  test('are written at once when very many have come together', async t => {
    const { metadata, linkedMs, writtenMs } = await touched(t);
    for (let i = 0; i < 9_998; i++) metadata.touch(row(`${i}`).digest);
    assert.equal(writtenMs(), linkedMs);
    metadata.touch(row('one more').digest);
    assert.equal(writtenMs(), linkedMs + 1000);
  });

  test('that cannot be written now do not end the process, and are written later', async t => {
    const { metadata, clock, linkedMs, writtenMs } = await touched(t);
    const full = fillDisk(t);
    assert.doesNotThrow(() => t.mock.timers.tick(5000));
    assert.equal(full.callCount(), 1);
    full.restore();
    assert.equal(writtenMs(), linkedMs);
    clock.advance(1000);
    metadata.touch(row('another').digest);
    t.mock.timers.tick(5000);
    assert.equal(writtenMs(), linkedMs + 1000);
  });

  test('are no trouble to who pulls, however many cannot be written', async t => {
    const { metadata } = await touched(t);
    fillDisk(t);
    for (let i = 0; i < 10_100; i++) metadata.touch(row(`${i}`).digest);
  });
});

test('a disk that is full is a StorageFailure of whatever writes', async t => {
  const metadata = await open(t, await place(t));
  const blob = row('blob');
  const full = fillDisk(t);
  const verbs: (() => Promise<unknown>)[] = [
    () => metadata.linkBlob([APP], blob),
    () => metadata.linkManifest(APP, { ...blob, mediaType: 'x' }, ['latest']),
    () => metadata.saveTagList(APP, ['latest']),
    () => metadata.unlinkBlob(APP, blob.digest),
    () => metadata.unlinkManifest(APP, blob.digest),
    () => metadata.saveReferrers(APP, blob.digest, []),
    () => metadata.putUpload({ id: 'upload', repository: APP, algorithm: 'sha256', startedAtMs: 0 }),
    () => metadata.check(),
  ];
  for (const verb of verbs) await assert.rejects(verb, { name: 'StorageFailure' });
  full.restore();
  for (const verb of verbs) await verb();
});

test('sync makes the write-ahead log durable, and is a StorageFailure where it cannot', {
  skip: !existsSync('/proc/self/fd'),
}, async t => {
  const path = await place(t);
  const metadata = await open(t, path);
  const synced: unknown[] = [];
  const { prototype } = (await openFile(path, 'r').then(async file => {
    await file.close();
    return file.constructor;
  })) as { prototype: FileHandle };
  const { datasync } = prototype;
  t.mock.method(prototype, 'datasync', async function (this: FileHandle) {
    synced.push(readlinkSync(`/proc/self/fd/${this.fd}`));
    return datasync.call(this);
  });
  await metadata.linkBlob([APP], row('blob'));
  await metadata.sync();
  assert.deepEqual(synced, [`${path}-wal`]);
  unlinkSync(`${path}-wal`);
  await assert.rejects(metadata.sync(), { name: 'StorageFailure' });
});

/** Makes every transaction fail until it is restored. */
function fillDisk(t: TestContext) {
  return t.mock.method(Database.prototype, 'transaction', () => {
    throw new Database.SqliteError('database or disk is full', 'SQLITE_FULL');
  }).mock;
}

async function place(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ghcr-cache-metadata-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return join(folder, 'metadata.db');
}

async function open(
  t: TestContext,
  path: string,
  options: { clock?: TestClock; content?: readonly ContentRow[]; damaged?: string[] } = {},
): Promise<SqliteMetadata> {
  const metadata = await SqliteMetadata.open(path, {
    clock: options.clock ?? new TestClock(),
    content: async function* () {
      yield* options.content ?? [];
    },
    onDamaged: (movedTo, reason) => {
      assert.ok(options.damaged !== undefined, `unexpected damage: ${reason}`);
      options.damaged.push(movedTo);
    },
  });
  t.after(() => metadata.close().catch(() => {}));
  return metadata;
}

function damagedFiles(path: string): string[] {
  return readdirSync(join(path, '..')).filter(name => name.includes('.damaged-'));
}

function overwritePage(path: string, page: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.alloc(4096, 0x5a), 0, 4096, page * 4096);
  closeSync(fd);
}
