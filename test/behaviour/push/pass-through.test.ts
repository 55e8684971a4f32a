// Pushes for which there is no space: they reach the upstream all the same, and are not kept.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Got } from '../../support/ghcr/ask.ts';
import { errorAnswer } from '../../support/ghcr/faults.ts';
import { answers } from '../../support/ghcr/ghcr.ts';
import { bytesOf, type Content, makeImage, randomContent } from '../../support/images.ts';
import { inTheWay } from '../../support/local-stores.ts';
import {
  assertCreated,
  assertError,
  assertNowhere,
  contentOnDisk,
  eventually,
  image,
  LIMIT,
  large,
  MIB,
  NAME,
  NO_SPACE,
  RIGHTS,
  sentenceOf,
  small,
  startPushing,
  upstreamBlob,
  upstreamTag,
} from '../../support/push-client.ts';

describe('without space', () => {
  for (const [where, sizeBytes, config] of [
    ['from the start', large.sizeBytes, NO_SPACE],
    ['from the start, for what is small', 10_000, NO_SPACE],
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

  test('a wrong digest is rejected all the same', LIMIT, async t => {
    const both = await startPushing(t, { config: NO_SPACE });
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
      assertError(await push(), 400, 'DIGEST_INVALID');
      for (const blob of [large, small]) await assertNowhere(both, blob);
    }
    await eventually(() => ghcr.count({ endpoint: 'upload', state: 'open' }) === 0);
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

  test('what the upstream has is not sent, and nothing stays open', LIMIT, async t => {
    const { ghcr, client } = await startPushing(t, { config: NO_SPACE });
    ghcr.addBlob(NAME, small);
    for (let i = 0; i < 33; i++) assertCreated(await client.put(small));
    await eventually(() => ghcr.count({ endpoint: 'upload', state: 'open' }) === 0);
    assertCreated(await client.stream(large));
  });

  test('an expired token is renewed', LIMIT, async t => {
    for (let i = 0; i < 3; i++) {
      const both = await startPushing(t, { config: NO_SPACE });
      const location = await both.client.open();
      both.ghcr.expireTokens();
      assertCreated(await both.client.finish(location, large.digest, bytesOf(large)));
      assert(upstreamBlob(both.ghcr, large)?.equals(bytesOf(large)));
    }
  });

  test(
    'an upstream that breaks the connection or returns an error fails the push, which can be repeated',
    LIMIT,
    async t => {
      const denied = errorAnswer(403, 'DENIED', 'permission_denied: write_package');
      for (const [action, status, code, says] of [
        [{ cutRequestAfter: 300_000 }, 502, 'UPSTREAM_UNAVAILABLE', /cannot be reached/],
        [{ answer: answers.serverError() }, 502, 'UPSTREAM_UNAVAILABLE', /500/],
        [{ answer: denied }, 403, 'DENIED', RIGHTS],
        [{ answer: answers.retryAfter('90') }, 429, 'TOOMANYREQUESTS', /limits our requests/],
      ] as const) {
        const both = await startPushing(t, { config: NO_SPACE });
        const { ghcr, clock, client } = both;
        ghcr.fault({ endpoint: 'upload', times: 1, ...action });
        const location = await client.open();
        assertError(await client.finish(location, large.digest, bytesOf(large)), status, code, says);
        assertError(await client.get(location), 404, 'BLOB_UPLOAD_UNKNOWN');
        clock.advance(100_000);
        await assertNowhere(both, large);
        assertCreated(await client.put(large));
        assert(upstreamBlob(ghcr, large)?.equals(bytesOf(large)));
      }
    },
  );

  test('a disk that cannot be written counts as one without space', LIMIT, async t => {
    const { ghcr, cache, client } = await startPushing(t);
    await inTheWay(join(cache.data, 'ingest'));
    for (const blob of [small, large]) {
      const got = await client.stream(blob);
      assertCreated(got);
      assert.equal(got.headers['x-cache'], 'bypass');
      assert(upstreamBlob(ghcr, blob)?.equals(bytesOf(blob)));
    }
    await client.image(image, 'v1');
    assert.equal(upstreamTag(ghcr, 'v1'), image.manifest.digest);
  });

  test('a push evicts no more than it needs', async t => {
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
    for (const blob of pulled) assert.equal((await client.get(`blobs/${blob.digest}`)).headers['x-cache'], 'hit');
    // A large one evicts what was used least recently.
    const got = await client.stream(randomContent(4 * MIB, 'pushed'));
    assert.equal(got.headers['x-cache'], 'miss');
    assert((await contentOnDisk(cache)).includes(pulled[2]?.digest ?? ''));
  });
});
