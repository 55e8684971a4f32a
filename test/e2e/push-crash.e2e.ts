// kill -9 at random moments of pushes. After each restart everything acknowledged is upstream, and the cache serves it
// without upstream requests; no partial file is visible; and each upload resumes at the offset that the cache reports,
// and completes. KILL_ROUNDS sets the number of rounds, KILL_SEED repeats the moments of an earlier run.
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { rmSync } from 'node:fs';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cache } from './support/cache.ts';
import { filesIn, verifiedBlobs } from './support/compare.ts';
import { get } from './support/http.ts';
import { digestOf, randomBytes } from './support/images.ts';
import { ImagePush, Interrupted, Pusher } from './support/pusher.ts';
import { randomFrom } from './support/random.ts';
import { Upstream } from './support/upstream.ts';

const ROUNDS = Number(process.env.KILL_ROUNDS ?? 6);
const SEED = Number(process.env.KILL_SEED ?? randomInt(2 ** 31));
const KILLS_LIMIT = 4;
const MIB = 1024 * 1024;
const CHUNK_BYTES = MIB / 2;
/** Of the config and the layers: shorter than a chunk, a multiple of chunks, and neither. */
const SIZES = [600, 300_000, 2 * MIB, 3 * MIB + 1, 4 * MIB - 1];
/** How many are pushed until a kill. */
const IMAGES = 2;
const TAG = 'latest';

test(`kill -9 during pushes, ${ROUNDS} rounds`, async t => {
  t.diagnostic(`KILL_SEED=${SEED}`);
  const random = randomFrom(SEED);
  await using upstream = await Upstream.startEmpty();
  const pushMs = await timePush(upstream);
  t.diagnostic(`an undisturbed push takes ${pushMs} ms`);
  const counts = { kills: 0, interrupted: 0, resumed: 0 };

  for (let round = 1; round <= ROUNDS; round++) {
    await using cache = await startCache(upstream);
    const repository = `e2e/round-${round}`;
    const pusher = new Pusher(cache.url, repository, TAG, CHUNK_BYTES);
    const images: ImagePush[] = [];
    const kills = 1 + Math.floor(random() * KILLS_LIMIT);
    for (let kill = 1; kill <= kills; kill++) {
      images.push(...makeImages(`${repository} ${kill}`));
      const push = interruptible(pusher.push(images));
      await sleep(random() * pushMs);
      await cache.kill();
      counts.kills++;
      if (!(await push)) counts.interrupted++;
      await cache.restart();
      await verifiedBlobs(`${cache.data}/content/blobs`);
      await assertKept(pusher, cache, upstream, repository, `round ${round}, kill ${kill}`);
    }

    await pusher.push(images);
    await assertKept(pusher, cache, upstream, repository, `round ${round}, at its end`);
    const stored = await verifiedBlobs(`${cache.data}/content/blobs`);
    for (const { blobs, manifest } of images) {
      for (const { digest } of [...blobs, manifest]) assert.ok(stored.has(digest), `${digest} is missing`);
    }
    // The client may still come back to an upload, as far as the cache knows, even if it never learned its location.
    const left = filesIn(`${cache.data}/ingest`);
    assert.ok(left.length <= pusher.lostUploads, `ingest/ has ${left}, and ${pusher.lostUploads} uploads were lost`);
    counts.resumed += pusher.resumed;
    await cache.stop();
    rmSync(cache.data, { recursive: true });
  }
  t.diagnostic(`${counts.kills} kills, ${counts.interrupted} of them during a push`);
  t.diagnostic(`${counts.resumed} uploads were resumed`);
});

/** Resolves to whether the push completed. */
function interruptible(push: Promise<void>): Promise<boolean> {
  return push.then(
    () => true,
    error => {
      if (error instanceof Interrupted) return false;
      throw error;
    },
  );
}

/** Everything acknowledged is upstream, and the cache serves it without upstream requests. */
async function assertKept(
  { blobs, manifests, tagged, maybeTagged }: Pusher,
  cache: Cache,
  upstream: Upstream,
  repository: string,
  when: string,
): Promise<void> {
  upstream.proxy.clear();
  for (const url of [cache.url, upstream.witness.url]) {
    const base = `${url}/v2/${repository}`;
    const where = `${url === cache.url ? 'the cache' : 'the upstream'}, ${when}`;
    for (const { digest, bytes } of blobs) {
      const { status, body } = await get(`${base}/blobs/${digest}`);
      assert.equal(status, 200, `${digest} of ${where}: ${body.subarray(0, 500)}`);
      assert.ok(body.equals(bytes), `${digest} of ${where}: the bytes differ`);
    }
    for (const { digest, bytes } of manifests) {
      const { status, body } = await get(`${base}/manifests/${digest}`);
      assert.equal(status, 200, `${digest} of ${where}: ${body.subarray(0, 500)}`);
      assert.ok(body.equals(bytes), `${digest} of ${where}: the bytes differ`);
    }
    if (tagged === undefined) continue;
    const { status, headers, body } = await get(`${base}/manifests/${TAG}`);
    assert.equal(status, 200, `${TAG} of ${where}: ${body.subarray(0, 500)}`);
    const digest = headers['docker-content-digest'];
    assert.ok(digest === tagged || digest === maybeTagged, `${TAG} of ${where} is ${digest}, not ${tagged}`);
    assert.equal(digestOf(body), digest);
  }
  assert.deepEqual(
    upstream.proxy.exchanges.map(({ method, path }) => `${method} ${path}`),
    [],
    `requests upstream, ${when}`,
  );
}

async function timePush(upstream: Upstream): Promise<number> {
  await using cache = await startCache(upstream);
  const repository = 'e2e/undisturbed';
  const started = performance.now();
  await new Pusher(cache.url, repository, TAG, CHUNK_BYTES).push(makeImages(repository));
  return Math.round(performance.now() - started);
}

function startCache(upstream: Upstream): Promise<Cache> {
  return Cache.start({ upstream: upstream.proxy.url, fresh: '1h' });
}

/** Images that share nothing with any others. */
function makeImages(seed: string): ImagePush[] {
  return Array.from(
    { length: IMAGES },
    (_, i) => new ImagePush(SIZES.map((size, j) => randomBytes(`${seed} ${i} ${j}`, size))),
  );
}
