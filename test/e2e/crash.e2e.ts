// kill -9 at random moments of a pull, repeatedly, also of a cache that has not yet recovered. After each restart no
// partial file is visible, and in the end the pull completes and nothing is left over.
// KILL_ROUNDS sets the number of rounds, KILL_SEED repeats the moments of an earlier run.
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cache } from './support/cache.ts';
import { Skopeo } from './support/clients/skopeo.ts';
import { filesIn, verifiedBlobs } from './support/compare.ts';
import { blobsOf, image, manifestsOf } from './support/images.ts';
import { randomFrom } from './support/random.ts';
import { until } from './support/until.ts';
import { Upstream } from './support/upstream.ts';

const ROUNDS = Number(process.env.KILL_ROUNDS ?? 15);
const SEED = Number(process.env.KILL_SEED ?? randomInt(2 ** 31));
const KILLS_LIMIT = 3;
const SETTLE_LIMIT_MS = 10_000;

test(`kill -9, ${ROUNDS} rounds`, async t => {
  t.diagnostic(`KILL_SEED=${SEED}`);
  const random = randomFrom(SEED);
  await using upstream = await Upstream.start();
  await using skopeo = new Skopeo();
  const wanted = image('medium');
  const all = [...manifestsOf(wanted), ...blobsOf(wanted)].map(({ digest }) => digest);
  const pullMs = await timePull(upstream, skopeo);
  t.diagnostic(`an undisturbed pull takes ${pullMs} ms`);
  let restarts = 0;
  let interrupted = 0;

  for (let round = 1; round <= ROUNDS; round++) {
    await using cache = await Cache.start({ upstream: upstream.proxy.url, fresh: '1h' });
    const kills = 1 + Math.floor(random() * KILLS_LIMIT);
    for (let kill = 1; kill <= kills; kill++) {
      const pull = skopeo.pull(cache.host, wanted).then(
        () => true,
        () => false,
      );
      await sleep(random() * pullMs);
      await cache.kill();
      if (!(await pull)) interrupted++;
      await skopeo.wipe();
      await cache.restart();
      restarts++;
      await verifiedBlobs(`${cache.data}/content/blobs`);
    }

    await skopeo.pull(cache.host, wanted);
    const stored = await verifiedBlobs(`${cache.data}/content/blobs`);
    for (const digest of all) assert.ok(stored.has(digest), `round ${round}: ${digest} is missing`);
    // Including what earlier starts left unfinished.
    const ingest = `${cache.data}/ingest`;
    await until('ingest/ is empty', SETTLE_LIMIT_MS, () => filesIn(ingest).length === 0);
    await skopeo.wipe();
  }
  t.diagnostic(`${restarts} kills, ${interrupted} of them during a pull`);
});

async function timePull(upstream: Upstream, skopeo: Skopeo): Promise<number> {
  await using cache = await Cache.start({ upstream: upstream.proxy.url, fresh: '1h' });
  const started = performance.now();
  await skopeo.pull(cache.host, image('medium'));
  await skopeo.wipe();
  return Math.round(performance.now() - started);
}
