// Deleting a tag alone, at a registry that deletes by digest alone.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { errorAnswer } from '../../test/support/ghcr/faults.ts';
import { type Answer, answers } from '../../test/support/ghcr/ghcr.ts';
import { makeImage } from '../../test/support/images.ts';
import { APP, connectToGhcr, fails, manifestsIn, tagsIn } from '../../test/support/upstream-clients.ts';

describe('the delete of a tag at a registry that deletes by digest alone', () => {
  const image = makeImage({ layers: [], seed: 'tagged' });

  async function byDigestAlone(t: TestContext, answer: Answer) {
    const both = await connectToGhcr(t, { switches: { allowDelete: true } });
    both.ghcr.push(APP.name, image, 'v1', 'latest');
    both.ghcr.fault({ endpoint: 'manifest', method: 'DELETE', reference: 'v1', answer });
    return both;
  }

  for (const [how, answer] of [
    ['a 405', answers.unsupported],
    ['DIGEST_INVALID', answers.digestInvalid],
    ['TAG_INVALID', errorAnswer(400, 'TAG_INVALID', 'no')],
    ['a 400 without a code', { status: 400 }],
  ] as const) {
    test(`takes the tag alone, when it is rejected with ${how}`, async t => {
      const { ghcr, writes, reads } = await byDigestAlone(t, answer);
      assert.equal(await writes.deleteManifest(APP, { tag: 'v1' }), 'tag');
      assert.deepEqual(tagsIn(ghcr), { latest: image.manifest.digest });
      assert.deepEqual(manifestsIn(ghcr), [image.manifest.digest], 'what the tag was moved to is gone too');
      assert.deepEqual((await reads.getManifest(APP, { tag: 'latest' })).bytes, image.manifest.bytes);
    });
  }

  test('works twice, though the blob that it takes is then there', async t => {
    const { ghcr, writes } = await byDigestAlone(t, answers.unsupported);
    ghcr.setTag(APP.name, 'v2', image.manifest.digest);
    ghcr.fault({ endpoint: 'manifest', method: 'DELETE', reference: 'v2', answer: answers.unsupported });
    for (const tag of ['v1', 'v2']) assert.equal(await writes.deleteManifest(APP, { tag }), 'tag');
    assert.deepEqual(tagsIn(ghcr), { latest: image.manifest.digest });
    assert.equal(ghcr.count({ endpoint: 'upload', method: 'PUT' }), 1);
  });

  test('of an unknown tag says so, and makes nothing', async t => {
    const { ghcr, writes } = await byDigestAlone(t, answers.unsupported);
    ghcr.deleteTag(APP.name, 'v1');
    await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), fails('MANIFEST_UNKNOWN'));
    assert.deepEqual(tagsIn(ghcr), { latest: image.manifest.digest });
    assert.equal(ghcr.count({ method: 'PUT' }), 0);
  });

  for (const [how, answer, code] of [
    ['rejected', answers.unsupported, 'UNSUPPORTED'],
    ['denied', answers.denied, 'DENIED'],
    ['answered 503', answers.serverError(503), 'UPSTREAM_UNAVAILABLE'],
  ] as const) {
    test(`puts the tag back where it was when the manifest that it was moved to is not deleted (${how})`, async t => {
      const { ghcr, writes } = await byDigestAlone(t, answers.unsupported);
      ghcr.fault({ endpoint: 'manifest', method: 'DELETE', answer });
      await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), fails(code));
      assert.deepEqual(tagsIn(ghcr), { v1: image.manifest.digest, latest: image.manifest.digest });
    });
  }

  test('puts the tag back as soon as an upstream that fails for a while takes it', async t => {
    const { ghcr, writes } = await byDigestAlone(t, answers.unsupported);
    ghcr.fault({ endpoint: 'manifest', method: 'DELETE', answer: answers.serverError(503) });
    ghcr.fault({ endpoint: 'manifest', method: 'PUT', skip: 1, times: 5, answer: answers.serverError(502) });
    await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), fails('UPSTREAM_UNAVAILABLE', /503/));
    assert.deepEqual(tagsIn(ghcr), { v1: image.manifest.digest, latest: image.manifest.digest });
  });

  for (const [how, answer] of [
    ['is failing for long', answers.serverError(503)],
    ['denies it', answers.denied],
  ] as const) {
    test(`says what to push when the tag cannot be put back, because the upstream ${how}`, async t => {
      const { ghcr, writes } = await byDigestAlone(t, answers.unsupported);
      ghcr.fault({ endpoint: 'manifest', method: 'DELETE', answer: answers.denied });
      ghcr.fault({ endpoint: 'manifest', method: 'PUT', skip: 1, answer });
      const said = new RegExp(
        `owner/app:v1 could not be deleted, and now points to .*push ${image.manifest.digest} to it`,
      );
      await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), fails('UPSTREAM_UNAVAILABLE', said));
      assert.notEqual(tagsIn(ghcr).v1, image.manifest.digest);
      const puts = ghcr.count({ endpoint: 'manifest', method: 'PUT' });
      // Once more with another token, as always.
      if (answer === answers.denied) assert.ok(puts <= 3, `a denial was asked again, ${puts} times`);
      else assert.ok(puts < 40, 'it is given up');
    });
  }

  for (const code of ['DENIED', 'MANIFEST_UNKNOWN'] as const) {
    test(`is not tried when it is ${code}`, async t => {
      const { ghcr, writes } = await byDigestAlone(t, code === 'DENIED' ? answers.denied : answers.manifestUnknown);
      await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), fails(code));
      assert.equal(ghcr.count({ method: 'PUT' }), 0);
      assert.equal(ghcr.count({ method: 'GET', endpoint: 'manifest' }), 0);
    });
  }
});
