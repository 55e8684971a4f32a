import assert from 'node:assert/strict';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { row } from '../../../test/contracts/metadata/suite.ts';
import { TestClock } from '../../../test/support/clock.ts';
import { databasePath, openDatabase } from '../../../test/support/metadata.ts';
import { StorageFailure } from '../../oci/errors.ts';
import type { ContentRow } from '../metadata.ts';
import { migrations } from './migrations.ts';
import { openSqlite } from './store.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };

describe('the database file', () => {
  test('is made when there is none, and again when it is empty, from the content that is here', async t => {
    const path = await databasePath(t);
    const content = [row('a', 1), row('b', 2)];
    for (const make of [() => {}, () => writeFileSync(path, '')]) {
      make();
      const metadata = await openDatabase(t, path, { content });
      assert.equal(await metadata.totalBytes(), 3);
      assert.equal(await metadata.findBlob(APP, row('a').digest), undefined, 'no link comes from content alone');
      await metadata.close();
      await rm(path);
    }
  });

  test('is not filled from content when it has been already', async t => {
    const path = await databasePath(t);
    await (await openDatabase(t, path, { content: [row('a')] })).close();
    const metadata = await openDatabase(t, path, { content: [row('b')] });
    assert.equal(await metadata.totalBytes(), 100);
  });

  test('indexes more content than goes into one transaction', async t => {
    const content = Array.from({ length: 2500 }, (_, i) => row(`${i}`, 1));
    const metadata = await openDatabase(t, await databasePath(t), { content });
    assert.equal(await metadata.totalBytes(), 2500);
  });

  test('is filled at the next start when the first was cut short in the middle of it', async t => {
    const path = await databasePath(t);
    const rows = Array.from({ length: 2500 }, (_, i) => row(`${i}`, 1));
    const cut = async function* () {
      yield* rows.slice(0, 1200);
      throw new Error('cut short');
    };
    const clock = new TestClock();
    const onDamaged = () => assert.fail();
    await assert.rejects(
      openSqlite(path, { clock, content: cut, onDamaged, readManifest: async () => undefined }),
      /cut short/,
    );
    const metadata = await openDatabase(t, path, { content: rows });
    assert.equal(await metadata.totalBytes(), 2500);
  });

  test('of a newer version is rejected with what to do, and left as it is', async t => {
    const path = await databasePath(t);
    await (await openDatabase(t, path)).close();
    const database = new Database(path);
    database.pragma(`user_version = ${migrations.length + 1}`);
    database.close();
    await assert.rejects(openDatabase(t, path), (error: Error) => {
      assert.match(error.message, /newer ghcr-cache .*schema 4.*: start that version, or move the file away/);
      assert.ok(error.message.startsWith(path));
      return true;
    });
    assert.deepEqual(damagedFiles(path), []);
    assert.equal(new Database(path).pragma('user_version', { simple: true }), migrations.length + 1);
  });

  test('that cannot be opened is not damaged: the reason is thrown', async t => {
    const path = await databasePath(t);
    await assert.rejects(openDatabase(t, join(path, 'in-no-directory')), { name: 'TypeError' });
  });

  test('is of the newest schema, and has a write-ahead log', async t => {
    const path = await databasePath(t);
    await (await openDatabase(t, path)).close();
    const database = new Database(path);
    assert.equal(database.pragma('user_version', { simple: true }), migrations.length);
    assert.equal(database.pragma('journal_mode', { simple: true }), 'wal');
    database.close();
  });

  test('locks every other program out where that is wanted, also once a damaged one is replaced', async t => {
    for (const content of ['', 'garbage, not a database'.repeat(100)]) {
      const path = await databasePath(t);
      writeFileSync(path, content);
      const store = await openSqlite(path, {
        ...{ clock: new TestClock(), exclusive: true, onDamaged: () => {} },
        content: async function* () {},
        readManifest: async () => undefined,
      });
      await store.linkBlob([APP], row('a'));
      const other = new Database(path, { readonly: true, timeout: 0 });
      const count = () => other.prepare('SELECT count(*) FROM content').pluck().get();
      assert.throws(count, { code: 'SQLITE_BUSY' });
      await store.close();
      assert.equal(count(), 1);
      other.close();
    }
  });

  for (const how of ['removed', 'replaced'] as const) {
    test(`that is ${how} while it is open fails its check and its sync, and is read all the same`, async t => {
      const path = await databasePath(t);
      const metadata = await openDatabase(t, path);
      const blob = row('a');
      await metadata.linkBlob([APP], blob);
      await rm(path);
      if (how === 'replaced') writeFileSync(path, '');
      for (const verb of [() => metadata.check(), () => metadata.sync()]) {
        await assert.rejects(verb, {
          name: 'StorageFailure',
          message: /metadata\.db was removed or replaced .*restart/,
        });
      }
      assert.equal((await metadata.findBlob(APP, blob.digest))?.sizeBytes, 100);
    });
  }

  test('fails its check when it cannot be written', async t => {
    const path = await databasePath(t);
    const metadata = await openDatabase(t, path);
    await metadata.check();
    await metadata.close();
    await assert.rejects(metadata.check());
  });
});

describe('a damaged database file', () => {
  const garbage = Buffer.alloc(100_000, 'not a database ');

  test('of garbage is moved aside, whatever lies beside it, and rebuilt from content', async t => {
    const path = await databasePath(t);
    for (const suffix of ['', '-wal', '-shm']) writeFileSync(path + suffix, garbage);
    const clock = new TestClock();
    const damaged: string[] = [];
    const metadata = await openDatabase(t, path, { clock, content: [row('a', 5)], damaged });
    const movedTo = `${path}.damaged-${clock.now()}`;
    assert.deepEqual(damaged, [movedTo]);
    assert.deepEqual(readFileSync(movedTo), garbage);
    assert.equal(await metadata.totalBytes(), 5);
    await metadata.linkBlob([APP], row('b', 6));
    await metadata.close();
    assert.equal(await (await openDatabase(t, path)).totalBytes(), 11);
  });

  test('does not leave its write-ahead log to the new one', async t => {
    const path = await databasePath(t);
    const original = await openDatabase(t, path);
    await original.linkBlob([APP], row('old', 5));
    // As after a crash: the rows are in the log, and the file they belong to is broken.
    for (const suffix of ['', '-wal', '-shm']) copyFileSync(path + suffix, `${path}2${suffix}`);
    assert.ok(statSync(`${path}2-wal`).size > 0);
    writeFileSync(`${path}2`, garbage);
    writeFileSync(`${path}2-wal`, readFileSync(`${path}2-wal`).subarray(0, 100));
    const damaged: string[] = [];
    const metadata = await openDatabase(t, `${path}2`, { damaged, content: [row('here', 7)] });
    assert.equal(damaged.length, 1);
    assert.equal(await metadata.totalBytes(), 7);
    assert.equal(await metadata.findBlob(APP, row('old').digest), undefined);
  });

  test('of moderate size is detected at the start, wherever it is broken', async t => {
    const path = await databasePath(t);
    const rows = Array.from({ length: 3000 }, (_, i) => row(`${i}`, 1));
    const whole = await openDatabase(t, path, { content: rows });
    await whole.close();
    const pages = statSync(path).size / 4096;
    assert.ok(pages > 100);
    for (const page of [1, 20, Math.floor(pages / 2), pages - 2]) {
      const copy = `${path}-${page}`;
      copyFileSync(path, copy);
      overwritePage(copy, page);
      const damaged: string[] = [];
      const metadata = await openDatabase(t, copy, { damaged, content: rows });
      assert.equal(damaged.length, 1, `page ${page} of ${pages}`);
      assert.equal(await metadata.totalBytes(), 3000);
    }
  });

  for (const verb of ['findBlob', 'linkBlob', 'leastRecentlyUsed'] as const) {
    test(`that is too large to be checked at the start is recreated when ${verb} comes upon it, which works`, async t => {
      const path = await databasePath(t);
      const old = row('old', 5);
      await breakLargeFile(t, path, old);

      const clock = new TestClock();
      const damaged: string[] = [];
      const metadata = await openDatabase(t, path, { clock, damaged, content: [old, row('here', 7)] });
      assert.deepEqual(damaged, []);
      const fresh = row('new', 1);
      if (verb === 'findBlob') assert.equal(await metadata.findBlob(APP, old.digest), undefined);
      else if (verb === 'linkBlob') await metadata.linkBlob([APP], fresh);
      else await metadata.leastRecentlyUsed(10);
      const movedTo = `${path}.damaged-${clock.now()}`;
      assert.deepEqual(damaged, [movedTo]);
      assert.ok(existsSync(movedTo));
      // Content is indexed in the background.
      await new Promise(resolve => setImmediate(resolve));
      assert.equal(await metadata.totalBytes(), verb === 'linkBlob' ? 13 : 12);
      await metadata.linkBlob([APP], fresh);
      assert.equal((await metadata.findBlob(APP, fresh.digest))?.sizeBytes, 1);
      assert.equal(damaged.length, 1);
    });
  }

  test('that cannot be moved aside is a failure of storage, and is moved when it can be', async t => {
    const path = await databasePath(t);
    const old = row('old', 5);
    await breakLargeFile(t, path, old);
    const clock = new TestClock();
    const damaged: string[] = [];
    const metadata = await openDatabase(t, path, { clock, damaged, content: [old] });
    const inTheWay = `${path}.damaged-${clock.now()}`;
    mkdirSync(join(inTheWay, 'full'), { recursive: true });
    for (let times = 0; times < 2; times++) await assert.rejects(metadata.findBlob(APP, old.digest), StorageFailure);
    assert.deepEqual(damaged, []);
    await rm(inTheWay, { recursive: true });
    assert.equal(await metadata.findBlob(APP, old.digest), undefined);
    assert.deepEqual(damaged, [inTheWay]);
  });
});

function damagedFiles(path: string): string[] {
  return readdirSync(join(path, '..')).filter(name => name.includes('.damaged-'));
}

function overwritePage(path: string, page: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.alloc(4096, 0x5a), 0, 4096, page * 4096);
  closeSync(fd);
}

/** A file with a link to this content, too large to be checked at the start, with the tables of content broken. */
async function breakLargeFile(t: TestContext, path: string, old: ContentRow): Promise<void> {
  const first = await openDatabase(t, path);
  await first.linkBlob([APP], old);
  await first.close();
  const database = new Database(path);
  database.exec(`CREATE TABLE padding (bytes BLOB); INSERT INTO padding VALUES (zeroblob(${33 * 1024 * 1024}))`);
  const pages = database
    .prepare("SELECT rootpage FROM sqlite_schema WHERE tbl_name IN ('content', 'links') AND rootpage > 0")
    .pluck()
    .all() as number[];
  database.close();
  assert.ok(pages.length > 1);
  for (const page of pages) overwritePage(path, page - 1);
}
