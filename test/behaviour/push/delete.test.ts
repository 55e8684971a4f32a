// Deletes, of an ordinary registry and through GitHub's package interface.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { errorOf } from '../../support/ghcr/ask.ts';
import { answers } from '../../support/ghcr/ghcr.ts';
import { makeImage } from '../../support/images.ts';
import {
  assertCreated,
  assertError,
  assertPushed,
  contentOnDisk,
  image,
  manifestOf,
  NAME,
  PushClient,
  type PushOptions,
  packageOf,
  sentenceOf,
  startPushing,
  upstreamTag,
  WRITER,
} from '../../support/push-client.ts';

const fields = JSON.parse(image.manifest.bytes.toString());

describe('deletes of an ordinary registry', () => {
  const start = (t: TestContext) => startPushing(t, { fake: { switches: { allowDelete: true } } });

  test('of a tag: only the tag is gone, at once', async t => {
    const { ghcr, client } = await start(t);
    await client.image(image, 'v1', 'v2');
    assert.equal((await client.get('manifests/v1')).status, 200);
    const got = await client.delete('manifests/v1');
    assert.deepEqual([got.status, got.body.length], [202, 0], sentenceOf(got));
    assert.equal(upstreamTag(ghcr, 'v1'), undefined);
    for (const method of ['GET', 'HEAD']) assert.equal((await client.ask(method, 'manifests/v1')).status, 404);
    assert.deepEqual(await client.tags(), ['v2']);
    for (const reference of ['v2', image.manifest.digest]) {
      assert.equal((await client.get(`manifests/${reference}`)).headers['x-cache'], 'hit');
    }
    assertError(await client.delete('manifests/v1'), 404, 'MANIFEST_UNKNOWN');
    assertCreated(await client.manifest(image.manifest, 'v1'));
    assert.equal((await client.get('manifests/v1')).status, 200);
  });

  test('of a manifest: it and its tags are gone, at once', async t => {
    const { ghcr, cache, client } = await start(t);
    const other = makeImage({ layers: [10], seed: 'other' });
    await client.image(image, 'v1', 'v2');
    await client.image(other, 'other');
    const { digest } = image.manifest;
    assert.equal((await client.delete(`manifests/${digest}`)).status, 202);
    assert.equal(packageOf(ghcr)?.manifests.has(digest), false);
    for (const reference of [digest, 'v1', 'v2']) {
      for (const method of ['GET', 'HEAD'])
        assert.equal((await client.ask(method, `manifests/${reference}`)).status, 404);
    }
    assert.deepEqual(await client.tags(), ['other']);
    assert(!(await contentOnDisk(cache)).includes(digest));
    assertError(await client.delete(`manifests/${digest}`), 404, 'MANIFEST_UNKNOWN');
    await client.image(image, 'v1');
    assert.equal((await client.get('manifests/v1')).status, 200);
  });

  test('of a blob: it is gone, at once, and can be pushed again', async t => {
    const both = await start(t);
    const { ghcr, cache, client } = both;
    const blob = image.layers[0] ?? assert.fail();
    for (let round = 0; round < 2; round++) {
      assertCreated(await client.stream(blob));
      await assertPushed(both, blob);
      assert.equal((await client.delete(`blobs/${blob.digest}`)).status, 202);
      assert.equal(packageOf(ghcr)?.blobs.has(blob.digest), false);
      for (const method of ['GET', 'HEAD'])
        assert.equal((await client.ask(method, `blobs/${blob.digest}`)).status, 404);
      assert.deepEqual(await contentOnDisk(cache), []);
      assertError(await client.delete(`blobs/${blob.digest}`), 404, 'BLOB_UNKNOWN');
    }
  });

  test('of content that another repository links: it stays there, and is served', async t => {
    const both = await start(t);
    const { cache, client } = both;
    const other = new PushClient(cache.url, 'owner/other');
    for (const each of [client, other]) await each.image(image, 'v1');
    const blob = image.layers[0] ?? assert.fail();
    assert.equal((await client.delete(`manifests/${image.manifest.digest}`)).status, 202);
    assert.equal((await client.delete(`blobs/${blob.digest}`)).status, 202);
    for (const path of ['manifests/v1', `manifests/${image.manifest.digest}`, `blobs/${blob.digest}`]) {
      assert.equal((await client.get(path)).status, 404, path);
      assert.equal((await other.get(path)).headers['x-cache'], 'hit', path);
    }
    await assertPushed(both, blob, 'owner/other');
  });

  test('of what the upstream has lost: 404, and it is not served any more', async t => {
    const { ghcr, client } = await start(t);
    await client.image(image, 'v1', 'v2');
    const blob = image.layers[0] ?? assert.fail();
    assert.deepEqual(await client.tags(), ['v1', 'v2']);
    ghcr.deleteTag(NAME, 'v2');
    assertError(await client.delete('manifests/v2'), 404, 'MANIFEST_UNKNOWN');
    assert.deepEqual(await client.tags(), ['v1']);
    ghcr.deleteManifest(NAME, image.manifest.digest);
    ghcr.deleteBlob(NAME, blob.digest);
    for (const path of [`manifests/${image.manifest.digest}`, `blobs/${blob.digest}`]) {
      assert.equal((await client.get(path)).status, 200);
      assert.equal((await client.delete(path)).status, 404);
      assert.equal((await client.get(path)).status, 404);
    }
    for (const tag of ['v1', 'v2']) assert.equal((await client.get(`manifests/${tag}`)).status, 404);
  });

  for (const answer of [answers.unsupported, answers.digestInvalid]) {
    test(`of a tag, where manifests are deleted by digest only (${answer.status}): the manifest stays`, async t => {
      const both = await startPushing(t, {
        fake: { switches: { allowDelete: true } },
        otherNames: ['registry.example'],
      });
      const { ghcr, cache } = both;
      const client = new PushClient(cache.url, `registry.example/${NAME}`);
      await client.image(image, 'v1', 'v2');
      ghcr.fault({ endpoint: 'manifest', method: 'DELETE', reference: 'v1', answer });
      const got = await client.delete('manifests/v1');
      assert.equal(got.status, 202, sentenceOf(got));
      assert.equal((await client.get('manifests/v1')).status, 404);
      assert.deepEqual(await client.tags(), ['v2']);
      assert.deepEqual([...(packageOf(ghcr)?.tags.keys() ?? [])], ['v2']);
      assert.deepEqual([...(packageOf(ghcr)?.manifests.keys() ?? [])], [image.manifest.digest]);
      assert.deepEqual((await client.get('manifests/v2')).body, image.manifest.bytes);
    });
  }

  test('of a tag, where nothing can be deleted: the tag stays where it was', async t => {
    const { ghcr, cache } = await startPushing(t, { otherNames: ['registry.example'] });
    const client = new PushClient(cache.url, `registry.example/${NAME}`);
    await client.image(image, 'v1', 'v2');
    assertError(await client.delete('manifests/v1'), 405, 'UNSUPPORTED');
    assert.equal(upstreamTag(ghcr, 'v1'), image.manifest.digest);
    assert.deepEqual((await client.get('manifests/v1')).body, image.manifest.bytes);
    assertError(await client.delete(`manifests/${image.manifest.digest}`), 405, 'UNSUPPORTED');
    assertError(await client.delete(`blobs/${image.config.digest}`), 405, 'UNSUPPORTED');
    assert.equal((await client.get(`blobs/${image.config.digest}`)).headers['x-cache'], 'hit');
  });
});

describe('deletes through the package API', () => {
  const images = ['a', 'b', 'c'].map(seed => makeImage({ layers: [10], seed }));
  const at = (i: number) => images[i] ?? assert.fail();

  async function startFilled(t: TestContext, name = NAME, options: PushOptions = {}) {
    const both = await startPushing(t, options);
    const client = new PushClient(both.cache.url, name);
    for (const [i, each] of images.entries()) await client.image(each, `v${i}`);
    both.ghcr.resetCounters();
    return { ...both, client };
  }

  for (const [kind, name] of [
    ['an organisation', NAME],
    ['an organisation, in a team', 'owner/team/app'],
    ['a user', 'octocat/app'],
  ] as const) {
    test(`of ${kind}: by digest and by tag`, async t => {
      const { ghcr, cache, client } = await startFilled(t, name);
      const path = `manifests/${at(0).manifest.digest}`;
      const got = await client.delete(path);
      assert.equal(got.status, 202, sentenceOf(got));
      assert.equal((await client.delete('manifests/v1')).status, 202);
      assert.deepEqual([...(packageOf(ghcr, name)?.tags ?? [])], [['v2', at(2).manifest.digest]]);
      assert.deepEqual([...(packageOf(ghcr, name)?.manifests.keys() ?? [])], [at(2).manifest.digest]);
      for (const gone of [path, 'manifests/v0', 'manifests/v1', `manifests/${at(1).manifest.digest}`]) {
        assert.equal((await client.get(gone)).status, 404, gone);
      }
      assert.deepEqual(await client.tags(), ['v2']);
      const disk = await contentOnDisk(cache);
      for (const each of [at(0), at(1)]) assert(!disk.includes(each.manifest.digest));
      assertError(await client.delete(path), 404, 'MANIFEST_UNKNOWN', /credential "ci"/);
      assertError(await client.delete('manifests/v1'), 404, 'MANIFEST_UNKNOWN');
    });
  }

  test('find versions that are not on the first page', async t => {
    const { ghcr, client } = await startFilled(t);
    for (let i = 0; i < 210; i++) {
      const manifest = manifestOf({ ...fields, annotations: { number: `${i}` } });
      ghcr.push(NAME, { ...image, manifest }, `n${i}`);
    }
    assert.equal((await client.delete(`manifests/${at(0).manifest.digest}`)).status, 202);
    assert.equal((await client.delete('manifests/v1')).status, 202);
    assert.deepEqual([upstreamTag(ghcr, 'v0'), upstreamTag(ghcr, 'v1')], [undefined, undefined]);
    assert.equal(packageOf(ghcr)?.tags.size, 211);
  });

  test('do not delete a tag that shares its version, and name the others', async t => {
    const { ghcr, client } = await startFilled(t);
    for (const tag of ['latest', 'stable']) assertCreated(await client.manifest(at(1).manifest, tag));
    const got = await client.delete('manifests/v1');
    assertError(got, 405, 'UNSUPPORTED', /latest, stable would go too/, /by its digest/);
    assert.deepEqual((errorOf(got) as { detail?: unknown }).detail, {
      digest: at(1).manifest.digest,
      tags: ['v1', 'latest', 'stable'],
    });
    for (const tag of ['v1', 'latest', 'stable']) {
      assert.equal(upstreamTag(ghcr, tag), at(1).manifest.digest);
      assert.equal((await client.get(`manifests/${tag}`)).status, 200);
    }
    assert.equal((await client.delete(`manifests/${at(1).manifest.digest}`)).status, 202);
    for (const tag of ['v1', 'latest', 'stable']) assert.equal((await client.get(`manifests/${tag}`)).status, 404);
  });

  test('say what GitHub does not allow, and nothing is gone', async t => {
    const rights = /"ci".*read:packages and delete:packages/;
    const rows: [string, PushOptions, number, string, RegExp][] = [
      ['no right to delete', { user: { ...WRITER, scopes: ['write:packages'] } }, 403, 'DENIED', rights],
      [
        'single sign-on',
        { fake: { switches: { singleSignOn: 'required' } } },
        403,
        'DENIED',
        /credential "ci".*single sign-on/,
      ],
      [
        'many downloads',
        { fake: { switches: { downloadsOf: () => 5001 } } },
        405,
        'UNSUPPORTED',
        /more than 5000 downloads/,
      ],
    ];
    for (const [name, options, status, code, says] of rows) {
      const { ghcr, client } = await startFilled(t, NAME, options);
      ghcr.addPackage(NAME, { visibility: 'public' });
      for (const reference of ['v0', at(0).manifest.digest]) {
        const got = await client.delete(`manifests/${reference}`);
        assert.equal(got.status, status, `${name} ${sentenceOf(got)}`);
        assertError(got, status, code, says);
        assert.equal((await client.get(`manifests/${reference}`)).status, 200);
      }
      assert.equal(upstreamTag(ghcr, 'v0'), at(0).manifest.digest);
    }
  });

  test('need the rights that GitHub wants for them, not the right to push', async t => {
    const { ghcr, client } = await startPushing(t, {
      user: { ...WRITER, scopes: ['read:packages', 'delete:packages'] },
    });
    for (const [i, each] of images.entries()) ghcr.push(NAME, each, `v${i}`);
    assert.equal((await client.delete('manifests/v0')).status, 202);
    assert.equal((await client.delete(`manifests/${at(1).manifest.digest}`)).status, 202);
    assert.deepEqual([...(packageOf(ghcr)?.tags.keys() ?? [])], ['v2']);
  });

  test('of the last version fail, and so do those of the last with a tag', async t => {
    const { ghcr, client } = await startFilled(t);
    for (const tag of ['v0', 'v1']) assert.equal((await client.delete(`manifests/${tag}`)).status, 202);
    assertError(await client.delete('manifests/v2'), 405, 'UNSUPPORTED', /delete the package instead/);
    assert.equal(upstreamTag(ghcr, 'v2'), at(2).manifest.digest);
    assert.equal((await client.get('manifests/v2')).status, 200);
  });

  test('fail when the API limits, fails or is unavailable', async t => {
    const { ghcr, client } = await startFilled(t);
    const path = `manifests/${at(0).manifest.digest}`;
    for (const method of ['GET', 'DELETE']) {
      for (const [answer, status, code] of [
        [{ status: 429, headers: { 'retry-after': '17' }, body: { message: 'slow down' } }, 429, 'TOOMANYREQUESTS'],
        [{ status: 503, body: { message: 'unwell' } }, 502, 'UPSTREAM_UNAVAILABLE'],
        [{ status: 401, body: { message: 'Bad credentials' } }, 403, 'DENIED'],
      ] as const) {
        const fault = ghcr.fault({ endpoint: 'api', method, answer });
        const got = await client.delete(path);
        assertError(got, status, code, new RegExp(answer.body.message));
        if (status === 429) assert.equal(got.headers['retry-after'], '17');
        fault.remove();
      }
    }
    const fault = ghcr.fault({ endpoint: 'api', method: 'GET', answer: answers.htmlPage });
    assertError(await client.delete(path), 502, 'UPSTREAM_INVALID', /no list of versions/);
    fault.remove();
    await ghcr.stop('api');
    assertError(await client.delete(path), 502, 'UPSTREAM_UNAVAILABLE', /ECONNREFUSED/);
    await ghcr.restart();
    assert.equal((await client.get(path)).status, 200);
    assert.equal((await client.delete(path)).status, 202);
  });

  test('need a credential', async t => {
    const { ghcr, cache } = await startPushing(t, {
      upstream: { credentials: [{ name: 'other', owner: 'somebody', username: 'x', token: 'ghp_x' }] },
    });
    ghcr.push(NAME, image, 'v1');
    const got = await new PushClient(cache.url).delete('manifests/v1');
    assert.equal(got.status, 403, sentenceOf(got));
    assert.match(errorOf(got).message, /no credential of the config is for owner "owner"/);
    assert.equal(upstreamTag(ghcr, 'v1'), image.manifest.digest);
  });

  test('of blobs are not possible at ghcr.io', async t => {
    const both = await startFilled(t);
    const blob = at(0).layers[0] ?? assert.fail();
    assertError(await both.client.delete(`blobs/${blob.digest}`), 405, 'UNSUPPORTED');
    await assertPushed(both, blob);
  });
});
