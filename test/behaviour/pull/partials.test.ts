// Downloads that ended early: the next pull goes on where they stood, after a failure, a restart or a crash.
import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { until } from '../../support/async.ts';
import { startTestCache, type TestCacheOptions } from '../../support/cache.ts';
import { startGhcr } from '../../support/ghcr/ghcr.ts';
import { bytesOf, randomContent } from '../../support/images.ts';
import { dataDirectory } from '../../support/push-client.ts';

const MIB = 1024 * 1024;
const blob = randomContent(6 * MIB);
const BYTES = bytesOf(blob);
const PATH = `/v2/owner/app/blobs/${blob.digest}`;
const NAME = `download-sha256-${blob.digest.slice(7)}`;

async function setUp(t: TestContext, options: TestCacheOptions = {}) {
  const ghcr = await startGhcr();
  t.after(() => ghcr.close());
  ghcr.addBlob('owner/app', blob);
  const data = dataDirectory(t);
  const start = async () => {
    const cache = await startTestCache({ ...options, ghcr, data });
    t.after(() => cache.stop());
    return cache;
  };
  const ranges = () => ghcr.requests.filter(({ endpoint }) => endpoint === 'blobhost').map(({ range }) => range);
  return { ghcr, data, start, ranges, ingests: () => readdirSync(join(data, 'ingest')) };
}

test('a download that the upstream broke for good is resumed by the next pull', async t => {
  const { ghcr, start, ranges, ingests } = await setUp(t);
  const cache = await start();
  const cut = ghcr.fault({ endpoint: 'blobhost', cutAfter: 2 * MIB, times: 1 });
  const refuse = ghcr.fault({ endpoint: 'blob', refuse: 'reset', skip: 1 });
  const broken = await cache.get(PATH);
  assert.equal(broken.complete, false);
  await cache.settled();
  assert.deepEqual(ingests(), [NAME]);
  cut.remove();
  refuse.remove();
  cache.clock.advance(60_000);
  ghcr.resetCounters();
  assert.ok((await cache.get(PATH)).body.equals(BYTES));
  assert.equal(ranges().length, 1);
  assert.match(String(ranges()[0]), /^bytes=\d{7}-$/);
  await cache.settled();
  assert.deepEqual(ingests(), []);
});

test('a download survives a stop of the server, and is resumed by the next one', async t => {
  const { ghcr, start, ranges, ingests } = await setUp(t);
  const stall = ghcr.fault({ endpoint: 'blobhost', stallAfter: 3 * MIB, times: 1 });
  const before = await start();
  let sofar = 0;
  const onData = (bytes: number) => {
    sofar = bytes;
  };
  const pull = before.get(PATH, { onData }).catch(() => undefined);
  await until(() => sofar > 2 * MIB);
  await before.stop();
  stall.remove();
  await pull;
  assert.deepEqual(ingests(), [NAME]);
  const after = await start();
  ghcr.resetCounters();
  assert.ok((await after.get(PATH)).body.equals(BYTES));
  assert.match(String(ranges()[0]), /^bytes=\d{7}-$/);
});

test('what a crash left is resumed, and wrong or complete leftovers cost one more request', async t => {
  for (const [what, left] of [
    ['right', BYTES.subarray(0, 2 * MIB)],
    ['wrong', Buffer.alloc(2 * MIB)],
    ['complete', BYTES],
    ['too long', Buffer.concat([BYTES, BYTES])],
  ] as const) {
    const { data, start, ingests } = await setUp(t);
    mkdirSync(join(data, 'ingest'), { recursive: true });
    writeFileSync(join(data, 'ingest', NAME), left);
    writeFileSync(join(data, 'ingest', '123-4'), 'of another kind');
    const cache = await start();
    assert.deepEqual(ingests(), [NAME], what);
    // No client ever completes wrong bytes; one that has seen none gets the right ones.
    const first = await cache.get(PATH);
    if (what === 'right' || first.complete) assert.ok(first.body.equals(BYTES), what);
    await cache.settled();
    assert.ok((await cache.get(PATH)).body.equals(BYTES), what);
    await cache.settled();
    assert.deepEqual(ingests(), [], what);
  }
});

test('leftovers are bounded by the budget, in number and in age', async t => {
  const { data, start, ingests } = await setUp(t, { config: { cache: { maxSize: '100MiB', minFree: '1MiB' } } });
  mkdirSync(join(data, 'ingest'), { recursive: true });
  for (let n = 0; n < 9; n++) {
    appendFileSync(join(data, 'ingest', `download-sha256-${String(n).repeat(64)}`), Buffer.alloc(MIB));
  }
  writeFileSync(join(data, 'ingest', `download-sha256-${'a'.repeat(64)}`), Buffer.alloc(6 * MIB));
  writeFileSync(join(data, 'ingest', `download-sha256-${'b'.repeat(64)}`), 'little');
  const cache = await start();
  assert.equal(ingests().length, 9);
  cache.clock.advance(60_000);
  await until(() => ingests().length === 5);
  cache.clock.advance(24 * 3_600_000);
  await until(() => ingests().length === 0);
});
