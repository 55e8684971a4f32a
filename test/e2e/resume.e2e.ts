// A download that breaks in the middle: the client's pull succeeds all the same, and the cache has asked
// its upstream for the rest only.
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
    assert.equal(downloads.length, 2, 'downloads of the layer: one that was cut, and one of the rest');
    const [cut, rest] = downloads;
    assert.equal(cut?.bodyBytes, cutAt);
    assert.equal(cut.range, undefined);
    assert.equal(rest?.status, 206);
    const from = Number(/^bytes=(\d+)-/.exec(rest.range ?? '')?.[1]);
    t.diagnostic(`cut after ${cutAt} bytes, went on from ${from}`);
    // What was still on its way inside the cache when the connection broke may be asked for again.
    assert.ok(from > 0 && from <= cutAt, `Range: ${rest.range}`);
    assert.equal(rest.bodyBytes, layer.size - from);
  });
}
