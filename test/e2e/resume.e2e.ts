// A download that breaks off in the middle: the pull succeeds nevertheless, and the cache requested only the rest from
// its upstream.
import assert from 'node:assert/strict';
import test from 'node:test';
import { Cache } from './support/cache.ts';
import type { Client } from './support/clients/client.ts';
import { Containerd } from './support/clients/containerd.ts';
import { Docker } from './support/clients/docker.ts';
import { Skopeo } from './support/clients/skopeo.ts';
import { image } from './support/images.ts';
import { Upstream } from './support/upstream.ts';

const CLIENTS: Readonly<Record<string, () => Promise<Client>>> = {
  skopeo: async () => new Skopeo(),
  docker: Docker.start,
  containerd: Containerd.start,
};

for (const [name, start] of Object.entries(CLIENTS)) {
  test(`${name} does not notice that a download is cut`, async t => {
    await using upstream = await Upstream.start();
    await using cache = await Cache.start({ upstream: upstream.proxy.url, fresh: '1h' });
    await using client = await start();
    const wanted = image('medium');
    const layer = wanted.variants[0]?.layers[1];
    if (!layer) throw new Error('the image has no second layer');

    const cutAt = Math.floor(layer.size / 2);
    upstream.proxy.cutNext(`/blobs/${layer.digest}`, cutAt);
    await client.pull(cache.host, wanted);

    const downloads = upstream.proxy.of(layer.digest).filter(({ method }) => method === 'GET');
    assert.equal(downloads.length, 2, 'downloads of the layer: one cut, and one of the rest');
    const [cut, rest] = downloads;
    assert.equal(cut?.bodyBytes, cutAt);
    assert.equal(cut.range, undefined);
    assert.equal(rest?.status, 206);
    const from = Number(/^bytes=(\d+)-/.exec(rest.range ?? '')?.[1]);
    t.diagnostic(`cut after ${cutAt} bytes, resumed at ${from}`);
    // Bytes that were still in buffers when the connection broke may be requested again.
    assert.ok(from > 0 && from <= cutAt, `Range: ${rest.range}`);
    assert.equal(rest.bodyBytes, layer.size - from);
  });
}
