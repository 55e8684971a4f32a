// /readyz says whether anything can be kept, and why not; and what is removed under the running cache.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, renameSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { startBoth, type TestCache } from '../../support/cache.ts';
import { bytesOf, makeImage } from '../../support/images.ts';

const image = makeImage({ layers: [1000, 300_000] });
const large = image.layers[1] ?? assert.fail();
const V1 = '/v2/owner/app/manifests/v1';
const LARGE = `/v2/owner/app/blobs/${large.digest}`;

async function setUp(t: TestContext, config: Record<string, unknown> = {}) {
  const { ghcr, cache, clock } = await startBoth(t, { config });
  ghcr.push('owner/app', image, 'v1');
  return { ghcr, cache, clock };
}

async function ready(cache: TestCache): Promise<string> {
  cache.clock.advance(1_000);
  const { status, body } = await cache.get('/readyz');
  assert.equal(status, body.toString() === 'ready\n' ? 200 : 503);
  return body.toString();
}

async function pull(cache: TestCache, path: string): Promise<unknown> {
  const { complete, headers, body } = await cache.get(path);
  assert.ok(complete);
  if (path === LARGE) assert.ok(body.equals(bytesOf(large)));
  await cache.settled();
  return headers['x-cache'];
}

for (const removed of ['content', 'content/blobs/sha256', 'ingest']) {
  test(`${removed}/ that is removed under the running cache is made again, and content is kept in it`, async t => {
    const { cache } = await setUp(t);
    await pull(cache, V1);
    await pull(cache, LARGE);
    rmSync(join(cache.data, removed), { recursive: true, force: true });
    assert.equal(await pull(cache, LARGE), removed === 'ingest' ? 'hit' : 'miss');
    assert.equal(await pull(cache, LARGE), 'hit');
    rmSync(join(cache.data, removed), { recursive: true, force: true });
    assert.equal(await ready(cache), 'ready\n');
    assert.ok(existsSync(join(cache.data, removed)));
    assert.equal(await pull(cache, `/v2/owner/app/blobs/${image.config.digest}`), 'miss');
    assert.doesNotMatch(cache.log(), /passed through/);
  });
}

for (const [path, said] of [
  ['content/blobs/sha256', /^not ready: the disk cannot be written \(ENOTDIR: .*content\/blobs\/sha256/],
  ['ingest', /^not ready: the disk cannot be written \(ENOTDIR: .*ingest/],
] as const) {
  test(`${path} that is no directory any more is not ready, says why, and is ready once it is mended`, async t => {
    const { cache } = await setUp(t);
    assert.equal(await ready(cache), 'ready\n');
    renameSync(join(cache.data, path), join(cache.data, 'aside'));
    writeFileSync(join(cache.data, path), '');
    assert.match(await ready(cache), said);
    await pull(cache, LARGE);
    rmSync(join(cache.data, path));
    renameSync(join(cache.data, 'aside'), join(cache.data, path));
    assert.equal(await ready(cache), 'ready\n');
    assert.equal(await pull(cache, LARGE), 'miss');
  });
}

test('a database that is removed under the running cache is not ready; what is cached is served', async t => {
  const { cache } = await setUp(t);
  await pull(cache, LARGE);
  rmSync(join(cache.data, 'metadata.db'));
  assert.match(await ready(cache), /^not ready: \S+metadata\.db was removed or replaced while it was in use/);
  assert.equal(await pull(cache, LARGE), 'hit');
});

test('a disk that others have filled is not ready, and how much is lacking', async t => {
  const { cache } = await setUp(t, { cache: { minFree: '1000TiB' } });
  assert.match(
    await ready(cache),
    /^not ready: the disk is full: \d+ bytes more must be free on it, and only 0 are ours; free some, or lower cache\.minFree\n$/,
  );
});

test('asking costs one trial a second, which leaves nothing behind', async t => {
  const { cache } = await setUp(t);
  const trials = t.mock.method(fs, 'rename');
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  });
  await ready(cache);
  const once = trials.mock.callCount();
  assert.ok(once > 0);
  for (let times = 0; times < 10; times++) await cache.get('/readyz');
  assert.equal(trials.mock.callCount(), once);
  await ready(cache);
  assert.equal(trials.mock.callCount(), 2 * once);
  for (const path of ['ingest', 'content/blobs/sha256', 'content/blobs/sha512']) {
    assert.deepEqual(readdirSync(join(cache.data, path)), []);
  }
});

test('content is evicted when the file system has no more files to give, though it has bytes', async t => {
  const { cache } = await setUp(t);
  await pull(cache, V1);
  cache.clock.advance(1_000);
  await pull(cache, LARGE);
  const { files } = statfsSync(cache.data);
  if (files === 0) return t.skip('this file system counts no files');
  const here = () => readdirSync(join(cache.data, 'content/blobs/sha256')).length;
  assert.equal(here(), 2);
  const real = fs.statfs;
  // 100 must be left: one of the two has to go.
  t.mock.method(fs, 'statfs', async (path: string) => ({ ...(await real(path)), ffree: 101 - here() }));
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  });
  assert.equal(await ready(cache), 'ready\n');
  cache.clock.advance(1_000);
  await pull(cache, `/v2/owner/app/blobs/${image.layers[0]?.digest}`);
  assert.equal(here(), 2);
  assert.equal(await pull(cache, LARGE), 'hit', 'the manifest, pulled before it, is what was evicted');
});
