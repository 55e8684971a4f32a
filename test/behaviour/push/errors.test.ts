// An upstream that is unavailable, denies, limits or fails: what the client is told, what is kept, and how it goes on.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { errorOf, type Got } from '../../support/ghcr/ask.ts';
import { errorAnswer } from '../../support/ghcr/faults.ts';
import { type Answer, answers } from '../../support/ghcr/ghcr.ts';
import { bytesOf, type Content, makeImage, makeIndex, randomContent } from '../../support/images.ts';
import {
  AHEAD_BYTES,
  assertCreated,
  assertError,
  assertNowhere,
  assertPushed,
  CI,
  contentOnDisk,
  filesIn,
  HASTY,
  image,
  LIMIT,
  large,
  MIB,
  NAME,
  type Pushing,
  RIGHTS,
  sentenceOf,
  small,
  startPushing,
  startWithParts,
  upstreamBlob,
  upstreamTag,
  WRITER,
} from '../../support/push-client.ts';

describe('an upstream that is unavailable', () => {
  test('before the push: the first request fails, and nothing stays open', async t => {
    const { ghcr, cache, client } = await startPushing(t);
    await ghcr.stop();
    const got = await client.start();
    assertError(got, 502, 'UPSTREAM_UNAVAILABLE', /cannot be reached|failing/);
    assert.deepEqual(filesIn(cache, 'ingest'), []);
    assertError(await client.start({ digest: small.digest }, bytesOf(small)), 502, 'UPSTREAM_UNAVAILABLE');
    assertError(await client.start({ mount: small.digest, from: 'owner/other' }), 502, 'UPSTREAM_UNAVAILABLE');
    assertError(await client.manifest(image.manifest, 'v1'), 502, 'UPSTREAM_UNAVAILABLE');
    assertError(await client.delete('manifests/v1'), 502, 'UPSTREAM_UNAVAILABLE');
    assert.deepEqual(await contentOnDisk(cache), []);
  });

  test('because the config says so: an error, and no request', async t => {
    const { ghcr, client } = await startPushing(t, { upstream: { offline: true } });
    for (const got of [
      await client.start(),
      await client.manifest(image.manifest, 'v1'),
      await client.delete('manifests/v1'),
    ]) {
      assertError(got, 502, 'UPSTREAM_UNAVAILABLE', /set offline in the config/);
    }
    assert.equal(ghcr.requests.length, 0);
  });

  for (const when of ['while the bytes come', 'at the end'] as const) {
    test(`${when}: the client can finish its upload later, and need not send it again`, LIMIT, async t => {
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
          assertError(failed, 502, 'UPSTREAM_UNAVAILABLE', /cannot be reached|failing/);
        }
        assert.equal((await client.head(`blobs/${blob.digest}`)).status, 502);
        await ghcr.restart();
        clock.advance(60_000);
        assert.equal((await client.head(`blobs/${blob.digest}`)).status, 404);
        assertCreated(await client.finish(location, blob.digest));
        await assertPushed(both, blob);
      }
    });
  }

  test('and does not respond: 504, and the upload can be finished later', LIMIT, async t => {
    // The small one goes up in one PUT, the large one in a PATCH, or in a PUT when it is tried again.
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

  test('for a manifest: 502, and the tag is what the upstream says it is', async t => {
    const now = makeImage({ layers: [1000], seed: 'now' });
    for (const at of ['headers', 'done'] as const) {
      const { ghcr, clock, client } = await startWithParts(t);
      assertCreated(await client.manifest(image.manifest, 'v1'));
      await client.parts(now);
      assert.deepEqual(await client.tags(), ['v1']);
      const fault = ghcr.fault({ endpoint: 'manifest', method: 'PUT', answer: answers.serverError(), at });
      for (const tag of ['v1', 'v2']) {
        assertError(await client.manifest(now.manifest, tag), 502, 'UPSTREAM_UNAVAILABLE', /500/);
        // The breaker lets the next request through.
        clock.advance(2_000);
      }
      fault.remove();
      const isDone = at === 'done';
      // Even though the tag is fresh.
      const got = await client.get('manifests/v1');
      assert.equal(got.headers['docker-content-digest'], upstreamTag(ghcr, 'v1'));
      assert.deepEqual(got.body, (isDone ? now : image).manifest.bytes);
      assert.deepEqual(await client.tags(), isDone ? ['v1', 'v2'] : ['v1']);
    }
  });
});

describe('an upstream that returns an error', () => {
  type Push = (blob: Content, both: Pushing) => Promise<Got>;
  const steps: [name: string, method: string, endpoint: 'upload-start' | 'upload', sizeBytes: number, push: Push][] = [
    ['POST', 'POST', 'upload-start', 1000, (blob, { client }) => client.put(blob)],
    ['PUT', 'PUT', 'upload', 1000, (blob, { client }) => client.stream(blob)],
    ['PATCH', 'PATCH', 'upload', large.sizeBytes, (blob, { client, ghcr }) => client.streamAhead(ghcr, blob)],
    ['closing PUT', 'PUT', 'upload', large.sizeBytes, (blob, { client, ghcr }) => client.streamAhead(ghcr, blob)],
  ];
  const responses: [string, Answer, number, string, RegExp][] = [
    ['401', errorAnswer(401, 'UNAUTHORIZED', 'authentication required'), 403, 'DENIED', RIGHTS],
    ['403', errorAnswer(403, 'DENIED', 'permission_denied: write_package'), 403, 'DENIED', RIGHTS],
    ['413', errorAnswer(413, 'SIZE_INVALID', 'too much'), 413, 'TOO_LARGE', /larger than ghcr\.io takes.*too much/],
    ['429', answers.tooManyRequests('1m30s', 2000), 429, 'TOOMANYREQUESTS', /limits our requests/],
    ['429 with Retry-After', answers.retryAfter('90'), 429, 'TOOMANYREQUESTS', /limits our requests/],
    ['the secondary rate limit', answers.secondaryRateLimit, 429, 'TOOMANYREQUESTS', /limits our requests/],
    ['500 for good', answers.serverError(500), 502, 'UPSTREAM_UNAVAILABLE', /500|failing/],
    ['an HTML page', { ...answers.htmlPage, status: 418 }, 502, 'UPSTREAM_INVALID', /418.*text\/html/],
  ];
  for (const [name, answer, status, code, says] of responses) {
    test(`${name} at any step: the client is told why, and nothing is kept`, LIMIT, async t => {
      const both = await startPushing(t);
      const { ghcr, cache, clock, client } = both;
      for (const [step, method, endpoint, sizeBytes, push] of steps) {
        const blob = randomContent(sizeBytes, step);
        // The yes that an earlier upload has brought expires.
        clock.advance(3600_001);
        // What broke in a PATCH is tried again in a PUT.
        const fault = ghcr.fault({ endpoint, answer, ...(step !== 'PATCH' && { method }) });
        const got = await push(blob, both);
        assert.equal(got.status, status, `${step} ${sentenceOf(got)}`);
        assertError(got, status, code, says, /ghcr\.io|127\.0\.0\.1/);
        if (status === 429) assert.equal(got.headers['retry-after'], name.startsWith('the') ? '60' : '90');
        assert(fault.hits > 0);
        assert.equal(upstreamBlob(ghcr, blob), undefined);
        ghcr.clearFaults();
        // Uploads that could be finished later are given up, too.
        clock.advance(3600_001);
        assert.equal((await client.cancel(await client.open())).status, 204);
        assert.equal((await client.head(`blobs/${blob.digest}`)).status, 404);
        assert(!(await contentOnDisk(cache)).includes(blob.digest));
        assertCreated(await push(blob, both));
        await assertPushed(both, blob);
      }
    });

    test(`${name} for a manifest: the tag stays where it was`, async t => {
      const { ghcr, clock, client } = await startWithParts(t);
      assertCreated(await client.manifest(image.manifest, 'v1'));
      const index = makeIndex([image]);
      ghcr.fault({ endpoint: 'manifest', method: 'PUT', answer });
      for (const reference of ['v1', index.manifest.digest]) {
        assertError(await client.manifest(index.manifest, reference), status, code, says);
      }
      ghcr.clearFaults();
      clock.advance(100_000);
      assert.deepEqual((await client.get('manifests/v1')).body, image.manifest.bytes);
      assert.equal((await client.get(`manifests/${index.manifest.digest}`)).status, 404);
      assertCreated(await client.manifest(index.manifest, 'v1'));
    });
  }

  test('missing rights, however they are denied: at the first request, naming the credential', async t => {
    const stranger = { ...WRITER, packages: ['elsewhere/*'] };
    const reader = { ...WRITER, scopes: ['read:packages'] };
    for (const pushDenied of ['token-403', 'later-403', 'later-unauthenticated'] as const) {
      for (const user of [stranger, reader]) {
        const { ghcr, cache, client } = await startPushing(t, { user, fake: { switches: { pushDenied } } });
        ghcr.push(NAME, image, 'v1');
        for (const got of [
          await client.start(),
          await client.start({ digest: small.digest }, bytesOf(small)),
          await client.start({ mount: small.digest, from: 'owner/other' }),
          await client.manifest(image.manifest, 'v2'),
        ]) {
          assertError(got, 403, 'DENIED', RIGHTS, /owner\/app/);
        }
        assert.deepEqual(filesIn(cache, 'ingest'), []);
        assert.equal(upstreamTag(ghcr, 'v2'), undefined);
        // Pulls need no more rights than before.
        assert.deepEqual((await client.get('manifests/v1')).body, image.manifest.bytes);
      }
    }
  });

  test('no credential, or a wrong one', async t => {
    const without = await startPushing(t, { upstream: { credentials: [{ ...CI, owner: 'somebody' }] } });
    assertError(await without.client.start(), 403, 'DENIED', /no credential of the config is for owner "owner"/);
    for (const auth of ['bearer', 'basic'] as const) {
      const wrong = await startPushing(t, {
        upstream: { credentials: [{ ...CI, token: 'wrong' }] },
        fake: { switches: { auth } },
      });
      const got = await wrong.client.start();
      assert.equal(got.status, 403, sentenceOf(got));
      assert.match(errorOf(got).message, RIGHTS);
    }
  });

  test('a rate limit: no request before it is over, then the upload can be finished', LIMIT, async t => {
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
      assertError(limited, 429, 'TOOMANYREQUESTS');
      assert.equal(limited.headers['retry-after'], '31');
      ghcr.resetCounters();
      clock.advance(30_000);
      assertError(await client.finish(location, blob.digest), 429, 'TOOMANYREQUESTS');
      assertError(await client.manifest(image.manifest), 429, 'TOOMANYREQUESTS', /asked again in 1 s/);
      assert.equal(ghcr.requests.length, 0);
      clock.advance(1000);
      assertCreated(await client.finish(location, blob.digest));
      await assertPushed(both, blob);
    }
  });

  test('too large, for blobs of known and of unknown length', async t => {
    for (const [limit, blob] of [
      [small.sizeBytes - 1, small],
      [large.sizeBytes - 1, large],
      [MIB, large],
    ] as const) {
      const both = await startPushing(t, { fake: { switches: { blobLimitBytes: limit } } });
      for (const push of [
        () => both.client.put(blob),
        () => both.client.start({ digest: blob.digest }, bytesOf(blob)),
      ]) {
        assertError(await push(), 413, 'TOO_LARGE', /larger than ghcr\.io takes/);
      }
      await assertNowhere(both, blob);
    }
  });

  test('while the client is still sending: the client need not send the rest', LIMIT, async t => {
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
      assertError(got, 403, 'DENIED', RIGHTS);
      assert(sentBytes < 200 * MIB, `${sentBytes}`);
      if (endless !== 'POST') assertError(await client.get(location), 404, 'BLOB_UPLOAD_UNKNOWN');
      else assert.equal((await client.cancel(location)).status, 204);
      ghcr.clearFaults();
    }
    assert.deepEqual(await contentOnDisk(cache), []);
  });

  test('an algorithm that it does not know: soon', async t => {
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
