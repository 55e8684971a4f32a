// A large blob over several connections: the first request is held up, so that others fetch what is further on.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { turns, until } from '../../support/async.ts';
import { startBoth } from '../../support/cache.ts';
import type { FaultAction } from '../../support/ghcr/ghcr.ts';
import { bytesOf, makeImage } from '../../support/images.ts';

const MIB = 1024 * 1024;
const SIZE = 48 * MIB;
const SEGMENT = 16 * MIB;
const image = makeImage({ layers: [SIZE], seed: 'parallel' });
const [layer] = image.layers;
assert.ok(layer);
const { digest } = layer;
const BYTES = bytesOf(layer);
const PATH = `/v2/owner/app/blobs/${digest}`;
const PATIENT = { connectMs: 5_000, headersMs: 20_000, stallMs: 20_000, uploadMs: 20_000 };

async function setUp(t: TestContext, upstream: Record<string, unknown> = {}) {
  const both = await startBoth(t, { timeouts: PATIENT, upstream: { parallel: 4, ...upstream } });
  const { ghcr, cache, clock } = both;
  ghcr.push('owner/app', image, 'v1');
  const ranges = () => ghcr.requests.filter(({ endpoint, range }) => endpoint === 'blobhost' && range !== undefined);
  /** Pulls a blob. Its first request is held up after a MiB, others begin, and it goes on when it is enough. */
  const pull = async (isEnough: () => unknown = () => areOver(2), path = PATH) => {
    const hold = ghcr.fault({ endpoint: 'blobhost', range: false, times: 1, stallAfter: MIB });
    let received = 0;
    const reply = cache.get(path, {
      onData: soFar => {
        received = soFar;
      },
    });
    await until(() => received === MIB);
    // Slow twice.
    clock.advance(250);
    clock.advance(250);
    await until(isEnough);
    hold.remove();
    return reply;
  };
  const areOver = (count: number) => ranges().length >= count && ranges().every(({ state }) => state !== 'open');
  /** Not so long that what is held up counts as stalled. */
  const afterAWhile = async () => {
    for (let quarter = 0; quarter < 6; quarter++) {
      clock.advance(250);
      await turns(20);
    }
    return true;
  };
  return { ...both, ranges, pull, areOver, afterAWhile };
}

describe('a large blob from a slow upstream', () => {
  test('comes over several connections, by one request for each segment and every byte once', async t => {
    const { pull, ghcr, ranges } = await setUp(t);
    const { status, body } = await pull();
    assert.equal(status, 200);
    assert.ok(body.equals(BYTES));
    assert.deepEqual(
      ranges().map(({ range }) => range),
      [`bytes=${16 * MIB}-${32 * MIB - 1}`, `bytes=${32 * MIB}-${48 * MIB - 1}`],
    );
    assert.equal(ghcr.count({ endpoint: 'blobhost' }), 3);
    assert.equal(ghcr.count({ endpoint: 'blob' }), 1, 'the address that the registry gave serves for all');
  });

  test('comes over one connection with `parallel: 1`', async t => {
    const { pull, ghcr, afterAWhile } = await setUp(t, { parallel: 1 });
    const { body } = await pull(afterAWhile);
    assert.ok(body.equals(BYTES));
    assert.equal(ghcr.count({ endpoint: 'blobhost' }), 1);
  });

  test('comes over one connection when that is as fast as the disk', async t => {
    const { cache, ghcr } = await setUp(t);
    const { body } = await cache.get(PATH);
    assert.ok(body.equals(BYTES));
    assert.equal(ghcr.count({ endpoint: 'blobhost' }), 1);
  });

  test('reaches its followers as far as it is without a gap, and a range of what is further on too', async t => {
    const { pull, cache, areOver } = await setUp(t);
    const ranges: Promise<Buffer>[] = [];
    const { body } = await pull(() => {
      if (!areOver(2)) return false;
      for (const start of [0, 15 * MIB, 20 * MIB, 47 * MIB]) {
        const range = `bytes=${start}-${start + 99_999}`;
        ranges.push(cache.get(PATH, { headers: { range } }).then(reply => reply.body));
      }
      return true;
    });
    assert.ok(body.equals(BYTES));
    for (const [i, start] of [0, 15 * MIB, 20 * MIB, 47 * MIB].entries()) {
      assert.ok((await ranges[i])?.equals(BYTES.subarray(start, start + 100_000)), `from ${start}`);
    }
  });
});

describe('a segment', () => {
  for (const which of [0, 1]) {
    for (const share of [0.1, 0.5, 0.99]) {
      test(`(${which}) that is cut at ${share * 100} % is gone on with from there`, async t => {
        const { pull, ghcr, ranges, areOver, cache } = await setUp(t);
        const cutAfter = Math.floor(share * SEGMENT);
        ghcr.fault({ endpoint: 'blobhost', range: true, skip: which, times: 1, cutAfter });
        const { body } = await pull(() => areOver(3));
        assert.ok(body.equals(BYTES));
        assert.ok(ranges().length >= 3);
        assert.ok(ghcr.bytes({ endpoint: 'blobhost' }) < SIZE + 12 * MIB, 'much came twice');
        assert.match(cache.log(), /broke at byte \d+ and is resumed/);
      });
    }

    test(`(${which}) that is too short is made whole`, async t => {
      const { pull, ghcr, areOver } = await setUp(t);
      ghcr.fault({ endpoint: 'blobhost', range: true, skip: which, times: 1, shortClaimed: 5 * MIB });
      const { body } = await pull(() => areOver(3));
      assert.ok(body.equals(BYTES));
    });

    test(`(${which}) that is too long is cut`, async t => {
      const { pull, ghcr } = await setUp(t);
      ghcr.fault({ endpoint: 'blobhost', range: true, skip: which, times: 1, tooLong: 5_000 });
      const { body } = await pull();
      assert.ok(body.equals(BYTES));
    });

    test(`(${which}) with wrong bytes completes for no one, and is fetched again`, async t => {
      const { pull, ghcr, cache, areOver } = await setUp(t);
      const corruptAt = (which + 1) * SEGMENT + 77;
      const fault = ghcr.fault({ endpoint: 'blobhost', range: true, corruptAt });
      const cut = await pull(() => areOver(2));
      assert.equal(cut.complete, false);
      assert.ok(cut.body.length <= SIZE - 64 * 1024);
      await cache.settled();
      assert.match(cache.log(), /sent wrong content for .*that hash to sha256:/);
      fault.remove();
      const { status, body } = await cache.get(PATH);
      assert.deepEqual([status, body.equals(BYTES)], [200, true]);
    });
  }

  test('behind an address that has expired is fetched by a fresh one', async t => {
    const { pull, ghcr, areOver } = await setUp(t);
    ghcr.switches.signedUrlTtlMs = 100;
    const { body } = await pull(() => areOver(4));
    assert.ok(body.equals(BYTES));
    assert.equal(ghcr.count({ endpoint: 'blobhost', status: 403 }), 2);
    assert.equal(ghcr.count({ endpoint: 'blob' }), 3);
  });

  const denials: [what: string, FaultAction][] = [
    ['another range', { contentRange: ({ start, end }, size) => `bytes ${start + 1}-${end}/${size}` }],
    ['all of it, with a 200', { ignoreRange: true }],
    ['a range of another blob', { contentRange: ({ start, end }, size) => `bytes ${start}-${end - 1}/${size + 1}` }],
    ['a shorter range', { short: 5 * MIB }],
    ['501', { answer: { status: 501 } }],
    ['416', { answer: { status: 416 } }],
  ];
  for (const [what, action] of denials) {
    test(`for which ${what} comes is left to the first connection, and there are no others for an hour`, async t => {
      const { pull, ghcr, ranges, afterAWhile } = await setUp(t);
      ghcr.fault({ endpoint: 'blobhost', range: true, ...action });
      const { body } = await pull(async () => ranges().length > 0 && (await afterAWhile()));
      assert.ok(body.equals(BYTES));
      const asked = ranges().length;
      assert.ok(asked <= 4, `${asked} were asked for`);
      ghcr.clearFaults();
      const other = makeImage({ layers: [24 * MIB], seed: 'another' });
      ghcr.push('owner/other', other, 'v1');
      const reply = await pull(afterAWhile, `/v2/owner/other/blobs/${other.layers[0]?.digest}`);
      assert.equal(reply.status, 200);
      assert.equal(ranges().length, asked);
    });
  }

  for (const status of [429, 503]) {
    test(`for which ${status} comes is left to the rest, and there are fewer connections for a while`, async t => {
      const { pull, ghcr, ranges, afterAWhile } = await setUp(t);
      ghcr.fault({ endpoint: 'blobhost', range: true, answer: { status } });
      const { body } = await pull(async () => ranges().length > 0 && (await afterAWhile()));
      assert.ok(body.equals(BYTES));
      assert.ok(ranges().length <= 6, `${ranges().length} were asked for`);
    });
  }
});

test('a host is not taken for down because of connections that can be done without', async t => {
  const { pull, ghcr, ranges, afterAWhile, cache } = await setUp(t);
  ghcr.fault({ endpoint: 'blobhost', range: true, refuse: 'reset' });
  const { body } = await pull(async () => ranges().length > 0 && (await afterAWhile()));
  assert.ok(body.equals(BYTES));
  assert.doesNotMatch(cache.log(), /is down/);
});

describe('what several connections have brought', () => {
  test('is gone on with, gaps and all, after the upstream has failed for long', async t => {
    const { pull, ghcr, cache, clock, areOver, ranges } = await setUp(t);
    const cut = await pull(() => {
      if (!areOver(2)) return false;
      void ghcr.stop();
      return true;
    });
    assert.equal(cut.complete, false);
    await cache.settled();
    await ghcr.restart();
    ghcr.resetCounters();
    clock.advance(60_000);
    const { status, body } = await cache.get(PATH);
    assert.deepEqual([status, body.equals(BYTES)], [200, true]);
    assert.ok(ranges().length > 0 && ranges().length <= 3);
    assert.ok(ghcr.bytes({ endpoint: 'blobhost' }) < SIZE - 8 * MIB, 'what was there came again');
  });
});

describe('a range far ahead of what has come', () => {
  test('is fetched before others, once, and kept with the rest', async t => {
    const { ghcr, cache, ranges } = await setUp(t);
    const hold = ghcr.fault({ endpoint: 'blobhost', range: false, times: 1, stallAfter: MIB });
    const whole = cache.get(PATH);
    await hold.reached();
    const far = [30, 45].map(mib => mib * MIB);
    const replies = await Promise.all(
      far.map(start => cache.get(PATH, { headers: { range: `bytes=${start}-${start + 99_999}` } })),
    );
    for (const [i, { status, headers, body }] of replies.entries()) {
      assert.deepEqual([status, headers['x-cache']], [206, 'joined']);
      assert.ok(body.equals(BYTES.subarray(far[i], (far[i] ?? 0) + 100_000)));
    }
    hold.remove();
    assert.ok((await whole).body.equals(BYTES));
    const asked = ranges().map(({ range }) => Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1]));
    // The second one may be near by then to where the first has come.
    assert.ok(asked.includes(30 * MIB), asked.join());
    assert.equal(new Set(asked).size, asked.length);
    assert.ok(ghcr.bytes({ endpoint: 'blobhost' }) < SIZE + 12 * MIB);
  });

  test('comes from the upstream directly when it is the footer, which would be held back', async t => {
    const { ghcr, cache, ranges } = await setUp(t);
    const hold = ghcr.fault({ endpoint: 'blobhost', range: false, times: 1, stallAfter: MIB });
    const whole = cache.get(PATH);
    await hold.reached();
    const footer = await cache.get(PATH, { headers: { range: 'bytes=-50' } });
    assert.deepEqual([footer.status, footer.headers['x-cache']], [206, 'bypass']);
    assert.ok(footer.body.equals(BYTES.subarray(-50)));
    hold.remove();
    assert.ok((await whole).body.equals(BYTES));
    assert.equal(ranges().length, 1);
  });
});
