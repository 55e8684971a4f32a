// Flights: one download for all clients, clients that come and go, resuming, verification before the last byte.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { HOLD_BACK_BYTES } from '../../../src/pull/hold-back.ts';
import { turns, until } from '../../support/async.ts';
import { startBoth, type TestCache, type TestCacheOptions } from '../../support/cache.ts';
import { answers, type FaultAction, type GhcrOptions } from '../../support/ghcr/ghcr.ts';
import { errorOf } from '../../support/http-client.ts';
import { bytesOf, type Content, randomContent } from '../../support/images.ts';

const MIB = 1024 * 1024;

async function startWithBlob(
  t: TestContext,
  sizeBytes: number,
  options: TestCacheOptions & { fake?: GhcrOptions } = {},
) {
  const both = await startBoth(t, options);
  const blob = randomContent(sizeBytes);
  both.ghcr.addBlob('owner/app', blob);
  const path = `/v2/owner/app/blobs/${blob.digest}`;
  const downloads = () => both.ghcr.count({ endpoint: 'blobhost', digest: blob.digest });
  return { ...both, blob, path, downloads };
}

/** Nothing wrong is on disk: every file hashes to its name, and nothing is left of what failed. */
async function assertDiskIsRight(cache: TestCache): Promise<void> {
  await cache.settled();
  const directory = join(cache.data, 'content/blobs/sha256');
  for (const hex of readdirSync(directory)) assert.equal(digestOf(readFileSync(join(directory, hex))), `sha256:${hex}`);
}

async function assertPulls(cache: TestCache, path: string, blob: Content): Promise<void> {
  const reply = await cache.get(path);
  assert.equal(reply.status, 200);
  assert(reply.body.equals(bytesOf(blob)));
}

test('50 clients on one cold blob cost one download; five that hang up midway change nothing', async t => {
  const { ghcr, cache, blob, path, downloads } = await startWithBlob(t, 8 * MIB);
  const stall = ghcr.fault({ endpoint: 'blobhost', stallAfter: 2 * MIB });
  const leavers = Array.from({ length: 5 }, () => cache.get(path, { leaveAfter: MIB }).catch(() => undefined));
  const stayers = Array.from({ length: 45 }, () => cache.get(path));
  await stall.reached();
  await Promise.all(leavers);
  stall.remove();
  for (const reply of await Promise.all(stayers)) assert(reply.body.equals(bytesOf(blob)));
  assert.equal(downloads(), 1);
  // Not even the first question is spent on learning the challenge.
  assert.equal(ghcr.count({ endpoint: 'blob' }), 1);
  await assertPulls(cache, path, blob);
});

test('the first bytes leave as they arrive, and a client that comes late gets what is there', async t => {
  const { ghcr, cache, blob, path, downloads } = await startWithBlob(t, MIB, {
    timeouts: { connectMs: 500, headersMs: 5_000, stallMs: 5_000, uploadMs: 2_000 },
  });
  const stall = ghcr.fault({ endpoint: 'blobhost', stallAfter: 512 * 1024 });
  const got = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const replies = got.map(({ resolve }) => cache.get(path, { onData: soFar => soFar >= 512 * 1024 && resolve() }));
  await Promise.all(got.map(({ promise }) => promise));
  const range = await cache.get(path, { headers: { range: 'bytes=1000-1999' } });
  assert(range.body.equals(bytesOf(blob, 1000, 2000)));
  assert.equal(range.headers['x-cache'], 'joined');
  stall.remove();
  const outcomes = [];
  for (const reply of await Promise.all(replies)) {
    assert(reply.body.equals(bytesOf(blob)));
    outcomes.push(reply.headers['x-cache']);
  }
  assert.deepEqual(outcomes.sort(), ['joined', 'miss']);
  assert.equal(downloads(), 1);
});

test('the fill goes on when all clients have left', async t => {
  const { ghcr, cache, blob, path, downloads } = await startWithBlob(t, 4 * MIB);
  await cache.get(path, { leaveAfter: 1000 }).catch(() => undefined);
  await ghcr.until({ endpoint: 'blobhost', state: 'finished' });
  await assertPulls(cache, path, blob);
  assert.equal(downloads(), 1);
});

test('a slow client does not slow the fill or the others', async t => {
  const { ghcr, cache, blob, path } = await startWithBlob(t, 16 * MIB);
  // It asks, and never reads.
  const { connect } = await import('node:net');
  const socket = connect(Number(new URL(cache.url).port), '127.0.0.1');
  t.after(() => socket.destroy());
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  await ghcr.until({ endpoint: 'blobhost', state: 'finished' });
  await assertPulls(cache, path, blob);
  assert.equal(ghcr.count({ endpoint: 'blobhost' }), 1);
});

test('through two repositories at once: one download, one question, and both are linked', async t => {
  const { ghcr, cache, blob, path, downloads } = await startWithBlob(t, 2 * MIB);
  ghcr.addBlob('other/app', blob);
  const otherPath = `/v2/other/app/blobs/${blob.digest}`;
  const stall = ghcr.fault({ endpoint: 'blobhost', stallAfter: MIB });
  const first = cache.get(path);
  await stall.reached();
  const second = cache.get(otherPath);
  await ghcr.until({ endpoint: 'blob', method: 'HEAD', repository: 'other/app', status: 200 });
  ghcr.addPackage('third/app');
  assert.equal((await cache.get(`/v2/third/app/blobs/${blob.digest}`)).status, 404);
  stall.remove();
  for (const reply of await Promise.all([first, second])) assert(reply.body.equals(bytesOf(blob)));
  assert.equal(downloads(), 1);
  await ghcr.stop();
  for (const each of [path, otherPath]) assert.equal((await cache.get(each)).headers['x-cache'], 'hit');
});

test('a flight that fails for want of rights does not fail the repository that has them', async t => {
  const { ghcr, cache, blob } = await startWithBlob(t, MIB);
  ghcr.addPackage('without/app');
  let open = () => {};
  const gate = new Promise<void>(resolve => {
    open = resolve;
  });
  ghcr.fault({ endpoint: 'blob', repository: 'without/app', gate, times: 1 });
  const refused = cache.get(`/v2/without/app/blobs/${blob.digest}`);
  await ghcr.until({ endpoint: 'blob', repository: 'without/app' });
  const allowed = cache.get(`/v2/owner/app/blobs/${blob.digest}`);
  await ghcr.until({ endpoint: 'blob', repository: 'owner/app', method: 'HEAD', state: 'finished' });
  open();
  assert.equal((await refused).status, 404);
  assert((await allowed).body.equals(bytesOf(blob)));
});

for (const share of [0.1, 0.5, 0.99]) {
  test(`an upstream cut at ${share * 100} % is resumed: one uninterrupted body, a Range for the rest only`, async t => {
    for (const action of ['cutAfter', 'shortClaimed', 'stallAfter'] as const) {
      const { ghcr, cache, clock, blob, path, downloads } = await startWithBlob(t, 3 * MIB);
      const at = Math.floor(blob.sizeBytes * share);
      const fault: FaultAction = action === 'shortClaimed' ? { shortClaimed: blob.sizeBytes - at } : { [action]: at };
      ghcr.fault({ endpoint: 'blobhost', times: 1, ...fault });
      let received = 0;
      const onData = (soFar: number) => {
        received = soFar;
      };
      const pulling = cache.get(path, { onData });
      // A stall is noticed as time passes, which it does when all is here that came.
      await until(async () => {
        await turns(50);
        const isHere = received >= Math.min(at, blob.sizeBytes - HOLD_BACK_BYTES);
        if (action === 'stallAfter' && isHere) clock.advance(500);
        return downloads() === 2;
      });
      const reply = await pulling;
      assert(reply.complete && reply.body.equals(bytesOf(blob)), action);
      const ranges = ghcr.requests.filter(({ endpoint }) => endpoint === 'blobhost').map(({ range }) => range);
      assert.deepEqual(ranges, [undefined, `bytes=${at}-`], action);
      // For a fresh redirect, since the old one may have expired.
      assert.equal(ghcr.count({ endpoint: 'blob', status: 307 }), 2);
      assert.equal(ghcr.bytes({ endpoint: 'blobhost' }), blob.sizeBytes);
      await assertDiskIsRight(cache);
    }
  });
}

test('an upstream that honours no range, or answers another one, still gives the right body', async t => {
  const wrongStart = (span: { start: number; end: number }, size: number) =>
    `bytes ${span.start + 1}-${span.end - 1}/${size}`;
  for (const second of [{ ignoreRange: true }, { contentRange: wrongStart }] as FaultAction[]) {
    const { ghcr, cache, blob, path } = await startWithBlob(t, MIB);
    ghcr.fault({ endpoint: 'blobhost', times: 1, cutAfter: 500_000 });
    ghcr.fault({ endpoint: 'blobhost', times: 1, range: true, ...second });
    const reply = await cache.get(path);
    if (reply.complete) assert(reply.body.equals(bytesOf(blob)));
    else await assertPulls(cache, path, blob);
    await assertDiskIsRight(cache);
  }
});

test('a body that breaks again and again is given up: the client is cut, and told nothing wrong', async t => {
  const { ghcr, cache, blob, path } = await startWithBlob(t, MIB);
  const fault = ghcr.fault({ endpoint: 'blobhost', cutAfter: 1000 });
  const small = await cache.get(path);
  assert(!small.complete || small.status === 502);
  assert(fault.hits <= 8);
  fault.remove();
  await assertPulls(cache, path, blob);
  await assertDiskIsRight(cache);
});

const wrong: Record<string, FaultAction> = {
  'a flipped byte at the start': { corruptAt: 0 },
  'a flipped last byte': { corruptAt: -1 },
  'a short body that claims to be whole': { short: 100 },
  'bytes too many after the end': { tooLong: 100 },
  'bytes too many within the body': { tooLong: 100, chunked: true },
  'an HTML page': { answer: answers.htmlPage },
  'an empty body': { answer: { status: 200, body: '' } },
};

for (const [name, action] of Object.entries(wrong)) {
  for (const sizeBytes of [1000, HOLD_BACK_BYTES, HOLD_BACK_BYTES + 1, 2 * MIB]) {
    test(`${name} instead of ${sizeBytes} bytes: no client completes it, nothing wrong is kept, the next try succeeds`, async t => {
      const { ghcr, cache, blob, path } = await startWithBlob(t, sizeBytes);
      const spoilt = action.corruptAt === -1 ? { corruptAt: sizeBytes - 1 } : action;
      const fault = ghcr.fault({ endpoint: 'blobhost', ...spoilt });
      const requests = [{}, {}, { headers: { range: 'bytes=0-' } }, { headers: { range: `bytes=${sizeBytes - 10}-` } }];
      for (const reply of await Promise.all(requests.map(request => cache.get(path, request)))) {
        if (action.tooLong !== undefined && reply.status < 300) {
          // What comes after the announced end need not spoil what came before.
          assert(!reply.complete || bytesOf(blob).includes(reply.body));
        } else if (reply.status < 300) {
          assert(!reply.complete, 'cut before completion');
        } else if (reply.status === 416) {
          // The range lies beyond the end that the upstream pretends.
          assert(action.short !== undefined);
        } else {
          assert.equal(reply.status, 502);
          assert.match(errorOf(reply).message, /owner\/app@sha256:[0-9a-f]{64}/);
        }
      }
      fault.remove();
      await assertPulls(cache, path, blob);
      await assertDiskIsRight(cache);
    });
  }
}

test('wrong bytes once are fetched again unseen by a client that has no byte yet', async t => {
  for (const action of [{ corruptAt: 5 }, { short: 10 }, { answer: answers.htmlPage }] as FaultAction[]) {
    const { ghcr, cache, blob, path, downloads } = await startWithBlob(t, 50_000);
    ghcr.fault({ endpoint: 'blobhost', times: 1, ...action });
    await assertPulls(cache, path, blob);
    assert.equal(downloads(), 2);
  }
});

test('no client gets the final stretch before the digest is known', async t => {
  const { ghcr, cache, blob, path } = await startWithBlob(t, MIB, {
    timeouts: { connectMs: 500, headersMs: 5_000, stallMs: 5_000, uploadMs: 2_000 },
  });
  const stall = ghcr.fault({ endpoint: 'blobhost', stallAfter: MIB - 1 });
  const held = MIB - HOLD_BACK_BYTES;
  const reached = Promise.withResolvers<void>();
  let most = 0;
  const reply = cache.get(path, {
    onData: soFar => {
      most = soFar;
      if (soFar >= held) reached.resolve();
    },
  });
  await Promise.all([stall.reached(), reached.promise]);
  assert.equal(most, held);
  stall.remove();
  assert((await reply).body.equals(bytesOf(blob)));
});

test('a blob whose size is not told comes whole and right', async t => {
  const { cache, blob, path } = await startWithBlob(t, 2 * MIB, {
    fake: { switches: { omitContentLength: true } },
  });
  const reply = await cache.get(path);
  assert(reply.body.equals(bytesOf(blob)));
  assert.equal(reply.headers['content-length'], String(blob.sizeBytes));
});

test('a blob whose size is not told takes its room as it comes, and no more than there is', async t => {
  const limits = {
    config: { cache: { maxSize: '65MiB', minFree: '0' } },
    fake: { switches: { omitContentLength: true } },
  };
  const { cache, blob, path } = await startWithBlob(t, 66 * MIB, limits);
  const reply = await cache.get(path);
  assert.equal(reply.status, 502);
  assert.match(errorOf(reply).message, /cannot be stored.*does not tell its size/);
  await assertDiskIsRight(cache);
  const small = await startWithBlob(t, MIB, limits);
  await assertPulls(small.cache, small.path, small.blob);
  assert.equal(blob.sizeBytes, 66 * MIB);
});

test('without room a blob is passed through, verified just the same, and what is here stays', async t => {
  const { ghcr, cache, blob, path, downloads } = await startWithBlob(t, 2 * MIB, {
    config: { cache: { maxSize: '1MiB', minFree: '0' } },
  });
  const small = randomContent(500_000, 'small');
  ghcr.addBlob('owner/app', small);
  const smallPath = `/v2/owner/app/blobs/${small.digest}`;
  await assertPulls(cache, smallPath, small);
  for (let i = 0; i < 2; i++) {
    const reply = await cache.get(path);
    assert.equal(reply.headers['x-cache'], 'bypass');
    assert(reply.body.equals(bytesOf(blob)));
  }
  const range = await cache.get(path, { headers: { range: 'bytes=1000000-1000009' } });
  assert.equal(range.status, 206);
  assert(range.body.equals(bytesOf(blob, 1_000_000, 1_000_010)));
  const before = downloads();
  const fault = ghcr.fault({ endpoint: 'blobhost', corruptAt: 2 * MIB - 1, digest: blob.digest });
  const spoilt = await cache.get(path);
  assert(!spoilt.complete && spoilt.body.length <= 2 * MIB - HOLD_BACK_BYTES);
  fault.remove();
  assert(downloads() > before);
  ghcr.fault({ endpoint: 'blobhost', cutAfter: MIB, times: 2, digest: blob.digest });
  assert((await cache.get(path)).body.equals(bytesOf(blob)), 'a bypass is resumed too');
  assert.equal((await cache.get(smallPath)).headers['x-cache'], 'hit');
  assert(!readdirSync(join(cache.data, 'content/blobs/sha256')).some(hex => blob.digest.endsWith(hex)));
});
