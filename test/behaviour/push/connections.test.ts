// Connections that break on either side, single failures among successes, and tokens that expire: nothing is acknowledged
// that the upstream does not have, nothing wrong is kept, and what can go on goes on.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../support/clock.ts';
import { answers, type FaultAction } from '../../support/ghcr/ghcr.ts';
import { bytesOf, makeImage, randomContent } from '../../support/images.ts';
import {
  AHEAD_BYTES,
  assertCreated,
  assertError,
  assertNowhere,
  assertPushed,
  contentOnDisk,
  disconnectsOf,
  eventually,
  filesIn,
  hangUp,
  image,
  inPieces,
  LIMIT,
  large,
  MIB,
  NAME,
  PATIENT,
  packageOf,
  small,
  startPushing,
  startWithParts,
  upstreamBlob,
  upstreamTag,
} from '../../support/push-client.ts';

/** Time passes with every sleep. */
class PassingClock extends TestClock {
  override sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.advance(Math.ceil(ms));
    return super.sleep(ms, signal);
  }
}

describe('clients that disconnect', () => {
  for (const share of [0.1, 0.5, 0.99]) {
    test(`at ${share * 100} % of a push go on from the offset of the upload`, LIMIT, async t => {
      const both = await startPushing(t);
      const { cache, client } = both;
      for (const blob of [small, large]) {
        const at = Math.floor(blob.sizeBytes * share);
        const location = await client.open();
        const arrived = () => eventually(async () => (await client.offset(location)) === at);
        const broken = await client.patch(
          location,
          inPieces(bytesOf(blob), [
            [at, arrived],
            [at, hangUp],
          ]),
        );
        assert.equal(broken.status, undefined);
        assert.equal(await client.offset(location), at);
        assert.equal((await client.patch(location, bytesOf(blob, at), at)).status, 202);
        assertCreated(await client.finish(location, blob.digest));
        await assertPushed(both, blob);
      }
      assert.equal((await contentOnDisk(cache)).length, 2);
    });
  }

  test('in the middle of a PUT or a POST leave nothing that could pass for the whole', LIMIT, async t => {
    const both = await startPushing(t);
    const { cache, client } = both;
    for (const [i, blob] of [small, large].entries()) {
      const half = blob.sizeBytes >> 1;
      const location = await client.open();
      const begun = () => eventually(async () => (await client.offset(location)) === half);
      const body = (wait: () => Promise<void>) =>
        inPieces(bytesOf(blob), [
          [half, wait],
          [half, hangUp],
        ]);
      assert.equal((await client.finish(location, blob.digest, body(begun))).status, undefined);
      const opened = () => eventually(() => filesIn(cache, 'ingest').length === 2);
      assert.equal((await client.start({ digest: blob.digest }, body(opened))).status, undefined);
      await eventually(() => disconnectsOf(cache) === 2 * (i + 1));
      assert((await client.offset(location)) <= half);
      await eventually(async () => (await client.cancel(location)).status === 204);
      await assertNowhere(both, blob);
    }
  });

  test('in the middle of a manifest leave none', LIMIT, async t => {
    const { ghcr, client } = await startWithParts(t);
    const { bytes, mediaType } = image.manifest;
    const headers = { 'content-type': mediaType };
    const got = await client.ask('PUT', 'manifests/v1', {
      headers,
      body: inPieces(bytes, [[bytes.length, hangUp]]),
    });
    assert.equal(got.status, undefined);
    assert.equal((await client.get('manifests/v1')).status, 404);
    assert.equal(packageOf(ghcr)?.manifests.size, 0);
  });

  test('while the upstream finishes their upload do not disturb it', LIMIT, async t => {
    const both = await startPushing(t, { timeouts: PATIENT });
    const { ghcr, cache, client } = both;
    const location = await client.open();
    const gate = Promise.withResolvers<void>();
    const fault = ghcr.fault({ endpoint: 'upload', method: 'PUT', gate: gate.promise });
    const closing = client.finish(location, small.digest, inPieces(bytesOf(small), [[small.sizeBytes, () => {}]]));
    await fault.reached();
    // As by a client that was killed and started again.
    const leaving = client.finish(location, small.digest, inPieces(bytesOf(small), [[1000, hangUp]]));
    assert.notEqual((await leaving).status, 201);
    gate.resolve();
    assertCreated(await closing);
    await cache.settled();
    await assertPushed(both, small);
  });

  test('keep no other client from pushing for longer than a minute, however many they are', LIMIT, async t => {
    const both = await startPushing(t, { timeouts: PATIENT });
    const { ghcr, cache, clock, client } = both;
    const all = ghcr.until({ endpoint: 'upload', method: 'PATCH' }, 32);
    const bytes = (i: number) => bytesOf(randomContent(MIB + 1, `left ${i}`));
    await Promise.all(
      Array.from({ length: 32 }, async (_, i) => {
        const location = await client.open();
        await client.patch(
          location,
          inPieces(bytes(i), [
            [MIB, () => all],
            [MIB, hangUp],
          ]),
        );
      }),
    );
    await eventually(() => disconnectsOf(cache) === 32);
    clock.advance(61_000);
    assertCreated(await client.stream(small));
    await assertPushed(both, small);
  });

  test('that are still sending get the error response', LIMIT, async t => {
    const both = await startPushing(t, { config: { push: 'off' } });
    for (let i = 0; i < 5; i++) {
      for (const body of [Buffer.alloc(4 * MIB), inPieces(Buffer.alloc(4 * MIB))]) {
        assertError(await both.client.ask('PUT', 'manifests/v1', { body }), 403, 'DENIED');
      }
    }
  });
});

describe('an upstream that breaks the connection', () => {
  for (const share of [0.1, 0.5, 0.99]) {
    for (const brokenUpload of ['kept', 'lost'] as const) {
      test(
        `at ${share * 100} % of a push (upload ${brokenUpload}) is sent it again, unnoticed by the client`,
        LIMIT,
        async t => {
          const both = await startPushing(t, { fake: { switches: { brokenUpload } } });
          const { ghcr, client } = both;
          for (const [method, blob] of [
            ['PUT', small],
            ['PATCH', large],
          ] as const) {
            for (const reset of [undefined, true] as const) {
              const at = Math.floor(blob.sizeBytes * share);
              const cut = { endpoint: 'upload', method, cutRequestAfter: at, times: 1 } as const;
              const fault = ghcr.fault({ ...cut, ...(reset && { reset }) });
              assertCreated(await (method === 'PUT' ? client.put(blob) : client.streamAhead(ghcr, blob)));
              assert.equal(fault.hits, 1);
              await assertPushed(both, blob);
              ghcr.deleteBlob(NAME, blob.digest);
              fault.remove();
            }
          }
        },
      );
    }
  }

  test('every time is given up, and the client can finish its upload later', LIMIT, async t => {
    const both = await startPushing(t);
    const { ghcr, clock, client } = both;
    for (const blob of [small, large]) {
      const faults = ['PATCH', 'PUT'].map(method => ghcr.fault({ endpoint: 'upload', method, cutRequestAfter: 1000 }));
      const location = await client.open();
      assert.equal((await client.patch(location, bytesOf(blob))).status, 202);
      const failed = await client.finish(location, blob.digest);
      assertError(failed, 502, 'UPSTREAM_UNAVAILABLE', /cannot be reached|failing/);
      const tries = faults.reduce((sum, { hits }) => sum + hits, 0);
      assert(tries >= 2 && tries <= 8, `${tries}`);
      assert.equal(upstreamBlob(ghcr, blob), undefined);
      ghcr.clearFaults();
      clock.advance(60_000);
      assert.equal(await client.offset(location), blob.sizeBytes);
      assertCreated(await client.finish(location, blob.digest));
      await assertPushed(both, blob);
    }
  });
});

describe('a single failure is not noticed', () => {
  const ONCE: [string, FaultAction][] = [
    ['500', { answer: answers.serverError(500) }],
    ['503 in XML after the body', { answer: answers.serverBusy, at: 'body' }],
    ['a reset', { refuse: 'reset' }],
    ['a rate limit of microseconds', { answer: answers.tooManyRequests('880.092µs', 2000) }],
    ['a response that is lost when all is done', { refuse: true, at: 'done' }],
  ];
  const STEPS = [
    ['token', 'GET'],
    ['upload-start', 'POST'],
    ['upload', 'PATCH'],
    ['upload', 'PUT'],
    ['blob', 'HEAD'],
    ['manifest', 'PUT'],
  ] as const;
  for (const [how, action] of ONCE) {
    test(`${how}, at any step of a push`, LIMIT, async t => {
      // On a clock that stands still a rate limit would never end.
      const both = await startPushing(t, { clock: new PassingClock() });
      const { ghcr, clock, client } = both;
      for (const [endpoint, method] of STEPS) {
        const step = `${endpoint} ${method}`;
        const ahead = randomContent(large.sizeBytes, step);
        const pushed = makeImage({ layers: [1000], seed: step });
        // So that tokens and an upload are requested again.
        clock.advance(3600_000);
        const fault = ghcr.fault({ endpoint, method, times: 1, ...action });
        assert.equal((await client.streamAhead(ghcr, ahead)).status, 201, step);
        for (const blob of [pushed.config, ...pushed.layers]) {
          assert.equal((await client.put(blob)).status, 201, step);
        }
        for (const reference of ['v1', pushed.manifest.digest]) {
          assert.equal((await client.manifest(pushed.manifest, reference)).status, 201, step);
        }
        assert.equal(fault.hits, 1, step);
        for (const blob of [ahead, pushed.config]) await assertPushed(both, blob);
        assert.equal(upstreamTag(ghcr, 'v1'), pushed.manifest.digest);
        assert.deepEqual((await client.get('manifests/v1')).body, pushed.manifest.bytes);
      }
    });
  }

  test('after the upstream has done its work: nothing is sent again', LIMIT, async t => {
    const both = await startPushing(t);
    const { ghcr, client } = both;
    for (const blob of [small, large]) {
      ghcr.resetCounters();
      ghcr.fault({ endpoint: 'upload', method: 'PUT', refuse: true, at: 'done', times: 1 });
      assertCreated(await (blob === small ? client.stream(blob) : client.streamAhead(ghcr, blob)));
      assert.equal(ghcr.received({ endpoint: 'upload' }), blob.sizeBytes);
      await assertPushed(both, blob);
    }
  });
});

describe('tokens', () => {
  for (const expiredToken of ['challenge', 'denied'] as const) {
    test(`that expire in the middle are renewed (${expiredToken})`, LIMIT, async t => {
      const both = await startPushing(t, { timeouts: PATIENT, fake: { switches: { expiredToken } } });
      const { ghcr, client } = both;
      // Before the first byte is sent, between bytes, before the end, and before the manifest.
      const first = await client.open();
      ghcr.expireTokens();
      assert.equal((await client.patch(first, bytesOf(large, 0, AHEAD_BYTES))).status, 202);
      await ghcr.until({
        endpoint: 'upload',
        method: 'PATCH',
        status: expiredToken === 'denied' ? 403 : 401,
      });
      assert.equal((await client.patch(first, bytesOf(large, AHEAD_BYTES))).status, 202);
      assertCreated(await client.finish(first, large.digest));

      const second = randomContent(large.sizeBytes, 'second');
      const stall = ghcr.fault({ endpoint: 'upload', method: 'PATCH', stallRequestAfter: 500_000, times: 1 });
      const location = await client.open();
      assert.equal((await client.patch(location, bytesOf(second))).status, 202);
      await stall.reached();
      ghcr.expireTokens();
      stall.remove();
      assertCreated(await client.finish(location, second.digest));

      ghcr.expireTokens();
      assertCreated(await client.put(small));
      await client.parts(image);
      ghcr.expireTokens();
      assertCreated(await client.manifest(image.manifest, 'v1'));
      for (const blob of [large, second, small]) await assertPushed(both, blob);
      assert.equal(upstreamTag(ghcr, 'v1'), image.manifest.digest);
      assert(!both.cache.log().includes('was denied'));
    });
  }

  test('that expire by time between two chunks are renewed', async t => {
    const both = await startPushing(t);
    const { clock, client } = both;
    const location = await client.open();
    for (let at = 0; at < large.sizeBytes; at += MIB) {
      const end = Math.min(large.sizeBytes, at + MIB);
      assert.equal((await client.patch(location, bytesOf(large, at, end), at)).status, 202);
      clock.advance(59_000);
    }
    assertCreated(await client.finish(location, large.digest));
    await assertPushed(both, large);
  });
});
