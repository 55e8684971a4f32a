// Every client pulls every kind of image: with an empty cache, then again at once, then again when the tags are no
// longer fresh. Each ends up with the image, byte for byte, and the cache sends no more upstream requests than it must:
// one per blob, then none, then one per tag.
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cache } from './support/cache.ts';
import type { Client } from './support/clients/client.ts';
import { Containerd } from './support/clients/containerd.ts';
import { Crane } from './support/clients/crane.ts';
import { Docker } from './support/clients/docker.ts';
import { Oras } from './support/clients/oras.ts';
import { Podman } from './support/clients/podman.ts';
import { Skopeo } from './support/clients/skopeo.ts';
import { assertSameImage } from './support/compare.ts';
import { blobsOf, type ImageName, image } from './support/images.ts';
import type { Exchange } from './support/proxy.ts';
import { Upstream } from './support/upstream.ts';

const CLIENTS: Readonly<Record<string, () => Promise<Client>>> = {
  skopeo: async () => new Skopeo(),
  podman: async () => new Podman(),
  docker: Docker.start,
  containerd: Containerd.start,
  crane: async () => new Crane(),
  oras: async () => new Oras(),
};

const IMAGES: readonly ImageName[] = ['layers', 'multiarch', 'schema2', 'schema2-list'];

/** Longer than any pull of these images takes, so that a pull revalidates a tag once, however often its client asks. */
const SHORT_FRESH_MS = 5000;

for (const [name, start] of Object.entries(CLIENTS)) {
  test(`${name} pulls through the cache`, async t => {
    await using upstream = await Upstream.start();
    await using cache = await Cache.start({ upstream: upstream.proxy.url, fresh: '1h' });
    await using client = await start();
    let lastPullMs = 0;

    for (const imageName of IMAGES) {
      const wanted = image(imageName);
      await t.test(`${imageName}, with an empty cache`, async () => {
        upstream.proxy.clear();
        await client.pull(cache.host, wanted);
        for (const { digest } of blobsOf(wanted)) {
          const downloads = upstream.proxy.of(`/blobs/${digest}`).filter(({ method }) => method === 'GET');
          assert.ok(downloads.length <= 1, `${digest} was downloaded ${downloads.length} times`);
        }
        await assertSameImage(cache.url, upstream.registry.url, wanted);
        lastPullMs = Date.now();
      });

      await t.test(`${imageName}, cached: no upstream requests`, async () => {
        await client.wipe();
        upstream.proxy.clear();
        await client.pull(cache.host, wanted);
        assert.deepEqual(linesOf(upstream.proxy.exchanges), []);
      });
    }

    await t.test('no longer fresh: one upstream request per tag, and none for blobs', async () => {
      await cache.restart({ fresh: `${SHORT_FRESH_MS / 1000}s` });
      await sleep(Math.max(0, lastPullMs + SHORT_FRESH_MS + 100 - Date.now()));
      for (const imageName of IMAGES) {
        const wanted = image(imageName);
        await client.wipe();
        upstream.proxy.clear();
        await client.pull(cache.host, wanted);

        const seen = linesOf(upstream.proxy.exchanges);
        const [request, ...more] = upstream.proxy.of(`/v2/${wanted.repository}/`);
        assert.ok(request && more.length === 0, `requests: ${seen}`);
        assert.ok(request.path.includes(`/manifests/${wanted.tag}`), `requests: ${seen}`);
        assert.ok(request.ifNoneMatch?.includes(wanted.root.digest), `If-None-Match: ${request.ifNoneMatch}`);
        assert.equal(request.status, 304);
      }
    });
  });
}

function linesOf(exchanges: readonly Exchange[]): string[] {
  return exchanges.map(({ method, path, status }) => `${method} ${path} ${status}`);
}
