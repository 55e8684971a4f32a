import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { turns } from '../../test/support/async.ts';
import { TestClock } from '../../test/support/clock.ts';
import { type FakeAnswer, FakeUpstream } from '../../test/support/fake-upstream.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { RegistryError } from '../oci/errors.ts';
import { download } from './download.ts';
import type { OpenReceiver } from './download-options.ts';
import type { OnChunk } from './transport/response.ts';
import type { BlobBody } from './upstream.ts';

const SIZE = 200_000;
const content = randomContent(SIZE);
const BYTES = bytesOf(content);
const RESET = new Error('connection reset');
const UNAVAILABLE = new RegistryError('UPSTREAM_UNAVAILABLE', 'cannot be reached');

/** The body from where it is asked, whole, or cut after so many bytes of the blob. */
const from = (start: number, end = SIZE): FakeAnswer => ({
  bytes: BYTES.subarray(start, end),
  sizeBytes: SIZE,
});
const cut = (start: number, end: number, after: Error = RESET): FakeAnswer => ({
  ...from(start, end),
  after,
});

interface Receiver {
  start(...told: Parameters<OpenReceiver>): Promise<void> | void;
  receive: OnChunk;
}

function setUp(script: FakeAnswer[], receiver: Partial<Receiver> = {}) {
  const scripted = new FakeUpstream(script);
  const clock = new TestClock();
  const stopping = new AbortController();
  const pieces: Buffer[] = [];
  const starts: [number | undefined, string | undefined][] = [];
  const breaks: [string, number][] = [];
  const run = () =>
    download(
      {
        upstream: scripted.upstream,
        clock,
        signal: stopping.signal,
        client: '',
        onBreak: (message, at) => breaks.push([message, at]),
      },
      scripted.repository,
      content.digest,
      async (...told) => {
        starts.push(told);
        await receiver.start?.(...told);
        return () => chunk => {
          pieces.push(chunk);
          return receiver.receive?.(chunk);
        };
      },
    );
  return { run, scripted, clock, stopping, starts, breaks, received: () => Buffer.concat(pieces) };
}

describe('a download', () => {
  test('hands over the size, the type, and then all bytes in order', async () => {
    const { run, received, starts, scripted, breaks } = setUp([{ ...from(0), contentType: 'application/gzip' }]);
    await run();
    assert.deepEqual(starts, [[SIZE, 'application/gzip']]);
    assert.deepEqual(received(), BYTES);
    assert.deepEqual(scripted.asked, [0]);
    assert.deepEqual(breaks, []);
    assert.equal(scripted.openBodies, 0);
  });

  test('of nothing is complete at once', async () => {
    const { run, received, starts } = setUp([{}]);
    await run();
    assert.deepEqual(starts, [[0, undefined]]);
    assert.equal(received().length, 0);
  });

  test('of a size that is not told is complete when the body ends', async () => {
    const { run, received, starts } = setUp([{ ...from(0), sizeBytes: null }]);
    await run();
    assert.deepEqual(starts, [[undefined, undefined]]);
    assert.deepEqual(received(), BYTES);
  });

  const ways: [what: string, script: FakeAnswer[]][] = [
    ['a body that breaks', [cut(0, 70_000), from(70_000)]],
    ['a body that breaks again and again', [cut(0, 70_000), cut(70_000, 71_000), cut(71_000, 150_000), from(150_000)]],
    ['a body that ends too early, cleanly', [from(0, 70_000), from(70_000)]],
    ['a body that breaks before its first byte', [cut(0, 0), from(0)]],
    ['an answer that does not come, later', [cut(0, 70_000), { error: UNAVAILABLE }, from(70_000)]],
    ['an upstream that does not honour ranges', [cut(0, 70_000), { ...from(0), start: 0 }]],
    [
      'an upstream that does not honour ranges and breaks before the place',
      [cut(0, 70_000), { ...cut(0, 30_000), start: 0 }, from(70_000)],
    ],
    ['a later answer that does not tell the size', [cut(0, 70_000), { ...from(70_000), sizeBytes: null }]],
  ];
  for (const [what, script] of ways) {
    test(`gets over ${what}: each byte comes once, and each break is told`, async () => {
      const { run, received, starts, scripted, breaks, clock } = setUp(script);
      await run();
      assert.deepEqual(received(), BYTES);
      assert.equal(starts.length, 1);
      assert.equal(scripted.asked.length, script.length);
      assert.equal(breaks.length, script.length - 1);
      assert.deepEqual(
        breaks.map(([, at]) => at),
        scripted.asked.slice(1),
        'asked from where it broke',
      );
      assert.equal(clock.sleptMs.length, breaks.length);
      assert.equal(scripted.openBodies, 0);
    });
  }

  test('gets over an upstream that answers ranges with an error: it is asked for all, once', async () => {
    const wrong = new RegistryError('UPSTREAM_INVALID', 'it responded with status 416');
    const { run, received, scripted } = setUp([cut(0, 70_000), { error: wrong }, cut(0, 100_000), from(0)]);
    await run();
    assert.deepEqual(received(), BYTES);
    assert.deepEqual(scripted.asked, [0, 70_000, 0, 0]);
    const twice = setUp([cut(0, 70_000), { error: wrong }, { error: wrong }]);
    await assert.rejects(twice.run(), wrong);
  });

  test('gets over any breaks at any places, whatever is told and honoured', async () => {
    const breakings = fc.array(
      fc.record({
        more: fc.integer({ min: 70_000, max: 90_000 }),
        honoured: fc.boolean(),
        told: fc.boolean(),
      }),
      { maxLength: 2 },
    );
    await fc.assert(
      fc.asyncProperty(breakings, fc.integer({ min: 500, max: 9_000 }), async (steps, chunkBytes) => {
        const script: FakeAnswer[] = [];
        let at = 0;
        for (const [i, { more, honoured, told }] of [...steps, { more: SIZE, honoured: true, told: true }].entries()) {
          const start = honoured ? at : 0;
          const end = Math.min(SIZE, at + more);
          const known = told || i === 0 ? {} : { sizeBytes: null };
          script.push({
            ...from(start, end),
            start,
            chunkBytes,
            ...known,
            ...(end < SIZE ? { after: RESET } : {}),
          });
          at = end;
        }
        const { run, received } = setUp(script);
        await run();
        assert.ok(received().equals(BYTES));
      }),
      { numRuns: 40 },
    );
  });

  test('that did not hear the size at first goes on when a later answer tells it', async () => {
    const { run, received } = setUp([{ ...cut(0, 70_000), sizeBytes: null }, from(70_000)]);
    await run();
    assert.deepEqual(received(), BYTES);
  });

  test('is given up after breaks without progress, with pauses that grow', async () => {
    const { run, scripted, clock, received } = setUp([cut(0, 500), ...Array(5).fill(cut(500, 500))]);
    await assert.rejects(run(), {
      code: 'UPSTREAM_UNAVAILABLE',
      message: /broke 6 times, last at byte 500 of 200000: connection reset/,
    });
    assert.deepEqual(scripted.asked, [0, 500, 500, 500, 500, 500]);
    assert.deepEqual(clock.sleptMs, [200, 400, 800, 1600, 3200]);
    assert.equal(received().length, 500);
  });

  test('is not given up while each try gets further', async () => {
    const step = 65_536;
    const sizes = { sizeBytes: 20 * step };
    const piece = (i: number): FakeAnswer => ({ bytes: Buffer.alloc(step), start: i * step, ...sizes });
    const script = Array.from({ length: 20 }, (_, i) => (i < 19 ? { ...piece(i), after: RESET } : piece(i)));
    const { run, received, clock } = setUp(script);
    await run();
    assert.equal(received().length, 20 * step);
    assert.deepEqual(new Set(clock.sleptMs), new Set([200]));
  });

  const wrong: [what: string, script: FakeAnswer[], message: RegExp][] = [
    [
      'another size the second time',
      [cut(0, 70_000), { ...from(70_000), sizeBytes: SIZE + 1 }],
      /had 200000 bytes at first and now has 200001/,
    ],
    ['more than was announced', [{ ...from(0), sizeBytes: SIZE - 1 }], /more than the 199999 bytes/],
    [
      'more than was announced, after a break',
      [cut(0, 70_000), { bytes: Buffer.alloc(SIZE), sizeBytes: SIZE }],
      /more than the 200000 bytes/,
    ],
  ];
  for (const [what, script, message] of wrong) {
    test(`of ${what} is rejected, and its body released`, async () => {
      const { run, scripted, received } = setUp(script);
      await assert.rejects(run(), { code: 'UPSTREAM_INVALID', message });
      assert.ok(received().length <= SIZE);
      assert.equal(scripted.asked.length, script.length);
      assert.equal(scripted.openBodies, 0);
    });
  }

  for (const code of ['BLOB_UNKNOWN', 'DENIED', 'UPSTREAM_UNAVAILABLE', 'TOOMANYREQUESTS'] as const) {
    test(`passes on what the first request throws (${code}), and starts nothing`, async () => {
      const error = new RegistryError(code, 'no');
      const { run, starts, scripted, clock } = setUp([{ error }]);
      await assert.rejects(run(), error);
      assert.deepEqual(starts, []);
      assert.equal(scripted.asked.length, 1);
      assert.deepEqual(clock.sleptMs, []);
    });
  }

  test('passes on at once what a later request throws, unless the upstream is unavailable', async () => {
    const error = new RegistryError('DENIED', 'no longer');
    const { run, scripted } = setUp([cut(0, 70_000), { error }]);
    await assert.rejects(run(), error);
    assert.equal(scripted.asked.length, 2);
  });

  test('is gone on with when the upstream limits our rate meanwhile, after the time that it names', async () => {
    const limited = new RegistryError('TOOMANYREQUESTS', 'slowly', { retryAfterMs: 7_000 });
    const { run, received, scripted, clock } = setUp([cut(0, 70_000), { error: limited }, from(70_000)]);
    await run();
    assert.deepEqual(received(), BYTES);
    assert.deepEqual(clock.sleptMs, [200, 7_000]);
    assert.equal(scripted.placesTaken, 0);
  });

  test('waits for the receiver before it goes on after a break, so that no bytes overtake others', async () => {
    const gate = Promise.withResolvers<void>();
    const stored: Buffer[] = [];
    // As connections do, the body breaks while its chunk is still being taken.
    const bodies = [BYTES.subarray(0, 1000), BYTES.subarray(1000)].map(
      (bytes, i): BlobBody => ({
        ...{ sizeBytes: SIZE, contentType: undefined, start: i * 1000, close: () => {} },
        read: async onChunk => {
          const taking = onChunk(Buffer.from(bytes));
          if (i === 0) return RESET;
          await taking;
        },
      }),
    );
    const openBlob = async () => bodies.shift() ?? assert.fail();
    const { upstream } = new FakeUpstream([], { openBlob });
    const { signal } = new AbortController();
    const repository = { upstream: 'ghcr.io', name: 'owner/app' };
    let chunks = 0;
    const done = download(
      { upstream, clock: new TestClock(), signal, client: '' },
      repository,
      content.digest,
      () => () => async chunk => {
        if (++chunks === 1) await gate.promise;
        stored.push(chunk);
      },
    );
    await turns(20);
    assert.equal(chunks, 1);
    gate.resolve();
    await done;
    assert.deepEqual(Buffer.concat(stored), BYTES);
  });
});

describe('the receiver of a download', () => {
  const full = new Error('full');

  for (const [how, receiver] of Object.entries<Partial<Receiver>>({
    'throws at the start': {
      start: () => {
        throw full;
      },
    },
    'rejects at the start': { start: () => Promise.reject(full) },
    'throws at a byte': {
      receive: () => {
        throw full;
      },
    },
    'rejects at a byte': { receive: () => Promise.reject(full) },
  })) {
    test(`that ${how} ends it with just that, and the body is released`, async () => {
      const { run, scripted, breaks } = setUp([from(0)], receiver);
      await assert.rejects(run(), full);
      assert.equal(scripted.asked.length, 1);
      assert.deepEqual(breaks, []);
      assert.equal(scripted.openBodies, 0, 'a connection is left open');
    });
  }

  test('is not mistaken for the upstream when it throws what an upstream would', async () => {
    const { run, scripted } = setUp([from(0)], { receive: () => Promise.reject(UNAVAILABLE) });
    await assert.rejects(run(), UNAVAILABLE);
    assert.equal(scripted.asked.length, 1);
  });

  test('is waited for before it is handed more', async () => {
    let waiting = false;
    const { run, received } = setUp([from(0)], {
      receive: async () => {
        assert.equal(waiting, false);
        waiting = true;
        await new Promise(resolve => setImmediate(resolve));
        waiting = false;
      },
    });
    await run();
    assert.deepEqual(received(), BYTES);
  });
});

describe('a download that is aborted', () => {
  const reason = new Error('the server is shutting down');

  test('before it starts asks for nothing', async () => {
    const { run, stopping, scripted } = setUp([]);
    stopping.abort(reason);
    await assert.rejects(run(), reason);
    assert.deepEqual(scripted.asked, []);
  });

  test('while a body stalls ends at once, without another try', async () => {
    const { run, stopping, scripted, breaks } = setUp([{ ...from(0, 70_000), after: 'stall' }], {
      receive: () => {
        if (scripted.sentBytes === 70_000) setImmediate(() => stopping.abort(reason));
        return undefined;
      },
    });
    await assert.rejects(run(), reason);
    assert.equal(scripted.asked.length, 1);
    assert.deepEqual(breaks, []);
    assert.equal(scripted.openBodies, 0);
  });

  test('during a pause does not try again', async () => {
    const { run, stopping, scripted, clock } = setUp([cut(0, 70_000)]);
    const { sleep } = clock;
    clock.sleep = (ms, signal) => {
      stopping.abort(reason);
      return sleep.call(clock, ms, signal);
    };
    await assert.rejects(run(), reason);
    assert.equal(scripted.asked.length, 1);
  });
});
