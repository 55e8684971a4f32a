import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { APP, row } from '../../../test/contracts/metadata/suite.ts';
import { databasePath, openDatabase } from '../../../test/support/metadata.ts';
import { migrations } from './migrations.ts';

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

  test('is migrated to the newest one, and keeps all that is in it', async t => {
    const path = await databasePath(t);
    writeFirst(path, true);
    const metadata = await openDatabase(t, path, { content: [row('not indexed again')] });
    assert.deepEqual({ ...(await metadata.findManifest(APP, manifest.digest)) }, { ...manifest, mediaType: 'a/b' });
    assert.equal((await metadata.findBlob(APP, blob.digest))?.sizeBytes, 7);
    assert.equal(await metadata.totalBytes(), 16);
    assert.deepEqual(
      (await metadata.leastRecentlyUsed(10)).map(({ digest }) => digest),
      [blob.digest, manifest.digest],
    );
    assert.deepEqual(await metadata.pulledTags(APP), ['gone', 'latest']);
    assert.deepEqual({ ...(await metadata.findTag(APP, 'latest')) }, { digest: manifest.digest, checkedAtMs: 3000 });
    assert.deepEqual(await metadata.findTagList(APP), { tags: ['latest', 'v1'], checkedAtMs: 5000 });
    assert.deepEqual(
      (await metadata.repositories()).map(repository => ({ ...repository })),
      [APP],
    );
    assert.ok(!readdirSync(dirname(path)).some(name => name.includes('.damaged-')));

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

  test('whose indexing was cut short is indexed, and keeps what it has', async t => {
    const path = await databasePath(t);
    writeFirst(path, false);
    const metadata = await openDatabase(t, path, { content: [blob, row('more', 100)] });
    assert.equal(await metadata.totalBytes(), 116);
    assert.equal((await metadata.findBlob(APP, blob.digest))?.sizeBytes, 7);
  });

  test('has the same schema as a new file', async t => {
    const [old, fresh] = [await databasePath(t), await databasePath(t)];
    writeFirst(old, true);
    const schemas = [];
    for (const path of [old, fresh]) {
      await (await openDatabase(t, path)).close();
      const database = new Database(path);
      schemas.push(database.prepare('SELECT type, name, sql FROM sqlite_schema ORDER BY name').all());
      database.close();
    }
    assert.deepEqual(schemas[0], schemas[1]);
  });

  test('that cannot be migrated is left as it was', async t => {
    const path = await databasePath(t);
    writeFirst(path, true);
    const database = new Database(path);
    // The last thing that the step makes: the rest of it must not stay.
    database.exec('CREATE INDEX tags_by_digest ON tags (digest)');
    await assert.rejects(openDatabase(t, path), /tags_by_digest/);
    assert.equal(database.pragma('user_version', { simple: true }), 1);
    const tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all();
    assert.ok(!tables.includes('uploads'));
    database.exec('DROP INDEX tags_by_digest');
    database.close();
    assert.equal(await (await openDatabase(t, path)).totalBytes(), 16);
  });
});
