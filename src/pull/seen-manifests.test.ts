import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { type Image, makeImage } from '../../test/support/images.ts';
import type { Digest } from '../oci/digest.ts';
import { SeenManifests } from './seen-manifests.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };
const OTHER = { upstream: 'ghcr.io', name: 'owner/other' };

function setUp(...images: Image[]) {
  const manifests = new Map(images.map(({ manifest }) => [manifest.digest, manifest]));
  const reads: Digest[] = [];
  const clock = new TestClock();
  const look = async (_: unknown, digest: Digest) => {
    reads.push(digest);
    const found = manifests.get(digest);
    return found && { digest, mediaType: found.mediaType, bytes: Buffer.from(found.bytes) };
  };
  return { seen: new SeenManifests({ look }, clock), reads, clock };
}

const image = makeImage({ layers: [1_000, 2_000], seed: 'seen' });
const [layer] = image.layers;
assert.ok(layer);

describe('a manifest that a client was given', () => {
  test('tells what its blobs are, and how large they are said to be', async () => {
    const { seen } = setUp(image);
    seen.gave('client', APP, image.manifest.digest);
    const found = await seen.find('client', APP, layer.digest);
    assert.equal(found?.manifest.digest, image.manifest.digest);
    assert.deepEqual(
      [...(found?.blobs ?? [])],
      [image.config, ...image.layers].map(({ digest, sizeBytes }) => [digest, sizeBytes]),
    );
  });

  test('is read once, however many ask for whatever at a time and later', async () => {
    const { seen, reads } = setUp(image);
    seen.gave('client', APP, image.manifest.digest);
    const missing = image.manifest.digest;
    await Promise.all(Array.from({ length: 100 }, () => seen.find('client', APP, missing)));
    for (let i = 0; i < 10; i++) assert.equal(await seen.find('client', APP, missing), undefined);
    assert.equal(reads.length, 1);
  });

  test('is not looked into when it is larger than those of images are', async () => {
    const large = makeImage({ layers: Array.from({ length: 500 }, (_, i) => i), seed: 'large' });
    assert.ok(large.manifest.bytes.length > 64 * 1024);
    const { seen, reads } = setUp(large);
    seen.gave('client', APP, large.manifest.digest);
    for (let i = 0; i < 3; i++) assert.equal(await seen.find('client', APP, large.config.digest), undefined);
    assert.equal(reads.length, 1);
  });

  test('is for that client and repository, for ten minutes', async () => {
    const { seen, clock } = setUp(image);
    seen.gave('client', APP, image.manifest.digest);
    assert.equal(await seen.find('another', APP, layer.digest), undefined);
    assert.equal(await seen.find('client', OTHER, layer.digest), undefined);
    clock.advance(600_000);
    assert.equal(await seen.find('client', APP, layer.digest), undefined);
  });

  test('is not looked for any more behind six newer ones, and the newest that names a blob counts', async () => {
    const others = Array.from({ length: 6 }, (_, i) => makeImage({ layers: [1_000, 10 + i], seed: `other ${i}` }));
    const again = { ...makeImage({ layers: [5], seed: 'again' }) };
    const { seen } = setUp(image, again, ...others);
    seen.gave('client', APP, image.manifest.digest);
    for (const { manifest } of others.slice(1)) seen.gave('client', APP, manifest.digest);
    assert.ok(await seen.find('client', APP, layer.digest));
    seen.gave('client', APP, again.manifest.digest);
    assert.equal(await seen.find('client', APP, layer.digest), undefined);
  });

  test('is given again, and may be read ahead again, after a while', async () => {
    const { seen, clock } = setUp(image);
    seen.gave('client', APP, image.manifest.digest);
    const first = await seen.find('client', APP, layer.digest);
    assert.ok(first);
    first.manifest.isReadAhead = true;
    seen.gave('client', APP, image.manifest.digest);
    assert.equal((await seen.find('client', APP, layer.digest))?.manifest.isReadAhead, true);
    clock.advance(1_000);
    seen.gave('client', APP, image.manifest.digest);
    assert.equal((await seen.find('client', APP, layer.digest))?.manifest.isReadAhead, false);
  });
});
