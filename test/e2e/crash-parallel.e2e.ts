// kill -9 in the middle of a blob that comes over several connections, again and again: what is there is gone on with, gaps
// and all, and the blob comes right. The fake ghcr.io limits each connection, as a real one far away does.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startGhcr } from '../support/ghcr/ghcr.ts';
import { randomContent } from '../support/images.ts';
import { Cache } from './support/cache.ts';
import { filesIn, verifiedBlobs } from './support/compare.ts';
import { until } from './support/until.ts';

const MIB = 1024 * 1024;
const SIZE = 192 * MIB;
const BYTES_PER_SECOND = 24 * MIB;
const KILLS = 3;
/** Long enough for several connections to have begun. */
const KILLED_AFTER_MS = 900;
/** Of a kill, what was on its way comes again. */
const LOST_BYTES = 16 * MIB;

test(`kill -9, ${KILLS} times in a download over several connections`, async t => {
  await using ghcr = await startGhcr();
  const blob = randomContent(SIZE, 'parallel crash');
  ghcr.addBlob('owner/app', blob);
  ghcr.fault({ endpoint: 'blobhost', throttle: BYTES_PER_SECOND });
  await using cache = await Cache.start({ upstream: ghcr.url, fresh: '1h' });
  const url = `${cache.url}/v2/owner/app/blobs/${blob.digest}`;
  for (let kill = 1; kill <= KILLS; kill++) {
    const pulling = hashOf(url).catch(() => undefined);
    await sleep(KILLED_AFTER_MS);
    await cache.kill();
    await pulling;
    await cache.restart();
    assert.equal((await verifiedBlobs(`${cache.data}/content/blobs`)).size, 0);
  }
  assert.equal(await hashOf(url), blob.digest);
  const requests = ghcr.requests.filter(({ endpoint }) => endpoint === 'blobhost');
  const ranges = requests.filter(({ range }) => range !== undefined).length;
  const bytes = ghcr.bytes({ endpoint: 'blobhost' });
  t.diagnostic(
    `${requests.length} requests, ${ranges} of them for ranges; ${(bytes / SIZE).toFixed(2)} times its bytes`,
  );
  assert.ok(ranges > KILLS, 'it came over one connection');
  assert.ok(bytes < SIZE + (KILLS + 1) * LOST_BYTES, 'what was there came again');
  await until('ingest/ is empty', 10_000, () => filesIn(`${cache.data}/ingest`).length === 0);
});

/** Pulls it; as a digest. */
async function hashOf(url: string): Promise<string> {
  const response = await fetch(url);
  assert.equal(response.status, 200);
  const hash = createHash('sha256');
  for await (const chunk of response.body ?? []) hash.update(chunk);
  return `sha256:${hash.digest('hex')}`;
}
