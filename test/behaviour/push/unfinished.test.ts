// What uploads cost that are opened and not finished: nothing before the first byte, and never what others have.
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { until } from '../../support/async.ts';
import type { TestCache } from '../../support/cache.ts';
import type { Ghcr } from '../../support/ghcr/ghcr.ts';
import { bytesOf, type Content, contentOf, randomContent } from '../../support/images.ts';
import { openAtLast } from '../../support/local-stores.ts';
import {
  assertCreated,
  assertError,
  assertPushed,
  dataDirectory,
  filesIn,
  idOf,
  inPieces,
  LIMIT,
  MIB,
  NAME,
  PATIENT,
  PushClient,
  small,
  startPushing,
} from '../../support/push-client.ts';

/** How many uploads are recorded. */
function recorded({ data }: TestCache): number {
  // The cache has the database to itself, so a copy is looked at.
  const copy = join(mkdtempSync(join(tmpdir(), 'ghcr-cache-copy-')), 'metadata.db');
  for (const ending of ['', '-wal']) copyFileSync(join(data, `metadata.db${ending}`), copy + ending);
  const database = new Database(copy);
  try {
    return database.prepare('SELECT count(*) FROM uploads').pluck().get() as number;
  } finally {
    database.close();
    rmSync(dirname(copy), { recursive: true });
  }
}

describe('an upload without bytes', () => {
  test('holds no file and no record, until the first byte comes', async t => {
    const both = await startPushing(t);
    const { cache, client } = both;
    const locations: string[] = [];
    for (let i = 0; i < 20; i++) locations.push(await client.open());
    const [first = '', second = ''] = locations;
    assert.equal((await client.patch(first, '')).status, 202);
    assert.equal(await client.offset(first), 0);
    assert.deepEqual([filesIn(cache, 'ingest'), recorded(cache)], [[], 0]);
    assert.equal((await client.patch(first, 'some')).status, 202);
    assert.deepEqual([filesIn(cache, 'ingest'), recorded(cache)], [[idOf(first)], 1]);
    assertCreated(await client.finish(first, contentOf('some').digest));
    const empty = randomContent(0, 'empty');
    assertCreated(await client.finish(second, empty.digest));
    await assertPushed(both, empty);
    for (const location of locations.slice(2)) assert.equal((await client.cancel(location)).status, 204);
    assert.deepEqual([filesIn(cache, 'ingest'), recorded(cache)], [[], 0]);
  });

  test('is unknown after a restart, and the client is told to begin another', async t => {
    const both = await startPushing(t, { data: dataDirectory(t) });
    const location = (await both.client.open()).replace(both.cache.url, '');
    await both.cache.stop();
    const client = new PushClient((await both.startCache(both.cache.data)).url);
    assertError(await client.patch(location, 'some'), 404, 'BLOB_UPLOAD_UNKNOWN', /begin another/);
  });

  test('closes the door for nobody, however many there are', LIMIT, async t => {
    const both = await startPushing(t);
    const { cache, client } = both;
    for (let i = 0; i < 24; i++) await Promise.all(Array.from({ length: 50 }, () => client.open()));
    assertCreated(await client.stream(small));
    await assertPushed(both, small);
    assert.deepEqual([filesIn(cache, 'ingest'), recorded(cache)], [[], 0]);
  });
});

test('uploads that wait for their clients hold few files open, and all go on', {
  skip: !existsSync('/proc/self/fd'),
  ...LIMIT,
}, async t => {
  const both = await startPushing(t);
  const { cache, client } = both;
  const blobs = Array.from({ length: 100 }, (_, i) => randomContent(2_000, `waiting ${i}`));
  const locations: string[] = [];
  for (const blob of blobs) {
    const location = await client.open();
    assert.equal((await client.patch(location, bytesOf(blob, 0, 1_000))).status, 202);
    locations.push(location);
  }
  const files = join(cache.data, 'ingest');
  assert.equal((await openAtLast(files, 16)).length, 16);
  both.clock.advance(60_001);
  assert.deepEqual(await openAtLast(files, 0), []);
  for (const [i, location] of locations.entries()) {
    const blob = blobs[i] as Content;
    if (i % 2 === 0) assert.equal((await client.patch(location, bytesOf(blob, 1_000))).status, 202);
    assertCreated(await client.finish(location, blob.digest, i % 2 === 0 ? undefined : bytesOf(blob, 1_000)));
  }
  for (const blob of [blobs[0], blobs[99]]) await assertPushed(both, blob as Content);
});

describe('a full cache stays whole', () => {
  const CACHE = { cache: { maxSize: '8MiB', minFree: '0' } };

  /** Pulls eight blobs that take all there is but a little. */
  async function fill({ ghcr, cache }: { ghcr: Ghcr; cache: TestCache }) {
    const blobs = Array.from({ length: 8 }, (_, i) => randomContent(MIB - 1_000, `whole ${i}`));
    for (const blob of blobs) {
      ghcr.addBlob(NAME, blob);
      await cache.get(`/v2/${NAME}/blobs/${blob.digest}`);
      await cache.settled();
      cache.clock.advance(1_000);
    }
    /** Of pulling them again, from this one on. */
    return async (from = 0) => {
      const outcomes: unknown[] = [];
      for (const { digest } of blobs.slice(from))
        outcomes.push((await cache.get(`/v2/${NAME}/blobs/${digest}`)).headers['x-cache']);
      return outcomes;
    };
  }
  const HITS = Array.from({ length: 8 }, () => 'hit');

  test('beside unfinished uploads and one that never ends, and pulls are stored', LIMIT, async t => {
    const both = await startPushing(t, { config: CACHE, timeouts: PATIENT });
    const { ghcr, cache, client } = both;
    const outcomes = await fill(both);
    for (let i = 0; i < 24; i++) {
      assert.equal((await client.patch(await client.open(), bytesOf(randomContent(400_000, `open ${i}`)))).status, 202);
    }
    const end = Promise.withResolvers<void>();
    const location = await client.open();
    const endless = client.patch(location, inPieces(Buffer.alloc(12 * MIB), [[12 * MIB, () => end.promise]]));
    await ghcr.until({ endpoint: 'upload', method: 'PATCH' });
    await until(async () => (await client.offset(location)) >= 10 * MIB);
    assert.deepEqual(await outcomes(), HITS);
    const other = randomContent(MIB, 'pulled meanwhile');
    ghcr.addBlob(NAME, other);
    const pulled = [];
    for (let i = 0; i < 2; i++) {
      pulled.push((await cache.get(`/v2/${NAME}/blobs/${other.digest}`)).headers['x-cache']);
      await cache.settled();
    }
    assert.deepEqual(pulled, ['miss', 'hit']);
    end.resolve();
    await endless;
  });

  test('beside what an earlier process has left', LIMIT, async t => {
    const both = await startPushing(t, { data: dataDirectory(t), config: CACHE });
    for (let i = 0; i < 2; i++) {
      await both.client.patch(await both.client.open(), bytesOf(randomContent(400_000, `left ${i}`)));
    }
    await both.cache.stop();
    const cache = await both.startCache(both.cache.data);
    const outcomes = await fill({ ghcr: both.ghcr, cache });
    // Their share is taken, so that this one passes through.
    const client = new PushClient(cache.url);
    const got = await client.stream(randomContent(400_000, 'one more'));
    assertCreated(got);
    assert.equal(got.headers['x-cache'], 'bypass');
    assert.deepEqual(await outcomes(), HITS);
  });

  test('when a size is announced that does not come', LIMIT, async t => {
    const both = await startPushing(t, { config: CACHE, timeouts: PATIENT });
    const { ghcr, cache } = both;
    const outcomes = await fill(both);
    const lying = randomContent(7 * MIB, 'announced');
    ghcr.addBlob(NAME, lying);
    const stall = ghcr.fault({ endpoint: 'blobhost', digest: lying.digest, stallAfter: 100_000 });
    const pulling = cache.get(`/v2/${NAME}/blobs/${lying.digest}`);
    await stall.reached();
    // The first step of a MiB, and no more.
    assert.deepEqual(await outcomes(1), HITS.slice(1));
    stall.remove();
    assert.equal((await pulling).status, 200);
  });

  test('when what is announced can never fit', async t => {
    const both = await startPushing(t, { config: CACHE });
    const outcomes = await fill(both);
    const huge = randomContent(9 * MIB, 'huge');
    both.ghcr.addBlob(NAME, huge);
    assert.equal((await both.cache.get(`/v2/${NAME}/blobs/${huge.digest}`)).headers['x-cache'], 'bypass');
    assert.deepEqual(await outcomes(), HITS);
  });

  test('and a push that is finished is kept, in place of what was pulled longest ago', async t => {
    const both = await startPushing(t, { config: CACHE });
    const outcomes = await fill(both);
    const blob = randomContent(500_000, 'pushed');
    const location = await both.client.open();
    await both.client.patch(location, bytesOf(blob));
    assert.deepEqual(await outcomes(), HITS);
    assertCreated(await both.client.finish(location, blob.digest));
    await assertPushed(both, blob);
  });
});
