// Tags that are written once.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { errorOf } from '../../support/ghcr/ask.ts';
import { answers } from '../../support/ghcr/ghcr.ts';
import { makeImage } from '../../support/images.ts';
import {
  assertCreated,
  assertError,
  image,
  manifestOf,
  NAME,
  startPushing,
  startWithParts,
  upstreamTag,
} from '../../support/push-client.ts';

const other = makeImage({ layers: [10], seed: 'other' });
const start = (t: TestContext, rules: object[] = [{ match: 'v*', writeOnce: true }], allowDelete = true) =>
  startPushing(t, { config: { tags: rules }, fake: { switches: { allowDelete } } });

test('a tag that is written once takes the same manifest again, and no other', async t => {
  const { ghcr, client } = await start(t);
  await client.image(image, 'v1', 'latest');
  assertCreated(await client.manifest(image.manifest, 'v1'));
  await client.parts(other);
  const got = await client.manifest(other.manifest, 'v1');
  const sentence = 'exists, and the rule of tags for "v*" lets nobody move it (writeOnce); use another tag';
  assertError(got, 403, 'DENIED', new RegExp(`^ghcr.io/owner/app:v1 ${sentence.replace(/[*()]/g, '\\$&')}$`));
  assert.deepEqual((errorOf(got) as { detail?: unknown }).detail, { tag: 'v1', rule: 'v*' });
  assert.equal(upstreamTag(ghcr, 'v1'), image.manifest.digest);
  assertCreated(await client.manifest(other.manifest, 'latest'));
  assertCreated(await client.manifest(other.manifest, 'v2'));
});

test('a tag that was pushed by another way counts, and one that is gone is free', async t => {
  const { ghcr, client } = await start(t);
  await client.parts(other);
  ghcr.push(NAME, image, 'v1');
  assertError(await client.manifest(other.manifest, 'v1'), 403, 'DENIED', /move it/);
  ghcr.deleteTag(NAME, 'v1');
  assertCreated(await client.manifest(other.manifest, 'v1'));
});

test('where the tag points to is not known while the upstream fails, and it is not moved', async t => {
  const { ghcr, client } = await startWithParts(t, { config: { tags: [{ writeOnce: true }] } });
  ghcr.fault({ endpoint: 'manifest', method: 'GET', answer: answers.serverError() });
  assertError(await client.manifest(image.manifest, 'v1'), 502, 'UPSTREAM_UNAVAILABLE');
  assert.equal(ghcr.count({ endpoint: 'manifest', method: 'PUT' }), 0);
});

for (const kind of ['an ordinary registry', 'GitHub'] as const) {
  test(`neither the tag nor its manifest is deleted, at ${kind}; what has no such tag is`, async t => {
    const { ghcr, client } = await start(t, undefined, kind !== 'GitHub');
    await client.image(image, 'v1', 'latest');
    await client.image(other, 'other');
    for (const reference of ['v1', image.manifest.digest]) {
      assertError(
        await client.delete(`manifests/${reference}`),
        403,
        'DENIED',
        /app:v1 exists, .* delete it \(writeOnce\)/,
      );
    }
    assert.equal(upstreamTag(ghcr, 'v1'), image.manifest.digest);
    assert.equal((await client.delete(`manifests/${other.manifest.digest}`)).status, 202);
    assertError(await client.delete('manifests/v7'), 404, 'MANIFEST_UNKNOWN');
  });
}

test('no other digest of the manifest is a way to delete it', async t => {
  const { ghcr, client } = await start(t);
  await client.image(image, 'v1');
  const sha512 = digestOf(image.manifest.bytes, 'sha512');
  assertCreated(await client.manifest(image.manifest, sha512));
  assertError(await client.delete(`manifests/${sha512}`), 403, 'DENIED', /app:v1 exists, .* delete it/);
  assert.equal(upstreamTag(ghcr, 'v1'), image.manifest.digest);
});

test('tags under which referrers are kept grow, whatever the rule', async t => {
  const { client } = await start(t, [{ writeOnce: true }]);
  await client.image(image, 'v1');
  const tag = image.manifest.digest.replace(':', '-');
  const index = (annotation: string) =>
    manifestOf(
      {
        schemaVersion: 2,
        mediaType: 'application/vnd.oci.image.index.v1+json',
        manifests: [],
        annotations: { a: annotation },
      },
      'application/vnd.oci.image.index.v1+json',
    );
  for (const name of [tag, `${tag}.sig`]) {
    for (const annotation of ['one', 'two']) assertCreated(await client.manifest(index(annotation), name));
  }
});

test('without such a rule nothing more is asked of the upstream', async t => {
  const { ghcr, client } = await startWithParts(t);
  assertCreated(await client.manifest(image.manifest, 'v1'));
  assert.equal(ghcr.count({ endpoint: 'manifest' }), 1);
});
