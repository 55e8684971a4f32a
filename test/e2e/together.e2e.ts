// Many clients pull the same image at once, with an empty cache: all of them get it, and each byte is downloaded once.
import assert from 'node:assert/strict';
import test from 'node:test';
import { Cache } from './support/cache.ts';
import { Containerd } from './support/clients/containerd.ts';
import { Docker } from './support/clients/docker.ts';
import { Podman } from './support/clients/podman.ts';
import { Skopeo } from './support/clients/skopeo.ts';
import { blobsOf, image } from './support/images.ts';
import { Upstream } from './support/upstream.ts';

const SKOPEOS = 6;

test('clients that pull together share one download', async () => {
  await using upstream = await Upstream.start();
  await using cache = await Cache.start({ upstream: upstream.proxy.url, fresh: '1h' });
  await using podman = new Podman();
  await using docker = await Docker.start();
  await using containerd = await Containerd.start();
  const skopeos = Array.from({ length: SKOPEOS }, () => new Skopeo());
  const wanted = image('medium');

  const clients = [...skopeos, podman, docker, containerd];
  // Even if one fails, all must finish: a client hangs when its engine is stopped under it.
  const pulls = await Promise.allSettled(clients.map(client => client.pull(cache.host, wanted)));
  for (const pull of pulls) if (pull.status === 'rejected') throw pull.reason;

  for (const { digest, size } of blobsOf(wanted)) {
    const downloads = upstream.proxy.of(digest).filter(({ method }) => method === 'GET');
    assert.deepEqual(
      downloads.map(({ bodyBytes }) => bodyBytes),
      [size],
      `downloads of ${digest}`,
    );
  }
  const requests = upstream.proxy.of('/manifests/');
  assert.ok(requests.length <= 2, `${requests.length} upstream requests for manifests`);
});
