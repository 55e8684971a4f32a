import assert from 'node:assert/strict';
import { existsSync, readlinkSync, unlinkSync } from 'node:fs';
import { type FileHandle, open as openFile } from 'node:fs/promises';
import { test } from 'node:test';
import { metadataSuites } from '../../../test/contracts/metadata/metadata.ts';
import { APP, row } from '../../../test/contracts/metadata/suite.ts';
import { TestClock } from '../../../test/support/clock.ts';
import { databasePath, fillDisk, openDatabase, overSqlite } from '../../../test/support/metadata.ts';

metadataSuites(
  'SQLite alone',
  overSqlite((store, clock) => ({
    ...store,
    touch: digest => void store.touchAll([[digest, clock.now()]]),
  })),
);

test('many touches are recorded at once, and what is not recorded as content is skipped', async t => {
  const clock = new TestClock();
  const store = await openDatabase(t, await databasePath(t), { clock });
  const rows = [row('a'), row('b'), row('c')] as const;
  for (const content of rows) await store.linkBlob([APP], content);
  const atMs = clock.now();
  await store.touchAll(
    new Map([
      [rows[0].digest, atMs + 3],
      [rows[1].digest, atMs + 1],
      [rows[2].digest, atMs + 2],
      [row('unknown').digest, atMs],
    ]),
  );
  const order = (await store.leastRecentlyUsed(10)).map(({ digest }) => digest);
  assert.deepEqual(order, [rows[1].digest, rows[2].digest, rows[0].digest]);
  await store.touchAll([]);
});

test('a disk that is full is a StorageFailure of whatever writes', async t => {
  const metadata = await openDatabase(t, await databasePath(t));
  const blob = row('blob');
  const full = fillDisk(t);
  const verbs: (() => Promise<unknown>)[] = [
    () => metadata.linkBlob([APP], blob),
    () => metadata.linkManifest(APP, { ...blob, mediaType: 'x', parts: [] }, ['latest']),
    () => metadata.saveTagList(APP, ['latest']),
    () => metadata.unlinkBlob(APP, blob.digest),
    () => metadata.unlinkManifest(APP, blob.digest),
    () => metadata.saveReferrers(APP, blob.digest, []),
    () => metadata.putUpload({ id: 'upload', repository: APP, algorithm: 'sha256', startedAtMs: 0 }),
    () => metadata.touchAll([[blob.digest, 0]]),
    () => metadata.check(),
  ];
  for (const verb of verbs) await assert.rejects(verb, { name: 'StorageFailure' });
  full.restore();
  for (const verb of verbs) await verb();
});

test('sync makes the write-ahead log durable, and is a StorageFailure where it cannot', {
  skip: !existsSync('/proc/self/fd'),
}, async t => {
  const path = await databasePath(t);
  const metadata = await openDatabase(t, path);
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
