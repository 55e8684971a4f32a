// Uploads that outlive the process, and what a restart finds and removes.
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { until } from '../../support/async.ts';
import type { Switches } from '../../support/ghcr/ghcr.ts';
import { bytesOf, makeImage, randomContent } from '../../support/images.ts';
import {
  ALL_DIGESTS,
  assertCreated,
  assertError,
  assertPushed,
  dataDirectory,
  filesIn,
  idOf,
  LIMIT,
  large,
  MIB,
  PATIENT,
  PushClient,
  small,
  startPushing,
} from '../../support/push-client.ts';

describe('a restart', () => {
  test('resumes uploads at their offset, under their address, by either algorithm', async t => {
    const data = dataDirectory(t);
    const both = await startPushing(t, { data, fake: { switches: ALL_DIGESTS } });
    for (const algorithm of ['sha256', 'sha512'] as const) {
      for (const sizeBytes of algorithm === 'sha512' ? [3000] : [3000, 1.5 * MIB]) {
        const blob = randomContent(sizeBytes, 'restarted', algorithm);
        const bytes = bytesOf(blob);
        let { cache } = both;
        let { client } = both;
        const restart = async () => {
          await cache.stop();
          cache = await both.startCache(data);
          client = new PushClient(cache.url);
        };
        await restart();
        const location = (await client.open({ 'digest-algorithm': algorithm })).replace(cache.url, '');
        const cuts = [0, sizeBytes / 3, (sizeBytes / 3) * 2];
        for (const [i, first] of cuts.entries()) {
          assert.equal(await client.offset(location), first);
          const chunk = bytes.subarray(first, cuts[i + 1]);
          assert.equal((await client.patch(location, chunk, i === 1 ? undefined : first)).status, 202);
          await restart();
        }
        assert.equal(await client.offset(location), sizeBytes);
        assertCreated(await client.finish(location, blob.digest));
        await assertPushed({ ghcr: both.ghcr, cache }, blob);
        assert.deepEqual(filesIn(cache, 'ingest'), []);
        await cache.stop();
      }
    }
  });

  test('keeps what was pushed, also with the upstream unavailable', async t => {
    const data = dataDirectory(t);
    const both = await startPushing(t, { data });
    const image = makeImage({ layers: [1000, 2 * MIB] });
    await both.client.image(image, 'v1');
    await both.cache.stop();
    await both.ghcr.stop();
    const client = new PushClient((await both.startCache(data)).url);
    const got = await client.get('manifests/v1');
    assert.deepEqual([got.headers['x-cache'], got.body], ['hit', image.manifest.bytes]);
    for (const blob of image.layers) {
      const layer = await client.get(`blobs/${blob.digest}`);
      assert(layer.headers['x-cache'] === 'hit' && layer.body.equals(bytesOf(blob)));
    }
  });

  test('removes what cannot be resumed', async t => {
    const data = dataDirectory(t);
    const both = await startPushing(t, { data });
    const [kept, lost] = [await both.client.open(), await both.client.open()];
    for (const location of [kept, lost]) await both.client.patch(location, 'bytes');
    const finished = randomContent(1000, 'finished');
    assertCreated(await both.client.stream(finished));
    await both.cache.stop();
    writeFileSync(join(data, 'ingest', '123-4'), 'what an ingest without a name has left');
    writeFileSync(join(data, 'ingest', '00000000-0000-0000-0000-000000000000'), 'an upload that has no record');
    rmSync(join(data, 'ingest', idOf(lost)));
    const second = await both.startCache(data);
    assert.deepEqual(filesIn(second, 'ingest'), [idOf(kept)]);
    const client = new PushClient(second.url);
    assert.equal(await client.offset(kept), 5);
    assertError(await client.get(lost), 404, 'BLOB_UPLOAD_UNKNOWN');
  });

  test('is no reason to keep abandoned uploads longer, whatever becomes of the wall clock', async t => {
    const data = dataDirectory(t);
    const both = await startPushing(t, { data });
    await both.client.patch(await both.client.open(), 'bytes');
    await both.cache.stop();
    const second = await both.startCache(data);
    both.clock.set(-3_600_000);
    both.clock.advance(3_600_001);
    await until(() => filesIn(second, 'ingest').length === 0);
    await second.stop();
    both.clock.advance(25 * 3_600_000);
    assert.deepEqual(filesIn(await both.startCache(data), 'ingest'), []);
  });
});

describe('a process that shuts down', () => {
  test('does not wait for a slow upstream, and its uploads can be resumed', LIMIT, async t => {
    const switches: Partial<Switches> = { uploadTtlMs: 3600_000 };
    for (const blob of [small, large]) {
      const data = dataDirectory(t);
      const both = await startPushing(t, { data, timeouts: PATIENT, fake: { switches } });
      const location = (await both.client.open()).replace(both.cache.url, '');
      await both.client.patch(location, bytesOf(blob));
      const hang = both.ghcr.fault({ endpoint: 'upload', method: 'PUT', hang: true });
      const closing = both.client.finish(location, blob.digest);
      await hang.reached();
      const beganMs = performance.now();
      await both.cache.stop();
      assert(performance.now() - beganMs < PATIENT.uploadMs / 2);
      assert.notEqual((await closing).status, 201);
      hang.remove();
      const cache = await both.startCache(data);
      const client = new PushClient(cache.url);
      assert.equal(await client.offset(location), blob.sizeBytes);
      assertCreated(await client.finish(location, blob.digest));
      await assertPushed({ ghcr: both.ghcr, cache }, blob);
    }
  });
});
