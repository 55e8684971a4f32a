// Ranges of a cold blob: near ones come by the flight, far ones are asked of the upstream while the flight goes on.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { until } from '../../support/async.ts';
import { startBoth, type TestCacheOptions } from '../../support/cache.ts';
import { bytesOf, randomContent } from '../../support/images.ts';
import { openRaw } from '../../support/raw.ts';

const MIB = 1024 * 1024;
const SIZE = 24 * MIB;
const PATIENT = { connectMs: 2_000, headersMs: 10_000, stallMs: 60_000, uploadMs: 10_000 };

/** A cache whose flight for a blob stands still at its first MiB, until the fault is removed. */
async function startStalled(t: TestContext, options: TestCacheOptions = {}) {
  const both = await startBoth(t, { timeouts: PATIENT, ...options });
  const blob = randomContent(SIZE);
  both.ghcr.addBlob('owner/app', blob);
  const stall = both.ghcr.fault({ endpoint: 'blobhost', stallAfter: MIB, times: 1 });
  const path = `/v2/owner/app/blobs/${blob.digest}`;
  const range = (range: string) => both.cache.get(path, { headers: { range } });
  return { ...both, bytes: bytesOf(blob), stall, path, range };
}

test('a range far into a cold blob does not wait for what is before it', async t => {
  const { ghcr, cache, bytes, stall, path, range } = await startStalled(t);
  const whole = cache.get(path);
  await stall.reached();
  for (const [asked, start, end, outcome] of [
    ['bytes=-51', SIZE - 51, SIZE, 'bypass'],
    [`bytes=${20 * MIB}-${20 * MIB + 99_999}`, 20 * MIB, 20 * MIB + 100_000, 'joined'],
    [`bytes=${22 * MIB}-`, 22 * MIB, SIZE, 'bypass'],
  ] as const) {
    const reply = await range(asked);
    assert.equal(reply.status, 206);
    assert.equal(reply.headers['x-cache'], outcome);
    assert.equal(reply.headers['content-range'], `bytes ${start}-${end - 1}/${SIZE}`);
    assert.ok(reply.body.equals(bytes.subarray(start, end)), asked);
  }
  const sent = ghcr.requests.filter(({ endpoint }) => endpoint === 'blobhost');
  assert.equal(sent.length, 4);
  stall.remove();
  assert.ok((await whole).body.equals(bytes));
  await cache.settled();
  assert.equal((await range('bytes=-51')).headers['x-cache'], 'hit');
});

test('several far ranges in one request come one after another, with near ones between them', async t => {
  const { cache, bytes, stall, path } = await startStalled(t);
  const whole = cache.get(path);
  await stall.reached();
  const spans = [
    [SIZE - 100, SIZE],
    [0, 100],
    [20 * MIB, 20 * MIB + 300_000],
  ] as const;
  const reply = await cache.get(path, {
    headers: { range: `bytes=${spans.map(([start, end]) => `${start}-${end - 1}`).join(',')}` },
  });
  assert.equal(reply.status, 206);
  assert.equal(reply.headers['x-cache'], 'bypass');
  for (const [start, end] of spans) assert.ok(reply.body.includes(bytes.subarray(start, end)), `${start}`);
  stall.remove();
  await whole;
});

test('a range that is near waits for the flight, and is verified as the rest is', async t => {
  const { ghcr, bytes, stall, range } = await startStalled(t);
  const near = range(`bytes=${2 * MIB}-${3 * MIB - 1}`);
  await stall.reached();
  stall.remove();
  const reply = await near;
  assert.equal(reply.headers['x-cache'], 'miss');
  assert.ok(reply.body.equals(bytes.subarray(2 * MIB, 3 * MIB)));
  assert.equal(ghcr.count({ endpoint: 'blobhost' }), 1);
});

test('a far range that the upstream refuses is waited for', async t => {
  const { ghcr, bytes, stall, range } = await startStalled(t);
  const first = range('bytes=0-9');
  await stall.reached();
  ghcr.fault({ endpoint: 'blob', times: 1, answer: { status: 404, body: '' } });
  const far = range('bytes=-51');
  await first;
  stall.remove();
  const reply = await far;
  assert.equal(reply.headers['x-cache'], 'joined');
  assert.ok(reply.body.equals(bytes.subarray(SIZE - 51)));
});

test('a far range of a blob that cannot be stored does not pull what is before it', async t => {
  const { cache, ghcr, bytes, stall, range } = await startStalled(t, {
    config: { cache: { maxSize: '4MiB', minFree: '1MiB' } },
  });
  stall.remove();
  const reply = await range('bytes=-51');
  assert.equal(reply.headers['x-cache'], 'bypass');
  assert.ok(reply.body.equals(bytes.subarray(SIZE - 51)));
  await cache.settled();
  assert.ok(ghcr.count({ endpoint: 'blobhost' }) <= 3);
});

test('a far range whose client disconnects before its first byte is not waited for', async t => {
  const { ghcr, cache, stall, path } = await startStalled(t);
  const whole = cache.get(path);
  await stall.reached();
  const held = ghcr.fault({ endpoint: 'blobhost', range: true, hang: true });
  const client = await openRaw(cache.url, `GET ${path} HTTP/1.1\r\nHost: localhost\r\nRange: bytes=-51\r\n\r\n`);
  await held.reached();
  client.socket.resetAndDestroy();
  await until(() => ghcr.requests.some(({ range, state }) => range !== undefined && state === 'aborted'));
  stall.remove();
  assert.ok((await whole).complete);
});

test('ranges of a blob that cannot be stored come in their order, or else all of it does', async t => {
  const { bytes, stall, range } = await startStalled(t, { config: { cache: { maxSize: '4MiB', minFree: '1MiB' } } });
  stall.remove();
  for (const [asked, status] of [
    ['bytes=0-99,200-299', 206],
    ['bytes=200-299,0-99', 200],
    ['bytes=0-99,50-149', 200],
    ['bytes=-51,0-99', 200],
  ] as const) {
    const reply = await range(asked);
    assert.deepEqual([reply.status, reply.complete], [status, true], asked);
    if (status === 200) assert.ok(reply.body.equals(bytes));
  }
});
