// The wall clock is set while the cache runs: nothing that it remembers ends earlier or later for that.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { startBoth } from '../../support/cache.ts';
import { makeImage } from '../../support/images.ts';

const HOUR_MS = 3_600_000;
const image = makeImage({ layers: [1000] });
const V1 = '/v2/owner/app/manifests/v1';
const TAGS = '/v2/owner/app/tags/list';
const REFERRERS = `/v2/owner/app/referrers/${image.manifest.digest}`;
const ABSENT = `/v2/owner/app/blobs/${digestOf(Buffer.from('absent'))}`;

for (const [how, byMs] of [
  ['back', -HOUR_MS],
  ['forward', HOUR_MS],
] as const) {
  describe(`the wall clock is set ${how} by an hour`, () => {
    test('a tag is fresh for its 60 s, and then costs one request', async t => {
      const { ghcr, cache, clock } = await startBoth(t);
      ghcr.push('owner/app', image, 'v1');
      await cache.get(V1);
      for (let confirmations = 0; confirmations < 2; confirmations++) {
        clock.set(byMs);
        clock.advance(59_999);
        assert.equal((await cache.get(V1)).headers['x-cache'], 'hit');
        clock.advance(1);
        assert.equal((await cache.get(V1)).headers['x-cache'], 'revalidated');
      }
    });

    test('a tag that is served stale has its own age', async t => {
      const { ghcr, cache, clock } = await startBoth(t, { config: { staleIfError: '2h' } });
      ghcr.push('owner/app', image, 'v1');
      await cache.get(V1);
      await ghcr.stop();
      clock.set(byMs);
      clock.advance(2 * HOUR_MS);
      const stale = await cache.get(V1);
      assert.equal(stale.headers['x-cache'], 'stale');
      assert.equal(stale.headers.age, '7200');
      clock.advance(1);
      assert.equal((await cache.get(V1)).status, 502);
    });

    test('a 404 is remembered for its 10 s', async t => {
      const { ghcr, cache, clock } = await startBoth(t);
      ghcr.push('owner/app', image, 'v1');
      const paths = ['/v2/owner/app/manifests/none', ABSENT];
      for (const path of paths) assert.equal((await cache.get(path)).status, 404);
      ghcr.resetCounters();
      clock.set(byMs);
      clock.advance(9_999);
      for (const path of paths) assert.equal((await cache.get(path)).status, 404);
      assert.equal(ghcr.requests.length, 0);
      clock.advance(1);
      for (const path of paths) assert.equal((await cache.get(path)).status, 404);
      assert.equal(ghcr.requests.filter(({ status }) => status === 404).length, 2);
    });

    test('a list of tags is fresh for its 10 s', async t => {
      const { ghcr, cache, clock } = await startBoth(t);
      ghcr.push('owner/app', image, 'v1');
      assert.equal((await cache.get(TAGS)).headers['x-cache'], 'miss');
      clock.set(byMs);
      clock.advance(9_999);
      assert.equal((await cache.get(TAGS)).headers['x-cache'], 'hit');
      clock.advance(1);
      assert.equal((await cache.get(TAGS)).headers['x-cache'], 'miss');
    });

    test('a list of referrers is fresh for its 10 s', async t => {
      const { ghcr, cache, clock } = await startBoth(t, { fake: { switches: { referrers: 'supported' } } });
      ghcr.push('owner/app', image, 'v1');
      assert.equal((await cache.get(REFERRERS)).headers['x-cache'], 'miss');
      clock.set(byMs);
      clock.advance(9_999);
      assert.equal((await cache.get(REFERRERS)).headers['x-cache'], 'hit');
      clock.advance(1);
      assert.equal((await cache.get(REFERRERS)).headers['x-cache'], 'miss');
    });

    test('an upstream without referrers is asked for them again after its 10 minutes', async t => {
      const { ghcr, cache, clock } = await startBoth(t);
      ghcr.push('owner/app', image, 'v1');
      const asked = async () => {
        ghcr.resetCounters();
        assert.equal((await cache.get(REFERRERS)).status, 200);
        return ghcr.count({ endpoint: 'referrers' });
      };
      assert.equal(await asked(), 1);
      clock.set(byMs);
      clock.advance(599_999);
      assert.equal(await asked(), 0);
      // That there are none was heard just now.
      clock.advance(10_000);
      assert.equal(await asked(), 1);
    });
  });
}
