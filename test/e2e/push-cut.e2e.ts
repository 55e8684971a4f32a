// The connection to the upstream breaks in the middle of a layer, or the upstream is unavailable for a moment: the push
// succeeds nevertheless, and what the upstream then holds is right.
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cache } from './support/cache.ts';
import { Skopeo } from './support/clients/skopeo.ts';
import { assertSameImage } from './support/compare.ts';
import { blobsOf, image } from './support/images.ts';
import { pushedImage } from './support/pushed.ts';
import { Registry } from './support/registry.ts';
import { until } from './support/until.ts';
import { Upstream } from './support/upstream.ts';

const OUTAGE_MS = 1000;
const START_LIMIT_MS = 30_000;

for (const share of [0.1, 0.5, 0.99]) {
  test(`skopeo does not notice that its upload is cut at ${share * 100} %`, async t => {
    await using source = await Registry.start();
    await using upstream = await Upstream.startEmpty();
    await using cache = await Cache.start({ upstream: upstream.proxy.url, fresh: '1h' });
    await using skopeo = new Skopeo();
    const wanted = image('one-layer');
    const sizes = blobsOf(wanted).map(({ size }) => size);
    const cutAt = Math.floor(share * Math.max(...sizes));

    upstream.proxy.cutNextUpload(cutAt);
    const digest = await skopeo.push(source.host, wanted, cache.host, wanted.repository);
    assert.equal(digest, wanted.root.digest);
    const pushed = await pushedImage(upstream.witness.url, wanted.repository, wanted);
    assert.deepEqual(pushed, wanted);
    await assertSameImage(cache.url, upstream.witness.url, pushed);

    const cut = upstream.proxy.exchanges.filter(({ requestBytes }) => requestBytes === cutAt);
    assert.deepEqual(
      cut.map(({ status }) => status),
      [0],
      'statuses of uploads that were cut',
    );
    const size = sizes.reduce((sum, one) => sum + one, 0);
    t.diagnostic(`cut after ${cutAt} bytes; ${upstream.proxy.uploadedBytes} of ${size} were uploaded`);
    assert.equal(upstream.proxy.uploadedBytes, size + cutAt, 'the rest was uploaded once');
  });
}

test('skopeo does not notice that the upstream is unavailable for a moment', async () => {
  await using source = await Registry.start();
  await using upstream = await Upstream.startEmpty();
  await using cache = await Cache.start({ upstream: upstream.proxy.url, fresh: '1h' });
  await using skopeo = new Skopeo();
  const wanted = image('large');
  await skopeo.pull(source.host, wanted);

  const pushing = skopeo.pushAgain(wanted, cache.host, wanted.repository);
  const outage = async () => {
    // Not before skopeo has asked which layers exist already: it gives up when that fails.
    const hasStarted = () => upstream.proxy.uploadedBytes > 8 * 1024 * 1024;
    await until('8 MiB are uploaded', START_LIMIT_MS, hasStarted);
    await upstream.proxy.switchOff();
    await sleep(OUTAGE_MS);
    await upstream.proxy.switchOn();
  };
  const ended = outage();
  // Even if the push fails: the upstream cannot be stopped during the outage.
  const digest = await pushing.finally(() => ended);
  assert.equal(digest, wanted.root.digest);
  assert.deepEqual(await pushedImage(upstream.witness.url, wanted.repository, wanted), wanted);
});
