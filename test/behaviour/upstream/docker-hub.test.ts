// Docker Hub counts each GET of a manifest as a pull, and no HEAD.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBoth } from '../../support/cache.ts';
import { startGhcr } from '../../support/ghcr/ghcr.ts';
import { makeImage } from '../../support/images.ts';

test('a tag of Docker Hub is confirmed by HEAD, and fetched by GET only when it has moved', async t => {
  const hub = await startGhcr();
  t.after(() => hub.close());
  const { cache, clock } = await startBoth(t, {
    config: { upstreams: { 'docker.io': { url: hub.url } } },
  });
  const image = makeImage({ layers: [] });
  const moved = makeImage({ layers: [], seed: 'moved' });
  hub.push('library/app', image, 'v1');
  const pull = async () => {
    clock.advance(61_000);
    const reply = await cache.get('/v2/docker.io/library/app/manifests/v1');
    assert.equal(reply.status, 200);
    return reply;
  };
  const asked = (method: string) => hub.count({ endpoint: 'manifest', method });
  await pull();
  for (let i = 1; i <= 3; i++) {
    assert.equal((await pull()).headers['x-cache'], 'revalidated');
    assert.deepEqual([asked('GET'), asked('HEAD')], [1, i]);
  }
  hub.push('library/app', moved, 'v1');
  assert.deepEqual((await pull()).body, moved.manifest.bytes);
  assert.deepEqual([asked('GET'), asked('HEAD')], [2, 4]);
});
