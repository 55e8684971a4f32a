// The contracts behind both caches, as a cache is composed, and what is more than that: what is kept in memory.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { contentSuite, verdictOn } from '../../test/contracts/content.ts';
import { ingestsSuite } from '../../test/contracts/ingests.ts';
import { TestClock } from '../../test/support/clock.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { openLocal } from '../../test/support/local-stores.ts';
import { put, read } from '../../test/support/stores.ts';
import { keepSmallInMemory, SMALL_BYTES } from './memory.ts';
import { rememberVerdicts } from './verdicts.ts';

const openBehindCaches: Parameters<typeof contentSuite>[1] = t =>
  openLocal(t, content =>
    keepSmallInMemory(rememberVerdicts(content, { clock: new TestClock(), verifyEveryMs: Infinity })),
  );

contentSuite('LocalContent behind both caches', openBehindCaches);
ingestsSuite('LocalIngests behind both caches', openBehindCaches);

describe('small content', () => {
  for (const sizeBytes of [0, 1, SMALL_BYTES]) {
    test(`of ${sizeBytes} bytes is in memory once it was opened, verified, and without a promise`, async t => {
      const stores = await openBehindCaches(t);
      const { content } = await stores.reopen();
      const bytes = bytesOf(randomContent(sizeBytes, 'small'));
      const digest = await put(stores, bytes);
      assert.ok((await read(content, digest)).equals(bytes));
      const kept = content.open(digest);
      assert.ok(kept !== undefined && !(kept instanceof Promise));
      assert.ok(kept.bytes?.equals(bytes));
      assert.equal(kept.verify(), true);
      kept.close();
      await stores.overwrite(digest, Buffer.alloc(sizeBytes + 1));
      assert.ok((await read(content, digest)).equals(bytes));
    });
  }

  test('that is wrong is not kept: it is what it is on disk, until it is mended', async t => {
    const stores = await openBehindCaches(t);
    const { content, overwrite } = stores;
    const bytes = Buffer.from('small');
    const digest = await put(stores, bytes);
    for (const wrong of ['smell', 'smaller', 's']) {
      await overwrite(digest, Buffer.from(wrong));
      const source = (await content.open(digest)) ?? assert.fail();
      assert.equal(source.bytes, undefined);
      assert.equal(source.sizeBytes, wrong.length);
      source.close();
      assert.equal(await verdictOn(content, digest), false);
    }
    await overwrite(digest, bytes);
    assert.deepEqual(await read(content, digest), bytes);
  });

  test('is gone from memory when it is removed, also if it was being read meanwhile', async t => {
    const stores = await openBehindCaches(t);
    const { content } = stores;
    const digest = await put(stores, Buffer.from('small'));
    await read(content, digest);
    const opened = content.open(digest);
    await Promise.all([opened, content.remove(digest)]);
    assert.equal(await content.open(digest), undefined);
  });
});

test('larger content is not in memory, and is opened without a promise while its file is open', async t => {
  const stores = await openBehindCaches(t);
  const { content } = await stores.reopen();
  const bytes = bytesOf(randomContent(SMALL_BYTES + 1, 'large'));
  const digest = await put(stores, bytes);
  assert.ok((await read(content, digest)).equals(bytes));
  const opened = content.open(digest);
  assert.ok(opened !== undefined && !(opened instanceof Promise));
  assert.equal(opened.bytes, undefined);
  opened.close();
});
