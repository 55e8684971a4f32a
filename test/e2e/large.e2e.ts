// An image of more than 300 MB, pulled with an empty cache and again: each byte is downloaded once.
import assert from 'node:assert/strict';
import test from 'node:test';
import { Cache } from './support/cache.ts';
import type { Client } from './support/clients/client.ts';
import { Docker } from './support/clients/docker.ts';
import { Skopeo } from './support/clients/skopeo.ts';
import { verifiedBlobs } from './support/compare.ts';
import { blobsOf, image, manifestsOf } from './support/images.ts';
import { Upstream } from './support/upstream.ts';

const CLIENTS: Readonly<Record<string, () => Promise<Client>>> = {
  skopeo: async () => new Skopeo(),
  docker: Docker.start,
};

for (const [name, start] of Object.entries(CLIENTS)) {
  test(`${name} pulls a large image`, async t => {
    await using upstream = await Upstream.start();
    await using cache = await Cache.start({ upstream: upstream.proxy.url, fresh: '1h' });
    await using client = await start();
    const large = image('large');
    const size = blobsOf(large).reduce((sum, blob) => sum + blob.size, 0);
    assert.ok(size >= 300_000_000, `${size} bytes is not large`);

    const pull = async (when: string) => {
      const started = performance.now();
      await client.pull(cache.host, large);
      const seconds = (performance.now() - started) / 1000;
      t.diagnostic(`${when}: ${Math.round(size / 1e6)} MB in ${seconds.toFixed(1)} s`);
    };

    await pull('with an empty cache');
    const downloaded = upstream.proxy.of('/blobs/').reduce((sum, { bodyBytes }) => sum + bodyBytes, 0);
    assert.equal(downloaded, size, 'bytes of blobs downloaded');
    const stored = await verifiedBlobs(`${cache.data}/content/blobs`);
    for (const { digest } of [...manifestsOf(large), ...blobsOf(large)]) assert.ok(stored.has(digest), digest);

    await client.wipe();
    upstream.proxy.clear();
    await pull('cached');
    assert.equal(upstream.proxy.exchanges.length, 0, 'requests upstream for a cached image');
  });
}
