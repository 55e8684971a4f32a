// Eviction: what goes when room is needed, and what stays because it is pinned.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { startTestCache, type TestCache } from '../../support/cache.ts';
import { TestClock } from '../../support/clock.ts';
import { startGhcr } from '../../support/ghcr/ghcr.ts';
import { bytesOf, type Image, type Index, makeImage, makeIndex } from '../../support/images.ts';

const MIB = 1024 * 1024;
const NAME = 'owner/app';
const PINS = [`ghcr.io/${NAME}:v1`];

/** An image of one layer of almost a MiB. */
const imageOf = (seed: string) => makeImage({ layers: [900_000], seed });

/** A fake ghcr.io, and caches on one data directory with room for three such images. */
async function setUp(t: TestContext) {
  const data = mkdtempSync(join(tmpdir(), 'ghcr-cache-retention-'));
  t.after(() => rmSync(data, { recursive: true, force: true }));
  const ghcr = await startGhcr();
  t.after(() => ghcr.close());
  const clock = new TestClock();
  const start = async (pins = PINS) => {
    const config = { cache: { maxSize: '3MiB', minFree: '0' }, pins };
    const cache = await startTestCache({ ghcr, data, clock, config });
    t.after(() => cache.stop());
    return cache;
  };
  /** Pulls manifests, configs and layers; the outcomes. */
  const pull = async (cache: TestCache, image: Image | Index, reference: string): Promise<Set<unknown>> => {
    const manifest = await cache.get(`/v2/${NAME}/manifests/${reference}`);
    assert.deepEqual(manifest.body, image.manifest.bytes);
    const outcomes = new Set<unknown>([manifest.headers['x-cache']]);
    if ('images' in image) {
      for (const each of image.images)
        for (const outcome of await pull(cache, each, each.manifest.digest)) outcomes.add(outcome);
      return outcomes;
    }
    for (const blob of [image.config, ...image.layers]) {
      const reply = await cache.get(`/v2/${NAME}/blobs/${blob.digest}`);
      assert(reply.body.equals(bytesOf(blob)));
      await cache.settled();
      outcomes.add(reply.headers['x-cache']);
    }
    clock.advance(1000);
    return outcomes;
  };
  /** Pushes the image to the fake and pulls it by tag. */
  const bring = (cache: TestCache, image: Image | Index, tag: string) => {
    ghcr.push(NAME, image, tag);
    return pull(cache, image, tag);
  };
  const isHere = ({ digest }: { digest: string }) =>
    readdirSync(join(data, 'content/blobs/sha256')).includes(digest.slice('sha256:'.length));
  return { data, ghcr, start, pull, bring, isHere };
}

test('what was pulled longest ago goes first, and no more than must', async t => {
  const { data, start, pull, bring, isHere } = await setUp(t);
  const cache = await start([]);
  const [one, two, three, four] = ['one', 'two', 'three', 'four'].map(imageOf) as [Image, Image, Image, Image];
  await bring(cache, one, 'one');
  await bring(cache, two, 'two');
  await bring(cache, three, 'three');
  assert.deepEqual([...(await pull(cache, one, 'one'))], ['hit']);
  await bring(cache, four, 'four');
  assert.deepEqual(
    [one, two, three, four].map(({ layers: [layer = assert.fail()] }) => isHere(layer)),
    [true, false, true, true],
  );
  const directory = join(data, 'content/blobs/sha256');
  const total = readdirSync(directory).reduce((sum, hex) => sum + statSync(join(directory, hex)).size, 0);
  assert(total <= 3 * MIB);
});

test('a pinned image stays whole, and another image of the same repository goes', async t => {
  const { ghcr, start, pull, bring, isHere } = await setUp(t);
  const cache = await start();
  const pinned = makeIndex([imageOf('amd64'), makeImage({ layers: [1000], seed: 'arm64' })]);
  const other = imageOf('other');
  await bring(cache, pinned, 'v1');
  await bring(cache, other, 'v2');
  for (const seed of ['three', 'four', 'five']) await bring(cache, imageOf(seed), seed);
  assert(!isHere(other.layers[0] ?? assert.fail()));
  ghcr.resetCounters();
  assert.deepEqual([...(await pull(cache, pinned, pinned.manifest.digest))], ['hit']);
  assert.equal(ghcr.count({ endpoint: 'blobhost' }), 0);
});

test('a pin follows its tag: what the tag pointed to before may go', async t => {
  const { start, pull, bring, isHere } = await setUp(t);
  const cache = await start();
  const [before, after] = [imageOf('before'), imageOf('after')];
  await bring(cache, before, 'v1');
  cache.clock.advance(3_600_000);
  await bring(cache, after, 'v1');
  for (const seed of ['three', 'four', 'five']) await bring(cache, imageOf(seed), seed);
  assert(!isHere(before.layers[0] ?? assert.fail()));
  assert.deepEqual([...(await pull(cache, after, after.manifest.digest))], ['hit']);
});

test('a pinned image that an earlier version brought is known by its parts soon after the start', async t => {
  const { data, start, pull, bring, isHere } = await setUp(t);
  const [pinned, other] = [imageOf('pinned'), imageOf('other')];
  const first = await start();
  await bring(first, pinned, 'v1');
  await bring(first, other, 'v2');
  await first.stop();
  const database = new Database(join(data, 'metadata.db'));
  database.exec(`DROP TABLE parts; DROP TABLE unread_manifests; ALTER TABLE uploads DROP COLUMN owner`);
  database.pragma('user_version = 2');
  database.close();

  const cache = await start();
  for (const seed of ['three', 'four', 'five']) await bring(cache, imageOf(seed), seed);
  assert(!isHere(other.layers[0] ?? assert.fail()));
  assert.deepEqual([...(await pull(cache, pinned, pinned.manifest.digest))], ['hit']);
});
