// Blobs that no client sends: mounted from other repositories, and restored to an upstream that has lost them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { bytesOf, makeImage, makeIndex, randomContent } from '../../support/images.ts';
import {
  assertCreated,
  assertError,
  assertPushed,
  contentOnDisk,
  image,
  LIMIT,
  locationOf,
  MIB,
  NAME,
  PushClient,
  packageOf,
  sentenceOf,
  startPushing,
  upstreamBlob,
  upstreamTag,
} from '../../support/push-client.ts';

describe('mounts', () => {
  const blob = randomContent(1.5 * MIB, 'mounted');
  const SOURCE = 'other/base';

  test('from a named repository: done by the upstream, without a byte, and a hit if the content is here', async t => {
    for (const [name, from, query] of [
      [NAME, SOURCE, ''],
      [`ghcr.io/${NAME}`, `ghcr.io/${SOURCE}`, ''],
      [NAME, SOURCE, '?ns=ghcr.io'],
    ] as const) {
      const both = await startPushing(t);
      const { ghcr, cache } = both;
      ghcr.addBlob(SOURCE, blob);
      const client = new PushClient(cache.url, name, query === '' ? undefined : 'ghcr.io');
      await new PushClient(cache.url, SOURCE).get(`blobs/${blob.digest}`);
      await cache.settled();
      ghcr.resetCounters();
      const got = await client.start({ mount: blob.digest, from });
      assertCreated(got);
      assert.equal(got.headers.location, `/v2/${name}/blobs/${blob.digest}${query}`);
      assert.equal(got.headers['docker-content-digest'], blob.digest);
      const [asked] = ghcr.requests.filter(({ endpoint }) => endpoint === 'upload-start');
      assert.match(asked?.path ?? '', /mount=sha256(:|%3A)[0-9a-f]{64}&from=other(\/|%2F)base$/);
      const scopes = ghcr.requests.filter(({ endpoint }) => endpoint === 'token').map(({ path }) => path);
      assert(scopes.some(path => decodeURIComponent(path).includes(`repository:${SOURCE}:pull`)));
      assert.equal(ghcr.received(), 0);
      await assertPushed(both, blob);
    }
  });

  test('of content that is not here: done all the same', async t => {
    const { ghcr, cache, client } = await startPushing(t);
    ghcr.addBlob(SOURCE, blob);
    assertCreated(await client.start({ mount: blob.digest, from: SOURCE }));
    assert.deepEqual(await contentOnDisk(cache), []);
    assert((await client.get(`blobs/${blob.digest}`)).body.equals(bytesOf(blob)));
  });

  test('from any repository: of what was pulled or pushed here', async t => {
    const both = await startPushing(t);
    assertCreated(await new PushClient(both.cache.url, SOURCE).stream(blob));
    both.ghcr.resetCounters();
    assertCreated(await both.client.start({ mount: blob.digest }));
    assert.equal(both.ghcr.received(), 0);
    await assertPushed(both, blob);
  });

  test('of what cannot be mounted: an upload is opened', async t => {
    const both = await startPushing(t, { otherNames: ['registry.example'] });
    const { ghcr, cache, client } = both;
    ghcr.addBlob(SOURCE, blob);
    const queries: Record<string, string>[] = [
      { mount: blob.digest, from: 'other/none' },
      { mount: blob.digest },
      { mount: randomContent(5, 'unknown').digest, from: SOURCE },
      { mount: blob.digest, from: `registry.example/${SOURCE}` },
    ];
    for (const query of queries) {
      const got = await client.start(query);
      assert.equal(got.status, 202, sentenceOf(got));
      assert.match(String(got.headers.location), new RegExp(`^/v2/${NAME}/blobs/uploads/[0-9a-f-]{36}$`));
      const small = randomContent(1000, JSON.stringify(query));
      assertCreated(await client.finish(locationOf(got), small.digest, bytesOf(small)));
      await assertPushed(both, small);
    }
    assert.equal(upstreamBlob(ghcr, blob), undefined);
    assert(!(await contentOnDisk(cache)).includes(blob.digest));
    assertError(await client.start({ mount: 'sha256:x', from: SOURCE }), 400, 'DIGEST_INVALID');
    assertError(await client.start({ mount: blob.digest, from: 'Not/A//Name' }), 400, 'NAME_INVALID');
  });

  test('where the upstream does not mount: sent from here, not by the client', LIMIT, async t => {
    const both = await startPushing(t);
    const { ghcr, cache, client } = both;
    assertCreated(await new PushClient(cache.url, SOURCE).stream(blob));
    ghcr.resetCounters();
    const location = { location: `/v2/${NAME}/blobs/upload/instead` };
    ghcr.fault({ endpoint: 'upload-start', digest: blob.digest, answer: { status: 202, headers: location } });
    assertCreated(await client.start({ mount: blob.digest, from: SOURCE }));
    assert.equal(ghcr.received(), blob.sizeBytes);
    await assertPushed(both, blob);
    // The upload that the upstream opened instead is cancelled.
    await ghcr.until({ endpoint: 'upload', upload: 'instead', method: 'DELETE' });
  });

  test('that the upstream only claims: an upload is opened', async t => {
    const { ghcr, client } = await startPushing(t);
    ghcr.addBlob(SOURCE, blob);
    ghcr.fault({ endpoint: 'upload-start', digest: blob.digest, answer: { status: 201 } });
    assert.equal((await client.start({ mount: blob.digest, from: SOURCE })).status, 202);
    assert.equal((await client.head(`blobs/${blob.digest}`)).status, 404);
  });
});

describe('content that the upstream has lost', () => {
  test('when a package was deleted there: pushing its manifest again restores it', async t => {
    const both = await startPushing(t);
    const { ghcr, client } = both;
    const index = makeIndex([image, makeImage({ layers: [2 * MIB], seed: 'second' })]);
    await client.image(index, 'v1');
    ghcr.deletePackage(NAME);
    // As docker does: what a HEAD finds is not sent.
    for (const each of index.images) {
      if (!('layers' in each)) continue;
      for (const blob of [each.config, ...each.layers]) {
        if ((await client.head(`blobs/${blob.digest}`)).status !== 200) assertCreated(await client.stream(blob));
      }
      if ((await client.head(`manifests/${each.manifest.digest}`)).status !== 200) {
        assertCreated(await client.manifest(each.manifest));
      }
    }
    assertCreated(await client.manifest(index.manifest, 'v1'));
    assert.equal(upstreamTag(ghcr, 'v1'), index.manifest.digest);
    for (const { manifest } of index.images) assert(packageOf(ghcr)?.manifests.has(manifest.digest));
    await assertPushed(both, image.config);
  });
});
