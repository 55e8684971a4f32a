// What every implementation of UsageStore owes, as tests.
import assert from 'node:assert/strict';
import { APP, type MakeMetadata, OTHER, plain, row, suiteOf } from './suite.ts';

export function usageStoreSuite(name: string, make: MakeMetadata): void {
  const suite = suiteOf(`${name} keeps the contract of UsageStore:`, make);

  suite('leastRecentlyUsed is what was pulled longest ago, oldest first, and no more than asked for', async (metadata, clock) => {
    const rows = [row('0', 1), row('1', 2), row('2', 3), row('3', 4)] as const;
    for (const content of rows) {
      clock.advance(1000);
      await metadata.linkBlob([APP], content);
    }
    assert.deepEqual(plain(await metadata.leastRecentlyUsed(10)), [...rows]);
    assert.deepEqual(plain(await metadata.leastRecentlyUsed(2)), rows.slice(0, 2));
    assert.deepEqual(await metadata.leastRecentlyUsed(0), []);
    clock.advance(1000);
    metadata.touch(rows[0].digest);
    assert.deepEqual(plain(await metadata.leastRecentlyUsed(10)), [rows[1], rows[2], rows[3], rows[0]]);
    clock.advance(1000);
    for (const i of [1, 3, 1] as const) metadata.touch(rows[i].digest);
    clock.advance(1000);
    metadata.touch(rows[1].digest);
    assert.deepEqual(plain(await metadata.leastRecentlyUsed(10)), [rows[2], rows[0], rows[3], rows[1]]);
    // Linking again is not a pull.
    await metadata.linkBlob([OTHER], rows[2]);
    assert.deepEqual(plain(await metadata.leastRecentlyUsed(1)), [rows[2]]);
  });

  suite('a touch is kept across a close', async (metadata, clock, reopen) => {
    const [older, newer] = [row('older'), row('newer')];
    await metadata.linkBlob([APP], older);
    clock.advance(1);
    await metadata.linkBlob([APP], newer);
    clock.advance(1);
    metadata.touch(older.digest);
    assert.deepEqual(plain(await (await reopen()).leastRecentlyUsed(1)), [newer]);
  });

  suite('content that is removed right after a pull stays removed, and is new when it comes again', async (metadata, clock) => {
    const [gone, other] = [row('gone'), row('other')];
    await metadata.linkBlob([APP], gone);
    clock.advance(1);
    metadata.touch(gone.digest);
    await metadata.remove([gone.digest]);
    assert.deepEqual(await metadata.leastRecentlyUsed(10), []);
    assert.equal(await metadata.totalBytes(), 0);
    metadata.touch(gone.digest);
    await metadata.remove([gone.digest]);
    clock.advance(1);
    await metadata.linkBlob([APP], other);
    clock.advance(1);
    await metadata.linkBlob([APP], gone);
    assert.deepEqual(plain(await metadata.leastRecentlyUsed(1)), [other]);
  });
}
