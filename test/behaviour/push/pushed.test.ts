// What was pushed, as clients find it afterwards: hits, the catalog, and nothing of it with `push: off`.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { makeImage, makeIndex, randomContent } from '../../support/images.ts';
import {
  assertCreated,
  assertError,
  assertPushed,
  filesIn,
  MIB,
  NAME,
  PushClient,
  sentenceOf,
  startPushing,
} from '../../support/push-client.ts';

describe('what was pushed is a hit', () => {
  test('without a request to the upstream', async t => {
    const both = await startPushing(t);
    const { ghcr, client } = both;
    const images = ['arm64', 'amd64'].map(architecture =>
      makeImage({ layers: [1000, 2 * MIB], platform: { os: 'linux', architecture } }),
    );
    const index = makeIndex(images);
    await client.image(index, 'v1');
    ghcr.resetCounters();
    const manifests = [
      ['v1', index] as const,
      ...[...images, index].map(each => [each.manifest.digest, each] as const),
    ];
    for (const [reference, { manifest }] of manifests) {
      const got = await client.get(`manifests/${reference}`);
      assert.deepEqual([got.headers['x-cache'], got.body], ['hit', manifest.bytes]);
      assert.equal(got.headers['docker-content-digest'], manifest.digest);
      assert.equal(got.headers['content-type'], manifest.mediaType);
    }
    for (const { config, layers } of images) for (const blob of [config, ...layers]) await assertPushed(both, blob);
    assert.equal(ghcr.requests.length, 0);
  });

  test('even if it was not found a moment before', async t => {
    const { ghcr, client } = await startPushing(t);
    const image = makeImage({ layers: [1000] });
    const layer = image.layers[0] ?? assert.fail();
    const paths = [`blobs/${layer.digest}`, 'manifests/v1', `manifests/${image.manifest.digest}`, 'tags/list'];
    for (const path of paths) {
      assert.equal((await client.head(path)).status, 404, path);
      assert.equal((await client.get(path)).status, 404, path);
    }
    await client.parts(image);
    for (const path of paths.slice(0, 1)) assert.equal((await client.get(path)).status, 200, path);
    assertCreated(await client.manifest(image.manifest, 'v1'));
    for (const path of paths) {
      assert.equal((await client.head(path)).status, 200, path);
      assert.equal((await client.get(path)).status, 200, path);
    }
    assert.deepEqual(await client.tags(), ['v1']);
    assert.equal(ghcr.count({ endpoint: 'blobhost' }), 0);
  });

  test('and is not found in another repository', async t => {
    const { cache, client } = await startPushing(t);
    const image = makeImage({ layers: [1000] });
    await client.image(image, 'v1');
    const other = new PushClient(cache.url, 'owner/other');
    for (const path of ['manifests/v1', `manifests/${image.manifest.digest}`, `blobs/${image.config.digest}`]) {
      assert.equal((await other.get(path)).status, 404, path);
    }
  });
});

describe('catalog', () => {
  test('lists what is here, in pages, with the name of the upstream unless it is the default one', async t => {
    const { ghcr, cache } = await startPushing(t, { otherNames: ['registry.example'] });
    const image = makeImage({ layers: [10] });
    const list = async (query: string) => {
      const got = await new PushClient(cache.url).get(`/v2/_catalog${query}`);
      assert.equal(got.status, 200, sentenceOf(got));
      return { found: JSON.parse(got.body.toString()).repositories, link: got.headers.link };
    };
    assert.deepEqual((await list('')).found, []);
    for (const name of ['b/app', 'a/app', 'a/b/c', 'registry.example/a/app']) {
      await new PushClient(cache.url, name).image(image, 'v1');
    }
    ghcr.push('pulled/app', image, 'v1');
    await new PushClient(cache.url, 'pulled/app').get('manifests/v1');
    const all = ['a/app', 'a/b/c', 'b/app', 'pulled/app', 'registry.example/a/app'];
    ghcr.resetCounters();
    assert.deepEqual(await list(''), { found: all, link: undefined });
    assert.deepEqual(await list('?n=2'), {
      found: all.slice(0, 2),
      link: '</v2/_catalog?n=2&last=a%2Fb%2Fc>; rel="next"',
    });
    assert.deepEqual(await list('?n=2&last=a%2Fb%2Fc'), {
      found: all.slice(2, 4),
      link: '</v2/_catalog?n=2&last=pulled%2Fapp>; rel="next"',
    });
    assert.deepEqual(await list('?n=2&last=pulled%2Fapp'), { found: all.slice(4), link: undefined });
    assert.deepEqual(await list('?n=5'), { found: all, link: undefined });
    assert.deepEqual((await list('?last=a/bz')).found, all.slice(2));
    assert.deepEqual(await list('?n=0'), { found: [], link: undefined });
    assert.deepEqual((await list('?ns=registry.example')).found, ['a/app']);
    assert.deepEqual(await list('?ns=ghcr.io&n=1'), {
      found: ['a/app'],
      link: '</v2/_catalog?n=1&last=a%2Fapp&ns=ghcr.io>; rel="next"',
    });
    const got = await new PushClient(cache.url).get('/v2/_catalog?n=many');
    assertError(got, 400, 'PAGINATION_NUMBER_INVALID', /many/);
    assert.equal(ghcr.requests.length, 0);
  });
});

describe('push: off', () => {
  test('nothing is written, and everything can be pulled', async t => {
    const { ghcr, cache, client } = await startPushing(t, { config: { push: 'off' } });
    const image = makeImage({ layers: [1000] });
    ghcr.push(NAME, image, 'v1');
    const before = ghcr.packages().length;
    const { digest } = randomContent(10);
    for (const [method, path] of [
      ['POST', 'blobs/uploads/'],
      ['POST', `blobs/uploads/?digest=${digest}`],
      ['POST', `blobs/uploads/?mount=${image.config.digest}&from=owner/other`],
      ['PATCH', 'blobs/uploads/x'],
      ['PUT', `blobs/uploads/x?digest=${digest}`],
      ['PUT', 'manifests/v2'],
      ['DELETE', 'manifests/v1'],
      ['DELETE', `manifests/${image.manifest.digest}`],
      ['DELETE', `blobs/${image.config.digest}`],
    ] as const) {
      const got = await client.ask(method, path, { body: method === 'DELETE' ? '' : Buffer.alloc(MIB) });
      assertError(got, 403, 'DENIED', /push: off/);
    }
    assert.equal(ghcr.requests.length, 0);
    assert.deepEqual(filesIn(cache, 'ingest'), []);
    assert.deepEqual((await client.get('manifests/v1')).body, image.manifest.bytes);
    assert.equal((await client.get(`blobs/${image.config.digest}`)).status, 200);
    assert.equal(ghcr.packages().length, before);
  });
});
