// The upstream is unavailable: everything cached can still be pulled, also by tag; the cache starts without it; what is
// not cached fails quickly and says why. When the upstream is back, everything works again.
import assert from 'node:assert/strict';
import test from 'node:test';
import { Cache } from './support/cache.ts';
import type { Client } from './support/clients/client.ts';
import { Containerd } from './support/clients/containerd.ts';
import { Docker } from './support/clients/docker.ts';
import { Podman } from './support/clients/podman.ts';
import { Skopeo } from './support/clients/skopeo.ts';
import { errorBody, get, head } from './support/http.ts';
import { type Image, image } from './support/images.ts';
import { until } from './support/until.ts';
import { Upstream } from './support/upstream.ts';

/** Generous, since the machine may be busy; the measured times are printed. */
const QUICK_MS = 5000;
const RECOVERY_LIMIT_MS = 60_000;

test('the upstream becomes unavailable', async t => {
  await using upstream = await Upstream.start();
  await using cache = await Cache.start({ upstream: upstream.proxy.url, fresh: '1h' });
  await using skopeo = new Skopeo();
  await using podman = new Podman();
  await using docker = await Docker.start();
  await using containerd = await Containerd.start();
  const clients: readonly Client[] = [skopeo, podman, docker, containerd];
  const cached = ['layers', 'multiarch', 'schema2'] as const;
  const images = cached.map(image);
  const missing = image('medium');

  const pullAll = async () => {
    for (const client of clients) {
      for (const wanted of images) {
        await client.wipe();
        await client.pull(cache.host, wanted);
      }
    }
  };
  for (const wanted of images) await skopeo.pull(cache.host, wanted);
  await upstream.proxy.switchOff();

  await t.test('fresh tags are hits', async () => {
    for (const wanted of images) {
      const answer = await head(tagUrl(cache, wanted));
      assert.equal(answer.status, 200);
      assert.equal(answer.headers['x-cache'], 'hit');
      assert.equal(answer.headers.warning, undefined);
    }
    await pullAll();
  });

  await t.test('the cache starts without its upstream', async () => {
    await cache.restart({ fresh: '0s' });
    t.diagnostic(`ready after ${cache.startMs} ms`);
    assert.ok(cache.startMs < QUICK_MS, `it took ${cache.startMs} ms`);
  });

  await t.test('tags that are no longer fresh are served as stale', async () => {
    for (const wanted of images) {
      const answer = await get(tagUrl(cache, wanted));
      assert.equal(answer.status, 200, answer.body.toString());
      assert.equal(answer.headers['x-cache'], 'stale');
      assert.equal(answer.headers['docker-content-digest'], wanted.root.digest);
      assert.match(answer.headers.warning ?? '', /^299 - ".+"/);
      assert.match(answer.headers.age ?? '', /^\d+$/);
    }
    await pullAll();
  });

  await t.test('what is not cached fails quickly, with the reason', async () => {
    // Repeatedly: the first request may wait for a connection, the others fail at once.
    for (let attempt = 1; attempt <= 3; attempt++) {
      const answer = await get(tagUrl(cache, missing));
      t.diagnostic(`attempt ${attempt}: ${answer.status} after ${answer.elapsedMs} ms`);
      assert.ok([502, 504].includes(answer.status), `status ${answer.status}: ${answer.body}`);
      assert.ok(answer.elapsedMs < QUICK_MS, `it took ${answer.elapsedMs} ms`);
      const [error] = errorBody(answer).errors;
      assert.match(error?.message ?? '', /ghcr\.io/, 'the message names the upstream');
      assert.match(error?.message ?? '', /refused|reach|connect/i, 'the message says why');
    }
    const output = await skopeo.pullFailing(cache.host, missing.repository, missing.tag);
    assert.match(output, /ghcr\.io/);
  });

  await t.test('the upstream comes back', async () => {
    await upstream.proxy.switchOn();
    upstream.proxy.clear();
    const [wanted] = images;
    if (!wanted) throw new Error('no image is cached');
    const started = performance.now();
    await until('the cache asks its upstream again', RECOVERY_LIMIT_MS, async () => {
      const answer = await head(tagUrl(cache, wanted));
      return answer.headers['x-cache'] === 'revalidated';
    });
    t.diagnostic(`asked its upstream again after ${Math.round(performance.now() - started)} ms`);
    await skopeo.pull(cache.host, missing);
  });
});

function tagUrl(cache: Cache, { repository, tag }: Image): string {
  return `${cache.url}/v2/${repository}/manifests/${tag}`;
}
