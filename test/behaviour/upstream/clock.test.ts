// The wall clock of this machine is set back or forward by an hour: what is in force towards an upstream is over after its
// own seconds all the same.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { startBoth } from '../../support/cache.ts';
import { TestClock } from '../../support/clock.ts';
import { answers } from '../../support/ghcr/ghcr.ts';
import { makeImage } from '../../support/images.ts';

const V1 = '/v2/owner/app/manifests/v1';
const HOUR_MS = 3_600_000;

async function setUp(t: TestContext) {
  const clock = new TestClock();
  // The upstream's clock is not set with ours.
  const both = await startBoth(t, {
    ...{ clock, fake: { now: clock.monotonic } },
    config: { tags: [{ match: '*', fresh: '1ms' }] },
  });
  both.ghcr.push('owner/app', makeImage({ layers: [] }), 'v1');
  const status = async () => (await both.cache.get(V1)).status;
  return { ...both, status };
}

for (const byMs of [-HOUR_MS, HOUR_MS]) {
  describe(`the wall clock is set ${byMs < 0 ? 'back' : 'forward'} by an hour`, () => {
    test('while the breaker is open: it is closed after a second', async t => {
      const { ghcr, clock, status } = await setUp(t);
      const fault = ghcr.fault({ endpoint: 'manifest', refuse: 'reset' });
      assert.equal(await status(), 502);
      fault.remove();
      ghcr.resetCounters();
      clock.set(byMs);
      clock.advance(999);
      assert.equal(await status(), 502);
      assert.equal(ghcr.count(), 0);
      clock.advance(1);
      assert.equal(await status(), 200);
    });

    test('while a 429 is in force: the upstream is asked again after its seconds', async t => {
      const { ghcr, clock, status } = await setUp(t);
      ghcr.fault({ endpoint: 'manifest', answer: answers.tooManyRequests('30s'), times: 1 });
      assert.equal(await status(), 429);
      ghcr.resetCounters();
      clock.set(byMs);
      clock.advance(29_000);
      assert.equal(await status(), 429);
      assert.equal(ghcr.count(), 0);
      clock.advance(1_000);
      assert.equal(await status(), 200);
    });

    test('while a token is cached: it is used for its minute, and no longer', async t => {
      const { ghcr, clock, status } = await setUp(t);
      const tokens = () => ghcr.count({ endpoint: 'token' });
      assert.equal(await status(), 200);
      clock.set(byMs);
      clock.advance(50_000);
      assert.equal(await status(), 200);
      assert.equal(tokens(), 1);
      clock.advance(10_000);
      assert.equal(await status(), 200);
      assert.equal(tokens(), 2);
    });
  });
}
