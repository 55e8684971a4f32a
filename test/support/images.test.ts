// The images that tests are made of: the same arguments always give the same bytes, and manifests describe them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../../src/oci/digest.ts';
import { bytesOf, contentOf, makeImage, makeIndex, randomContent } from './images.ts';

test('the same arguments give the same bytes, others give others', () => {
  assert.equal(randomContent(5000, 'a').digest, randomContent(5000, 'a').digest);
  assert.notEqual(randomContent(5000, 'a').digest, randomContent(5000, 'b').digest);
  assert.match(randomContent(5000, 'a', 'sha512').digest, /^sha512:[0-9a-f]{128}$/);
});

test('any part of content that spans many blocks is right', () => {
  const content = randomContent(5_000_000);
  const whole = bytesOf(content);
  assert.equal(whole.length, 5_000_000);
  assert.equal(digestOf(whole), content.digest);
  for (const [start, end] of [
    [0, 0],
    [1_048_582, 1_048_584],
    [3_000_000, 5_000_000],
  ] as const) {
    assert.deepEqual(bytesOf(content, start, end), whole.subarray(start, end));
  }
});

test('manifests describe their parts', () => {
  for (const type of ['oci', 'docker'] as const) {
    const made = makeImage({ layers: [10, Buffer.from('x'), contentOf('y')], type, algorithm: 'sha512' });
    const manifest = JSON.parse(made.manifest.bytes.toString());
    assert.equal(manifest.mediaType, made.manifest.mediaType);
    assert.equal(manifest.config.digest, made.config.digest);
    assert.deepEqual(
      manifest.layers.map(({ digest, size }: { digest: string; size: number }) => [digest, size]),
      made.layers.map(({ digest, sizeBytes }) => [digest, sizeBytes]),
    );
    const index = JSON.parse(makeIndex([made], { type }).manifest.bytes.toString());
    assert.equal(index.manifests[0].digest, made.manifest.digest);
    assert.deepEqual(index.manifests[0].platform, { os: 'linux', architecture: 'amd64' });
  }
});
