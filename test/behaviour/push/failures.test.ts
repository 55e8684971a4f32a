// The failure table of pushing: connections that break on either side, an upstream that fails, refuses or is away,
// no room, a process that leaves. Nothing is ever acknowledged that the upstream has not, nothing wrong is kept,
// and what may pass is gone on with.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import type { TestCache } from '../../support/cache.ts';
import { TestClock } from '../../support/clock.ts';
import { errorOf, type Got } from '../../support/ghcr/ask.ts';
import { errorAnswer } from '../../support/ghcr/faults.ts';
import { type Answer, answers, type FaultAction, type Ghcr, type Switches } from '../../support/ghcr/ghcr.ts';
import { bytesOf, type Content, makeImage, makeIndex, randomContent } from '../../support/images.ts';
import {
  AHEAD_BYTES,
  assertCreated,
  assertNowhere,
  assertPushed,
  assertRefused,
  CI,
  contentOnDisk,
  filesIn,
  hangUp,
  inPieces,
  MIB,
  NAME,
  PushClient,
  type Pushing,
  type PushOptions,
  packageOf,
  sentenceOf,
  startPushing,
  upstreamBlob,
  upstreamTag,
  WRITER,
} from '../../support/push-client.ts';

/** For tests in which somebody waits for somebody: what would wait for ever fails. */
const LIMIT = { timeout: 20_000 };
const PATIENT = { connectMs: 2_000, headersMs: 15_000, stallMs: 15_000, uploadMs: 15_000 };
const HASTY = { connectMs: 2_000, headersMs: 400, stallMs: 400, uploadMs: 400 };
const NO_ROOM = { cache: { maxSize: '1KiB', minFree: '0' } };

const image = makeImage({ layers: [1000] });
/** Goes up in one PUT when it is complete. */
const small = randomContent(10_000, 'small');
/** Goes up while it comes. */
const large = randomContent(AHEAD_BYTES + 200_000, 'large');

/** Until something is so that tells nobody when it comes about. */
async function until(condition: () => unknown): Promise<void> {
  for (const beganMs = performance.now(); !(await condition()); ) {
    assert(performance.now() - beganMs < 10_000, `in vain: ${condition}`);
    await new Promise(resolve => setImmediate(resolve));
  }
}

/** How many clients have broken off, as far as the cache has noticed. */
function leftOf(cache: TestCache): number {
  return cache.log().match(/client left/g)?.length ?? 0;
}

async function startWithParts(t: TestContext, options: PushOptions = {}): Promise<Pushing> {
  const both = await startPushing(t, options);
  await both.client.parts(image);
  both.ghcr.resetCounters();
  return both;
}

/** Time passes while somebody sleeps. */
class PassingClock extends TestClock {
  override sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.advance(Math.ceil(ms));
    return super.sleep(ms, signal);
  }
}

describe('clients that break off', () => {
  for (const share of [0.1, 0.5, 0.99]) {
    test(`at ${share * 100} % of a push go on from where the upload stands`, LIMIT, async t => {
      const both = await startPushing(t);
      const { cache, client } = both;
      for (const blob of [small, large]) {
        const at = Math.floor(blob.sizeBytes * share);
        const location = await client.open();
        const arrived = () => until(async () => (await client.offset(location)) === at);
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

  test('in the middle of a PUT or a POST leave nothing that could be taken for the whole', LIMIT, async t => {
    const both = await startPushing(t);
    const { cache, client } = both;
    for (const [i, blob] of [small, large].entries()) {
      const half = blob.sizeBytes >> 1;
      const location = await client.open();
      const begun = () => until(async () => (await client.offset(location)) === half);
      const body = (wait: () => Promise<void>) =>
        inPieces(bytesOf(blob), [
          [half, wait],
          [half, hangUp],
        ]);
      assert.equal((await client.finish(location, blob.digest, body(begun))).status, undefined);
      const opened = () => until(() => filesIn(cache, 'ingest').length === 2);
      assert.equal((await client.start({ digest: blob.digest }, body(opened))).status, undefined);
      await until(() => leftOf(cache) === 2 * (i + 1));
      assert((await client.offset(location)) <= half);
      await until(async () => (await client.cancel(location)).status === 204);
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

  test('while the upstream thinks about the end of their upload: it is kept all the same', LIMIT, async t => {
    const both = await startPushing(t, { timeouts: PATIENT });
    const { ghcr, cache, client } = both;
    const location = await client.open();
    const gate = Promise.withResolvers<void>();
    const fault = ghcr.fault({ endpoint: 'upload', method: 'PUT', gate: gate.promise });
    const closing = client.finish(
      location,
      small.digest,
      inPieces(bytesOf(small), [[small.sizeBytes, () => {}]]),
    );
    await fault.reached();
    // Its connection is cut from outside, as by a client that was killed.
    const leaving = client.finish(location, small.digest, inPieces(bytesOf(small), [[1000, hangUp]]));
    assert.notEqual((await leaving).status, 201);
    gate.resolve();
    assertCreated(await closing);
    await cache.settled();
    await assertPushed(both, small);
  });

  test('keep nobody from pushing for longer than a minute, however many they are', LIMIT, async t => {
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
    await until(() => leftOf(cache) === 32);
    clock.advance(61_000);
    assertCreated(await client.stream(small));
    await assertPushed(both, small);
  });

  test('hear of a refusal although they are still sending', LIMIT, async t => {
    const both = await startPushing(t, { config: { push: 'off' } });
    for (let i = 0; i < 5; i++) {
      for (const body of [Buffer.alloc(4 * MIB), inPieces(Buffer.alloc(4 * MIB))]) {
        assertRefused(await both.client.ask('PUT', 'manifests/v1', { body }), 403, 'DENIED');
      }
    }
  });
});

describe('an upstream that breaks off', () => {
  for (const share of [0.1, 0.5, 0.99]) {
    for (const brokenUpload of ['kept', 'lost'] as const) {
      test(
        `at ${share * 100} % of a push (${brokenUpload}) is sent it again, unseen by the client`,
        LIMIT,
        async t => {
          const both = await startPushing(t, { stand: { switches: { brokenUpload } } });
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

  test('once and again is given up, and the client may close its upload later', LIMIT, async t => {
    const both = await startPushing(t);
    const { ghcr, clock, client } = both;
    for (const blob of [small, large]) {
      const faults = ['PATCH', 'PUT'].map(method =>
        ghcr.fault({ endpoint: 'upload', method, cutRequestAfter: 1000 }),
      );
      const location = await client.open();
      assert.equal((await client.patch(location, bytesOf(blob))).status, 202);
      const failed = await client.finish(location, blob.digest);
      assertRefused(failed, 502, 'UPSTREAM_UNAVAILABLE', /cannot be reached|failing/);
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

describe('one failure among successes is unseen', () => {
  const ONCE: [string, FaultAction][] = [
    ['500', { answer: answers.serverError(500) }],
    ['503 in XML after the body', { answer: answers.serverBusy, at: 'body' }],
    ['a reset', { refuse: 'reset' }],
    ['a rate limit of microseconds', { answer: answers.tooManyRequests('880.092µs', 2000) }],
    ['an answer that is lost when all is done', { refuse: true, at: 'done' }],
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
      // With a clock that stood still a rate limit would never end.
      const both = await startPushing(t, { clock: new PassingClock() });
      const { ghcr, clock, client } = both;
      for (const [endpoint, method] of STEPS) {
        const step = `${endpoint} ${method}`;
        const ahead = randomContent(large.sizeBytes, step);
        const pushed = makeImage({ layers: [1000], seed: step });
        // So that tokens and an upload are asked for again.
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

  test('what the upstream has done already is not sent again', LIMIT, async t => {
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
    test(`that expire in the middle are renewed, when that is told by ${expiredToken}`, LIMIT, async t => {
      const both = await startPushing(t, { timeouts: PATIENT, stand: { switches: { expiredToken } } });
      const { ghcr, client } = both;
      // Before the first byte goes out, while they are going, before the end, and before the manifest.
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

  test('that expire by the clock between two chunks are renewed', async t => {
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

describe('an upstream that is away', () => {
  test('before the push: refused at the first question, and nothing stays open', async t => {
    const { ghcr, cache, client } = await startPushing(t);
    await ghcr.stop();
    const got = await client.start();
    assertRefused(got, 502, 'UPSTREAM_UNAVAILABLE', /cannot be reached|failing/);
    assert.deepEqual(filesIn(cache, 'ingest'), []);
    assertRefused(await client.start({ digest: small.digest }, bytesOf(small)), 502, 'UPSTREAM_UNAVAILABLE');
    assertRefused(
      await client.start({ mount: small.digest, from: 'owner/other' }),
      502,
      'UPSTREAM_UNAVAILABLE',
    );
    assertRefused(await client.manifest(image.manifest, 'v1'), 502, 'UPSTREAM_UNAVAILABLE');
    assertRefused(await client.delete('manifests/v1'), 502, 'UPSTREAM_UNAVAILABLE');
    assert.deepEqual(await contentOnDisk(cache), []);
  });

  test('because the config says so: refused, and never contacted', async t => {
    const { ghcr, client } = await startPushing(t, { upstream: { offline: true } });
    for (const got of [
      await client.start(),
      await client.manifest(image.manifest, 'v1'),
      await client.delete('manifests/v1'),
    ]) {
      assertRefused(got, 502, 'UPSTREAM_UNAVAILABLE', /set offline in the config/);
    }
    assert.equal(ghcr.requests.length, 0);
  });

  for (const when of ['while the bytes come', 'at the end'] as const) {
    test(
      `${when}: the client may close its upload when it is back, and need not send it again`,
      LIMIT,
      async t => {
        for (const blob of [small, large]) {
          const both = await startPushing(t);
          const { ghcr, clock, client } = both;
          const location = await client.open();
          const half = blob.sizeBytes >> 1;
          assert.equal((await client.patch(location, bytesOf(blob, 0, half), 0)).status, 202);
          if (when === 'while the bytes come') await ghcr.stop();
          assert.equal((await client.patch(location, bytesOf(blob, half), half)).status, 202);
          if (when === 'at the end') await ghcr.stop();
          for (let i = 0; i < 3; i++) {
            const failed = await client.finish(location, blob.digest);
            assertRefused(failed, 502, 'UPSTREAM_UNAVAILABLE', /cannot be reached|failing/);
          }
          assert.equal((await client.head(`blobs/${blob.digest}`)).status, 502);
          await ghcr.restart();
          clock.advance(60_000);
          assert.equal((await client.head(`blobs/${blob.digest}`)).status, 404);
          assertCreated(await client.finish(location, blob.digest));
          await assertPushed(both, blob);
        }
      },
    );
  }

  test('without answering: 504, and the upload can be closed later', LIMIT, async t => {
    // The small one goes up in one PUT, the large one in a PATCH, and in a PUT should it be begun anew.
    for (const blob of [small, large]) {
      const both = await startPushing(t, { timeouts: HASTY });
      const { ghcr, clock, client } = both;
      const location = await client.open();
      const hang = ghcr.fault({ endpoint: 'upload', hang: true, at: 'body' });
      assert.equal((await client.patch(location, bytesOf(blob))).status, 202);
      const failed = await client.finish(location, blob.digest);
      assert([502, 504].includes(failed.status ?? 0), sentenceOf(failed));
      assert.match(errorOf(failed).message, /in time|failing/);
      hang.remove();
      clock.advance(60_000);
      assertCreated(await client.finish(location, blob.digest));
      await assertPushed(both, blob);
    }
  });

  test('for a manifest: 502, the tag is what the upstream says, not what was meant', async t => {
    const now = makeImage({ layers: [1000], seed: 'now' });
    for (const at of ['headers', 'done'] as const) {
      const { ghcr, clock, client } = await startWithParts(t);
      assertCreated(await client.manifest(image.manifest, 'v1'));
      await client.parts(now);
      assert.deepEqual(await client.tags(), ['v1']);
      const fault = ghcr.fault({ endpoint: 'manifest', method: 'PUT', answer: answers.serverError(), at });
      for (const tag of ['v1', 'v2']) {
        assertRefused(await client.manifest(now.manifest, tag), 502, 'UPSTREAM_UNAVAILABLE', /500/);
        // The breaker lets the next one through.
        clock.advance(2_000);
      }
      fault.remove();
      const isDone = at === 'done';
      // Though what was known of the tag is fresh.
      const got = await client.get('manifests/v1');
      assert.equal(got.headers['docker-content-digest'], upstreamTag(ghcr, 'v1'));
      assert.deepEqual(got.body, (isDone ? now : image).manifest.bytes);
      assert.deepEqual(await client.tags(), isDone ? ['v1', 'v2'] : ['v1']);
    }
  });
});

describe('an upstream that refuses', () => {
  const RIGHTS = /Credential "ci" was denied.*write:packages/;
  type Push = (blob: Content, both: Pushing) => Promise<Got>;
  const steps: [
    name: string,
    method: string,
    endpoint: 'upload-start' | 'upload',
    sizeBytes: number,
    push: Push,
  ][] = [
    ['POST', 'POST', 'upload-start', 1000, (blob, { client }) => client.put(blob)],
    ['PUT', 'PUT', 'upload', 1000, (blob, { client }) => client.stream(blob)],
    ['PATCH', 'PATCH', 'upload', large.sizeBytes, (blob, { client, ghcr }) => client.streamAhead(ghcr, blob)],
    [
      'closing PUT',
      'PUT',
      'upload',
      large.sizeBytes,
      (blob, { client, ghcr }) => client.streamAhead(ghcr, blob),
    ],
  ];
  const refusals: [string, Answer, number, string, RegExp][] = [
    ['401', errorAnswer(401, 'UNAUTHORIZED', 'authentication required'), 403, 'DENIED', RIGHTS],
    ['403', errorAnswer(403, 'DENIED', 'permission_denied: write_package'), 403, 'DENIED', RIGHTS],
    [
      '413',
      errorAnswer(413, 'SIZE_INVALID', 'too much'),
      413,
      'TOO_LARGE',
      /larger than ghcr\.io takes.*too much/,
    ],
    ['429', answers.tooManyRequests('1m30s', 2000), 429, 'TOOMANYREQUESTS', /limits our requests/],
    ['429 with Retry-After', answers.retryAfter('90'), 429, 'TOOMANYREQUESTS', /limits our requests/],
    ['the secondary rate limit', answers.secondaryRateLimit, 429, 'TOOMANYREQUESTS', /limits our requests/],
    ['500 for good', answers.serverError(500), 502, 'UPSTREAM_UNAVAILABLE', /500|failing/],
    ['an HTML page', { ...answers.htmlPage, status: 418 }, 502, 'UPSTREAM_INVALID', /418.*text\/html/],
  ];
  for (const [name, answer, status, code, says] of refusals) {
    test(
      `by ${name}, at any step: the client gets that, with a sentence, and nothing is kept`,
      LIMIT,
      async t => {
        const both = await startPushing(t);
        const { ghcr, cache, clock, client } = both;
        for (const [step, method, endpoint, sizeBytes, push] of steps) {
          const blob = randomContent(sizeBytes, step);
          // What an upload that was opened before has told is forgotten.
          clock.advance(3600_001);
          // What broke off in a PATCH is tried in a PUT.
          const fault = ghcr.fault({ endpoint, answer, ...(step !== 'PATCH' && { method }) });
          const got = await push(blob, both);
          assert.equal(got.status, status, `${step} ${sentenceOf(got)}`);
          assertRefused(got, status, code, says, /ghcr\.io|127\.0\.0\.1/);
          if (status === 429) assert.equal(got.headers['retry-after'], name.startsWith('the') ? '60' : '90');
          assert(fault.hits > 0);
          assert.equal(upstreamBlob(ghcr, blob), undefined);
          ghcr.clearFaults();
          // Uploads that might have been closed later are given up, too.
          clock.advance(3600_001);
          assert.equal((await client.cancel(await client.open())).status, 204);
          assert.equal((await client.head(`blobs/${blob.digest}`)).status, 404);
          assert(!(await contentOnDisk(cache)).includes(blob.digest));
          assertCreated(await push(blob, both));
          await assertPushed(both, blob);
        }
      },
    );

    test(`by ${name}, of a manifest: the tag stays where it was`, async t => {
      const { ghcr, clock, client } = await startWithParts(t);
      assertCreated(await client.manifest(image.manifest, 'v1'));
      const index = makeIndex([image]);
      ghcr.fault({ endpoint: 'manifest', method: 'PUT', answer });
      for (const reference of ['v1', index.manifest.digest]) {
        assertRefused(await client.manifest(index.manifest, reference), status, code, says);
      }
      ghcr.clearFaults();
      clock.advance(100_000);
      assert.deepEqual((await client.get('manifests/v1')).body, image.manifest.bytes);
      assert.equal((await client.get(`manifests/${index.manifest.digest}`)).status, 404);
      assertCreated(await client.manifest(index.manifest, 'v1'));
    });
  }

  test('for want of rights: at the first request, by what credential, in each of its ways', async t => {
    const stranger = { ...WRITER, packages: ['elsewhere/*'] };
    const reader = { ...WRITER, scopes: ['read:packages'] };
    for (const pushDenied of ['token-403', 'later-403', 'later-unauthenticated'] as const) {
      for (const user of [stranger, reader]) {
        const { ghcr, cache, client } = await startPushing(t, { user, stand: { switches: { pushDenied } } });
        ghcr.push(NAME, image, 'v1');
        for (const got of [
          await client.start(),
          await client.start({ digest: small.digest }, bytesOf(small)),
          await client.start({ mount: small.digest, from: 'owner/other' }),
          await client.manifest(image.manifest, 'v2'),
        ]) {
          assertRefused(got, 403, 'DENIED', RIGHTS, /owner\/app/);
        }
        assert.deepEqual(filesIn(cache, 'ingest'), []);
        assert.equal(upstreamTag(ghcr, 'v2'), undefined);
        // To pull takes no more than it did.
        assert.deepEqual((await client.get('manifests/v1')).body, image.manifest.bytes);
      }
    }
  });

  test('who has no credential, or a wrong one', async t => {
    const without = await startPushing(t, { upstream: { credentials: [{ ...CI, owner: 'somebody' }] } });
    assertRefused(
      await without.client.start(),
      403,
      'DENIED',
      /no credential of the config is for owner "owner"/,
    );
    for (const auth of ['bearer', 'basic'] as const) {
      const wrong = await startPushing(t, {
        upstream: { credentials: [{ ...CI, token: 'wrong' }] },
        stand: { switches: { auth } },
      });
      const got = await wrong.client.start();
      assertRefused(got, 403, 'DENIED', RIGHTS);
    }
  });

  test(
    'by a rate limit: nothing is asked before the time is over, then the upload can be closed',
    LIMIT,
    async t => {
      for (const [method, blob] of [
        ['PUT', small],
        ['PUT', large],
        ['PATCH', large],
      ] as const) {
        const both = await startPushing(t);
        const { ghcr, clock, client } = both;
        const location = await client.open();
        const answer = answers.tooManyRequests('30.5s', 2000);
        ghcr.fault({ endpoint: 'upload', method, answer, times: 1 });
        const ahead = Math.min(blob.sizeBytes, AHEAD_BYTES);
        assert.equal((await client.patch(location, bytesOf(blob, 0, ahead))).status, 202);
        if (blob === large) {
          await ghcr.until({ endpoint: 'upload', method: 'PATCH' });
          assert.equal((await client.patch(location, bytesOf(blob, ahead))).status, 202);
        }
        const limited = await client.finish(location, blob.digest);
        assertRefused(limited, 429, 'TOOMANYREQUESTS');
        assert.equal(limited.headers['retry-after'], '31');
        ghcr.resetCounters();
        clock.advance(30_000);
        assertRefused(await client.finish(location, blob.digest), 429, 'TOOMANYREQUESTS');
        assertRefused(await client.manifest(image.manifest), 429, 'TOOMANYREQUESTS', /asked again in 1 s/);
        assert.equal(ghcr.requests.length, 0);
        clock.advance(1000);
        assertCreated(await client.finish(location, blob.digest));
        await assertPushed(both, blob);
      }
    },
  );

  test('what is too large, whether that was said or is found out', async t => {
    for (const [limit, blob] of [
      [small.sizeBytes - 1, small],
      [large.sizeBytes - 1, large],
      [MIB, large],
    ] as const) {
      const both = await startPushing(t, { stand: { switches: { blobLimitBytes: limit } } });
      for (const push of [
        () => both.client.put(blob),
        () => both.client.start({ digest: blob.digest }, bytesOf(blob)),
      ]) {
        assertRefused(await push(), 413, 'TOO_LARGE', /larger than ghcr\.io takes/);
      }
      await assertNowhere(both, blob);
    }
  });

  test('while the client is still sending: it need not send the rest', LIMIT, async t => {
    const { ghcr, cache, client } = await startPushing(t);
    const piece = Buffer.alloc(256 * 1024, 'x');
    for (const endless of ['PATCH', 'PUT', 'POST']) {
      ghcr.fault({
        endpoint: 'upload',
        answer: errorAnswer(403, 'DENIED', 'permission_denied: write_package'),
      });
      let sentBytes = 0;
      async function* body() {
        for (; sentBytes < 1024 * MIB; sentBytes += piece.length) yield piece;
      }
      const location = await client.open();
      const got = await (endless === 'PATCH'
        ? client.patch(location, body())
        : endless === 'PUT'
          ? client.finish(location, small.digest, body())
          : client.start({ digest: small.digest }, body()));
      assertRefused(got, 403, 'DENIED', RIGHTS);
      assert(sentBytes < 200 * MIB, `${sentBytes}`);
      if (endless !== 'POST') assertRefused(await client.get(location), 404, 'BLOB_UPLOAD_UNKNOWN');
      else assert.equal((await client.cancel(location)).status, 204);
      ghcr.clearFaults();
    }
    assert.deepEqual(await contentOnDisk(cache), []);
  });

  test('a digest of an algorithm that it does not know: at once, or nearly so', async t => {
    const both = await startPushing(t);
    for (const sizeBytes of [1000, 2 * MIB]) {
      const blob = randomContent(sizeBytes, 'sha512', 'sha512');
      const got = await both.client.put(blob);
      assert.equal(got.status, 400, sentenceOf(got));
      assert(['BLOB_UPLOAD_INVALID', 'DIGEST_INVALID', 'UNSUPPORTED'].includes(errorOf(got).code));
      assert(both.ghcr.received({ endpoint: 'upload' }) <= 3 * sizeBytes);
      await assertNowhere(both, blob);
      both.ghcr.resetCounters();
    }
  });
});

describe('without room', () => {
  for (const [where, sizeBytes, config] of [
    ['from the start', large.sizeBytes, NO_ROOM],
    ['from the start, for what is small', 10_000, NO_ROOM],
    ['in the middle', 3 * MIB, { cache: { maxSize: '2MiB', minFree: '0' } }],
    ['at the end', MIB + 10, { cache: { maxSize: '1MiB', minFree: '0' } }],
    ['on the disk', 2 * MIB, { cache: { minFree: '1000TiB' } }],
  ] as const) {
    test(`${where}: it is passed through, and not kept`, LIMIT, async t => {
      const both = await startPushing(t, { config });
      const { ghcr, cache, client } = both;
      const blob = (way: string) => randomContent(sizeBytes, `${where} ${way}`);
      const ways: Record<string, (blob: Content) => Promise<Got>> = {
        stream: blob => client.stream(blob),
        put: blob => client.put(blob),
        post: blob => client.start({ digest: blob.digest }, bytesOf(blob)),
        chunks: async blob => {
          const location = await client.open();
          const step = Math.ceil(sizeBytes / 3);
          for (let at = 0; at < sizeBytes; at += step) {
            const got = await client.patch(location, bytesOf(blob, at, Math.min(sizeBytes, at + step)), at);
            assert.equal(got.status, 202, sentenceOf(got));
          }
          return client.finish(location, blob.digest);
        },
      };
      for (const [way, push] of Object.entries(ways)) {
        // As docker asks before it pushes.
        assert.equal((await client.head(`blobs/${blob(way).digest}`)).status, 404);
        const got = await push(blob(way));
        assertCreated(got);
        assert.equal(got.headers['x-cache'], 'bypass', way);
        assert.equal(got.headers['docker-content-digest'], blob(way).digest);
        assert(upstreamBlob(ghcr, blob(way))?.equals(bytesOf(blob(way))), way);
        assert.equal((await client.head(`blobs/${blob(way).digest}`)).status, 200);
        const pulled = await client.get(`blobs/${blob(way).digest}`);
        assert(pulled.body.equals(bytesOf(blob(way))));
        assert.equal(pulled.headers['x-cache'], 'bypass');
      }
      assert.deepEqual(await contentOnDisk(cache), []);
      assert.match(cache.log(), /passed through without being kept/);
    });
  }

  test('a wrong digest is found just the same', LIMIT, async t => {
    const both = await startPushing(t, { config: NO_ROOM });
    const { ghcr, client } = both;
    for (const push of [
      async () => client.start({ digest: small.digest }, bytesOf(large)),
      async () => client.finish(await client.open(), small.digest, bytesOf(large)),
      async () => {
        const location = await client.open();
        await client.patch(location, bytesOf(large));
        return client.finish(location, small.digest);
      },
    ]) {
      assertRefused(await push(), 400, 'DIGEST_INVALID');
      for (const blob of [large, small]) await assertNowhere(both, blob);
    }
    await until(() => ghcr.count({ endpoint: 'upload', state: 'open' }) === 0);
  });

  test('an image is pushed all the same, and pulled', LIMIT, async t => {
    const { ghcr, cache, client } = await startPushing(t, {
      config: { cache: { maxSize: '10', minFree: '0' } },
    });
    for (const path of ['manifests/v1', `manifests/${image.manifest.digest}`, 'tags/list']) {
      assert.equal((await client.get(path)).status, 404);
    }
    for (const each of [makeImage({ layers: [1000], seed: 'before' }), image]) {
      const got = await client.image(each, 'v1');
      assert.equal(got.headers['x-cache'], 'bypass');
      assert.equal(upstreamTag(ghcr, 'v1'), each.manifest.digest);
      assert.deepEqual((await client.get('manifests/v1')).body, each.manifest.bytes);
      assert.deepEqual((await client.get(`manifests/${each.manifest.digest}`)).body, each.manifest.bytes);
    }
    assert.deepEqual(await client.tags(), ['v1']);
    assert.deepEqual(await contentOnDisk(cache), []);
  });

  test('where the upstream has it already, nobody waits for anything', LIMIT, async t => {
    const { ghcr, client } = await startPushing(t, { config: NO_ROOM });
    ghcr.addBlob(NAME, small);
    for (let i = 0; i < 33; i++) assertCreated(await client.put(small));
    await until(() => ghcr.count({ endpoint: 'upload', state: 'open' }) === 0);
    assertCreated(await client.stream(large));
  });

  test('with a token that has expired it goes through as well', LIMIT, async t => {
    for (let i = 0; i < 3; i++) {
      const both = await startPushing(t, { config: NO_ROOM });
      const location = await both.client.open();
      both.ghcr.expireTokens();
      assertCreated(await both.client.finish(location, large.digest, bytesOf(large)));
      assert(upstreamBlob(both.ghcr, large)?.equals(bytesOf(large)));
    }
  });

  test('an upstream that breaks off or refuses fails the push, which can be made again', LIMIT, async t => {
    const denied = errorAnswer(403, 'DENIED', 'permission_denied: write_package');
    for (const [action, status, code, says] of [
      [{ cutRequestAfter: 300_000 }, 502, 'UPSTREAM_UNAVAILABLE', /cannot be reached/],
      [{ answer: answers.serverError() }, 502, 'UPSTREAM_UNAVAILABLE', /500/],
      [{ answer: denied }, 403, 'DENIED', /Credential "ci" was denied.*write:packages/],
      [{ answer: answers.retryAfter('90') }, 429, 'TOOMANYREQUESTS', /limits our requests/],
    ] as const) {
      const both = await startPushing(t, { config: NO_ROOM });
      const { ghcr, clock, client } = both;
      ghcr.fault({ endpoint: 'upload', times: 1, ...action });
      const location = await client.open();
      assertRefused(await client.finish(location, large.digest, bytesOf(large)), status, code, says);
      assertRefused(await client.get(location), 404, 'BLOB_UPLOAD_UNKNOWN');
      clock.advance(100_000);
      await assertNowhere(both, large);
      assertCreated(await client.put(large));
      assert(upstreamBlob(ghcr, large)?.equals(bytesOf(large)));
    }
  });

  test('a disk that cannot be written is as one without room', LIMIT, async t => {
    const { ghcr, cache, client } = await startPushing(t);
    rmSync(join(cache.data, 'ingest'), { recursive: true });
    for (const blob of [small, large]) {
      const got = await client.stream(blob);
      assertCreated(got);
      assert.equal(got.headers['x-cache'], 'bypass');
      assert(upstreamBlob(ghcr, blob)?.equals(bytesOf(blob)));
    }
    await client.image(image, 'v1');
    assert.equal(upstreamTag(ghcr, 'v1'), image.manifest.digest);
  });

  test('a small push makes little room for itself', async t => {
    const { ghcr, cache, clock, client } = await startPushing(t, {
      config: { cache: { maxSize: '7MiB', minFree: '0' } },
    });
    const pulled = [1, 2, 3].map(i => randomContent(MIB, `pulled ${i}`));
    for (const blob of pulled) {
      ghcr.addBlob(NAME, blob);
      await client.get(`blobs/${blob.digest}`);
      await cache.settled();
      clock.advance(1000);
    }
    await client.image(makeImage({ layers: [1000, 2000] }), 'v1');
    for (const blob of pulled)
      assert.equal((await client.get(`blobs/${blob.digest}`)).headers['x-cache'], 'hit');
    // And a large one takes what was used longest ago.
    const got = await client.stream(randomContent(4 * MIB, 'pushed'));
    assert.equal(got.headers['x-cache'], 'miss');
    assert((await contentOnDisk(cache)).includes(pulled[2]?.digest ?? ''));
  });
});

describe('what the upstream has lost', () => {
  test('as with a package that was deleted there: pushing it again brings it back', async t => {
    const both = await startPushing(t);
    const { ghcr, client } = both;
    const index = makeIndex([image, makeImage({ layers: [2 * MIB], seed: 'second' })]);
    await client.image(index, 'v1');
    ghcr.deletePackage(NAME);
    // As docker does it: what a HEAD finds is not sent.
    for (const each of index.images) {
      if (!('layers' in each)) continue;
      for (const blob of [each.config, ...each.layers]) {
        if ((await client.head(`blobs/${blob.digest}`)).status !== 200)
          assertCreated(await client.stream(blob));
      }
      if ((await client.head(`manifests/${each.manifest.digest}`)).status !== 200) {
        assertCreated(await client.manifest(each.manifest));
      }
    }
    assertCreated(await client.manifest(index.manifest, 'v1'));
    assert.equal(upstreamTag(ghcr, 'v1'), index.manifest.digest);
    for (const { manifest } of index.images) assert(packageOf(ghcr)?.manifests.has(manifest.digest));
    await assertPushed(both, image.config);
  });
});

describe('questions that were asked before a push and come back after it', () => {
  const subject = makeImage({ layers: [10] });

  /** A question whose answer is held on its way back until `gate` is open. */
  async function held(ghcr: Ghcr, endpoint: 'tags' | 'referrers', asking: () => Promise<Got>) {
    const gate = Promise.withResolvers<void>();
    const fault = ghcr.fault({ endpoint, at: 'done', gate: gate.promise, times: 1 });
    const early = asking();
    await fault.reached();
    return async () => {
      gate.resolve();
      return early;
    };
  }

  test('do not bring an old list of tags back', LIMIT, async t => {
    const { ghcr, client } = await startPushing(t);
    await client.image(image, 'v1');
    const letGo = await held(ghcr, 'tags', () => client.get('tags/list'));
    assertCreated(await client.manifest(image.manifest, 'v2'));
    assert.deepEqual(await client.tags(), ['v1', 'v2']);
    await letGo();
    assert.deepEqual(await client.tags(), ['v1', 'v2']);
  });

  test('do not make a repository unknown', LIMIT, async t => {
    const { ghcr, client } = await startPushing(t);
    const letGo = await held(ghcr, 'tags', () => client.get('tags/list'));
    await client.image(image, 'v1');
    assert.equal((await letGo()).status, 404);
    assert.deepEqual(await client.tags(), ['v1']);
  });

  test('do not bring an old list of referrers back', LIMIT, async t => {
    const { ghcr, client } = await startPushing(t, { stand: { switches: { referrers: 'supported' } } });
    const path = `referrers/${subject.manifest.digest}`;
    const count = async () => JSON.parse((await client.get(path)).body.toString()).manifests.length;
    await client.image(makeImage({ layers: [11], subject: subject.manifest }));
    const letGo = await held(ghcr, 'referrers', () => client.get(path));
    await client.image(makeImage({ layers: [12], subject: subject.manifest }));
    assert.equal(await count(), 2);
    await letGo();
    assert.equal(await count(), 2);
  });

  test('a tag that was not there is there, however short tags are fresh', async t => {
    const { clock, client } = await startWithParts(t, { config: { tags: [{ match: '*', fresh: '1s' }] } });
    assert.equal((await client.get('manifests/v1')).status, 404);
    assertCreated(await client.manifest(image.manifest, 'v1'));
    clock.advance(2000);
    assert.equal((await client.get('manifests/v1')).status, 200);
  });

  test(
    'a pull that waited for a push is answered with what was pushed, though the upstream then fails',
    LIMIT,
    async t => {
      const now = makeImage({ layers: [10], seed: 'now' });
      const { ghcr, clock, client } = await startPushing(t);
      await client.image(image, 'v1');
      await client.parts(now);
      clock.advance(3600_000);
      const gate = Promise.withResolvers<void>();
      const fault = ghcr.fault({
        endpoint: 'manifest',
        method: 'PUT',
        at: 'done',
        gate: gate.promise,
        times: 1,
      });
      const pushed = client.manifest(now.manifest, 'v1');
      await fault.reached();
      const pulled = client.get('manifests/v1');
      await client.get('/v2/');
      ghcr.fault({ endpoint: 'manifest', method: 'GET', answer: answers.serverError() });
      gate.resolve();
      assertCreated(await pushed);
      assert.deepEqual((await pulled).body, now.manifest.bytes);
    },
  );

  test('of several tags of which one is refused, those that were pushed are listed', async t => {
    const { ghcr, client } = await startWithParts(t);
    assertCreated(await client.manifest(image.manifest, 'v1'));
    assert.deepEqual(await client.tags(), ['v1']);
    ghcr.fault({ endpoint: 'manifest', method: 'PUT', reference: 'b', answer: answers.denied });
    const got = await client.manifest(image.manifest, `${image.manifest.digest}?tag=a&tag=b`);
    assertRefused(got, 403, 'DENIED');
    assert.deepEqual(await client.tags(), ['a', 'v1']);
  });
});

describe('a process that leaves', () => {
  test('does not wait for an upstream that thinks, and its uploads can be gone on with', LIMIT, async t => {
    const switches: Partial<Switches> = { uploadTtlMs: 3600_000 };
    for (const blob of [small, large]) {
      const folder = mkdtempSync(join(tmpdir(), 'ghcr-cache-push-'));
      t.after(() => rmSync(folder, { recursive: true, force: true }));
      const data = join(folder, 'data');
      const both = await startPushing(t, { data, timeouts: PATIENT, stand: { switches } });
      const location = (await both.client.open()).replace(both.cache.url, '');
      await both.client.patch(location, bytesOf(blob));
      const hang = both.ghcr.fault({ endpoint: 'upload', method: 'PUT', hang: true });
      const closing = both.client.finish(location, blob.digest);
      await hang.reached();
      const beganMs = performance.now();
      await both.cache.stop();
      assert(performance.now() - beganMs < PATIENT.uploadMs / 2);
      assert.notEqual((await closing).status, 201);
      hang.remove();
      const cache = await both.startCache(data);
      const client = new PushClient(cache.url);
      assert.equal(await client.offset(location), blob.sizeBytes);
      assertCreated(await client.finish(location, blob.digest));
      await assertPushed({ ghcr: both.ghcr, cache }, blob);
    }
  });
});
