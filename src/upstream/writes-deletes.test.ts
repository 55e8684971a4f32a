// Deletes: by the registry, and by GitHub where the registry does not.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Ghcr } from '../../test/support/ghcr/ghcr.ts';
import { makeImage } from '../../test/support/images.ts';
import { APP, connectToGhcr, fails, manifestsIn, scopesIn, tagsIn } from '../../test/support/upstream-clients.ts';

describe('a delete', () => {
  const [one, two] = [makeImage({ layers: [], seed: 'one' }), makeImage({ layers: [], seed: 'two' })];
  const push = (ghcr: Ghcr) => {
    ghcr.push(APP.name, one, 'v1', 'latest');
    ghcr.push(APP.name, two, 'v2');
  };

  test('of a digest takes the manifest with its tags, and asks for the right to it', async t => {
    const { ghcr, writes } = await connectToGhcr(t, { switches: { allowDelete: true } });
    push(ghcr);
    assert.equal(await writes.deleteManifest(APP, { digest: one.manifest.digest }), 'manifest');
    assert.deepEqual(tagsIn(ghcr), { v2: two.manifest.digest });
    const [token] = ghcr.requests.filter(({ endpoint }) => endpoint === 'token');
    assert.deepEqual(scopesIn(token?.path), ['repository:owner/app:*']);
    assert.equal(ghcr.count({ endpoint: 'api' }), 0);
  });

  test('of a tag takes the tag alone where the registry does that', async t => {
    const { ghcr, writes } = await connectToGhcr(t, { switches: { allowDelete: true } });
    push(ghcr);
    assert.equal(await writes.deleteManifest(APP, { tag: 'v1' }), 'tag');
    assert.deepEqual(tagsIn(ghcr), { latest: one.manifest.digest, v2: two.manifest.digest });
    assert.equal(ghcr.count({ endpoint: 'manifest' }), 1);
  });

  test('of a blob', async t => {
    const { ghcr, writes } = await connectToGhcr(t, { switches: { allowDelete: true } });
    push(ghcr);
    const { digest } = one.config;
    await writes.deleteBlob(APP, digest);
    assert.equal(await writes.holdsBlob(APP, digest), false);
    await assert.rejects(writes.deleteBlob(APP, digest), fails('BLOB_UNKNOWN'));
  });

  test('of what does not exist says so', async t => {
    const { writes } = await connectToGhcr(t, { switches: { allowDelete: true } });
    const unknown = fails('MANIFEST_UNKNOWN');
    await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), unknown);
    await assert.rejects(writes.deleteManifest(APP, { digest: one.manifest.digest }), unknown);
  });

  test("goes to GitHub's package API where the registry answers 405", async t => {
    const { ghcr, writes } = await connectToGhcr(t, { withApi: true });
    push(ghcr);
    assert.equal(await writes.deleteManifest(APP, { digest: one.manifest.digest }), 'manifest');
    assert.deepEqual(manifestsIn(ghcr), [two.manifest.digest]);
    push(ghcr);
    assert.equal(await writes.deleteManifest(APP, { tag: 'v2' }), 'manifest');
    assert.deepEqual(manifestsIn(ghcr), [one.manifest.digest]);
    assert.equal(ghcr.count({ endpoint: 'manifest', method: 'PUT' }), 0, 'no tag was moved');
  });

  test('of a tag that shares its version is not done by it', async t => {
    const { ghcr, writes } = await connectToGhcr(t, { withApi: true });
    push(ghcr);
    await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), fails('UNSUPPORTED', /latest would go too/));
    assert.deepEqual(Object.keys(tagsIn(ghcr)), ['v1', 'latest', 'v2']);
  });

  test('is UNSUPPORTED where there is no package API', async t => {
    const { ghcr, writes } = await connectToGhcr(t);
    push(ghcr);
    await assert.rejects(writes.deleteManifest(APP, { digest: one.manifest.digest }), fails('UNSUPPORTED'));
    await assert.rejects(writes.deleteBlob(APP, one.config.digest), fails('UNSUPPORTED'));
    assert.equal(manifestsIn(ghcr).length, 2);
  });
});
