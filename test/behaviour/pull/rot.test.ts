// Bytes that change on disk while the times of their file do not: as a disk, or a bad cable, changes them.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, fsyncSync, openSync, readFileSync, utimesSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { loadPageCache } from '../../../src/content/page-cache.ts';
import { digestOf, hexOf } from '../../../src/oci/digest.ts';
import { HOLD_BACK_BYTES } from '../../../src/pull/hold-back.ts';
import { startBoth } from '../../support/cache.ts';
import { hasCachestat } from '../../support/cachestat.ts';
import { bytesOf, makeImage } from '../../support/images.ts';

const image = makeImage({ layers: [2_000_000] });
const layer = image.layers[0] ?? assert.fail();
const LAYER = `/v2/owner/app/blobs/${layer.digest}`;
const DAY_MS = 24 * 60 * 60_000;

async function setUp(t: TestContext, verifyEvery: string) {
  const { ghcr, cache, clock } = await startBoth(t, { config: { cache: { minFree: '1MiB', verifyEvery } } });
  ghcr.push('owner/app', image, 'v1');
  const file = join(cache.data, 'content/blobs/sha256', hexOf(layer.digest));
  const pull = async () => {
    const { complete, headers, body } = await cache.get(LAYER);
    assert.ok(!complete || body.equals(bytesOf(layer)), 'wrong bytes were completed');
    if (!complete) assert.ok(body.length <= layer.sizeBytes - HOLD_BACK_BYTES);
    await cache.settled();
    return complete ? headers['x-cache'] : 'cut';
  };
  assert.equal(await pull(), 'miss');
  assert.equal(await pull(), 'hit');
  const setTimes = () => utimesSync(file, 1, 1);
  // To whole seconds, which can be set again.
  setTimes();
  assert.equal(await pull(), 'hit');
  /** Changes one bit of it. */
  const rot = () => {
    const fd = openSync(file, 'r+');
    writeSync(fd, Buffer.from([(bytesOf(layer)[1_000_000] ?? 0) ^ 1]), 0, 1, 1_000_000);
    fsyncSync(fd);
    closeSync(fd);
    setTimes();
  };
  return { ghcr, cache, clock, file, pull, rot };
}

test('is found once it was verified longer ago than cache.verifyEvery, and fetched again', async t => {
  const { ghcr, cache, clock, file, pull, rot } = await setUp(t, '2d');
  rot();
  ghcr.resetCounters();
  clock.advance(2 * DAY_MS);
  assert.equal(await pull(), 'cut');
  assert.match(
    cache.log(),
    /error ghcr\.io\/owner\/app@sha256:\w+ is damaged on disk; it is removed and fetched again/,
  );
  assert.equal(await pull(), 'miss');
  assert.equal(ghcr.count({ endpoint: 'blobhost' }), 1);
  assert.equal(digestOf(readFileSync(file)), layer.digest);
  clock.advance(2 * DAY_MS);
  assert.equal(await pull(), 'hit');
});

/** Takes a file, of which all is on disk, out of memory. False where the file system has nothing but memory. */
async function dropFromMemory(file: string): Promise<boolean> {
  const args = [`of=${file}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'];
  assert.equal(spawnSync('dd', ['if=/dev/null', ...args]).status, 0);
  const pageCache = await loadPageCache();
  const fd = openSync(file, 'r');
  const isInMemory = pageCache?.holds(fd, 0, layer.sizeBytes);
  closeSync(fd);
  return isInMemory === false;
}

test('is found by the first reading after the file has left memory', {
  skip: !hasCachestat() && 'the system does not tell what is in memory',
}, async t => {
  const { file, pull, rot } = await setUp(t, '7d');
  rot();
  if (!(await dropFromMemory(file))) return t.skip('this file system keeps all of it in memory');
  assert.equal(await pull(), 'cut');
  assert.equal(await pull(), 'miss');
  assert.equal(await pull(), 'hit');
});
