// What an upstream does not have, or denies, or says it does not have: how often it is asked, and what else that says.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { startBoth } from '../../support/cache.ts';
import { answers, type Switches } from '../../support/ghcr/ghcr.ts';
import { errorOf, type Reply } from '../../support/http-client.ts';
import { bytesOf, makeImage } from '../../support/images.ts';

const NAME = 'owner/app';
const V1 = `/v2/${NAME}/manifests/v1`;
const image = makeImage({ layers: [100_000] });
const [layer = assert.fail()] = image.layers;
const BLOB = `/v2/${NAME}/blobs/${layer.digest}`;

describe('a missing image', () => {
  const user = { username: 'octocat', token: 'ghp_0123456789' };
  const variants: [string, Partial<Switches>, boolean][] = [
    ['denied at the token endpoint by 403', { missing: 'token-403' }, false],
    ['denied at the token endpoint by 401', { missing: 'token-401' }, false],
    ['denied by the registry', { missing: 'later-403' }, false],
    ['not found', { missing: 'later-404' }, false],
    ['not found with a credential', {}, true],
  ];
  for (const [what, switches, hasCredential] of variants) {
    test(`is asked for once in ten seconds: ${what}`, async t => {
      const credentials = hasCredential ? [{ name: 'ci', owner: '*', ...user }] : [];
      const { ghcr, cache, clock } = await startBoth(t, { fake: { switches }, upstream: { credentials } });
      ghcr.addUser(user);
      const digest = `sha256:${'0'.repeat(64)}`;
      const paths = [
        V1,
        `/v2/${NAME}/manifests/${digest}`,
        BLOB,
        `/v2/${NAME}/tags/list`,
        `/v2/${NAME}/referrers/${digest}`,
      ];
      for (const path of paths) {
        const first = await cache.get(path);
        const asked = ghcr.requests.length;
        for (let pull = 0; pull < 20; pull++) {
          const got = await cache.get(path);
          assert.equal(got.status, first.status, path);
          assert.deepEqual(got.body, first.body);
          if (!path.includes('blobs')) assert.equal((await cache.head(path)).status, first.status);
        }
        assert.equal(ghcr.requests.length, asked, path);
      }
      ghcr.push(NAME, image, 'v1');
      clock.advance(10_000);
      assert.equal((await cache.get(V1)).status, 200);
    });
  }

  test('is asked for again at once with another credential', async t => {
    for (const pushDenied of ['token-403', 'later-403'] as const) {
      const credentials = [{ name: 'ci', owner: '*', username: 'octocat', tokenFile: 'token' }];
      const files = { token: 'ghp_first' };
      const fake = { switches: { private: 'later-403' as const, pushDenied } };
      const { ghcr, cache } = await startBoth(t, { fake, upstream: { credentials }, files });
      ghcr.addUser({ username: 'octocat', token: 'ghp_first' });
      ghcr.addPackage(NAME, { visibility: 'private' });
      ghcr.push(NAME, image, 'v1');
      for (let pull = 0; pull < 2; pull++) {
        const got = await cache.get(V1);
        assert.equal(got.status, 403);
        assert.match(errorOf(got).message, /Credential "ci"/);
      }
      ghcr.addUser({ username: 'octocat', token: 'ghp_second', packages: ['*'] });
      writeFileSync(join(cache.directory, 'token'), 'ghp_second');
      assert.equal((await cache.get(V1)).status, 200);
      assert(!cache.log().includes('ghp_'));
    }
  });

  test('of which some is cached is served stale, and not asked for each time', async t => {
    const { ghcr, cache, clock } = await startBoth(t);
    ghcr.push(NAME, image, 'v1');
    assert.equal((await cache.get(V1)).status, 200);
    const tags = `/v2/${NAME}/tags/list`;
    const referrers = `/v2/${NAME}/referrers/${image.manifest.digest}`;
    const paths = [V1, tags, referrers];
    for (const path of paths) assert.equal((await cache.get(path)).status, 200);
    clock.advance(3600_000);
    ghcr.addPackage(NAME, { visibility: 'private' });
    for (const path of paths) {
      assert.equal((await cache.get(path)).headers['x-cache'], 'stale', path);
      const asked = ghcr.requests.length;
      for (let pull = 0; pull < 20; pull++) assert.equal((await cache.get(path)).headers['x-cache'], 'stale');
      assert.equal(ghcr.requests.length, asked, path);
    }
    clock.advance(10_000);
    ghcr.addPackage(NAME, { visibility: 'public' });
    assert.equal((await cache.get(V1)).headers['x-cache'], 'revalidated');
    assert.equal((await cache.get(tags)).headers['x-cache'], 'miss');
  });
});

describe('a 404 that an upstream answers to HEAD alone', () => {
  test('says nothing of a GET of the blob, conditional or not', async t => {
    const { ghcr, cache } = await startBoth(t);
    ghcr.push(NAME, image, 'v1');
    ghcr.fault({ endpoint: 'blob', method: 'HEAD', answer: answers.blobUnknown });
    assert.equal((await cache.head(BLOB)).status, 404);
    const conditional = await cache.get(BLOB, { headers: { 'if-none-match': `"${layer.digest}"` } });
    assert([200, 304].includes(conditional.status), `${conditional.status}`);
    const got = await cache.get(BLOB);
    assert.equal(got.status, 200);
    assert(got.body.equals(bytesOf(layer)));
  });

  test('does not hide what is here through another repository', async t => {
    const { ghcr, cache } = await startBoth(t);
    for (const name of [NAME, 'other/app']) ghcr.push(name, image, 'v1');
    for (const path of [BLOB, V1]) assert.equal((await cache.get(path)).status, 200);
    await cache.settled();
    ghcr.fault({ endpoint: 'blob', method: 'HEAD', answer: answers.blobUnknown });
    ghcr.fault({ endpoint: 'manifest', method: 'HEAD', answer: answers.manifestUnknown });
    ghcr.resetCounters();
    assert((await cache.get(BLOB.replace(NAME, 'other/app'))).body.equals(bytesOf(layer)));
    assert(ghcr.bytes({ endpoint: 'blobhost' }) === 0, 'its bytes are here');
    const got = await cache.get(`/v2/other/app/manifests/${image.manifest.digest}`);
    assert.deepEqual(got.body, image.manifest.bytes);
    const none = await cache.get(BLOB.replace(NAME, 'other/none'));
    assert.notEqual(none.status, 200);
  });
});

describe('an image in the format of before 2015', () => {
  const body = { schemaVersion: 1, name: NAME, tag: 'v1', fsLayers: [{ blobSum: layer.digest }], history: [] };
  for (const type of [
    'application/vnd.docker.distribution.manifest.v1+json',
    'application/vnd.docker.distribution.manifest.v1+prettyjws',
    'application/json',
  ]) {
    test(`is a 404 with a sentence, and asked for once (${type})`, async t => {
      const { ghcr, cache } = await startBoth(t);
      ghcr.push(NAME, image, 'v1');
      ghcr.fault({ endpoint: 'manifest', answer: { status: 200, headers: { 'content-type': type }, body } });
      const got: Reply = await cache.get(V1);
      assert.equal(got.status, 404);
      assert.equal(errorOf(got).code, 'MANIFEST_UNKNOWN');
      assert.match(errorOf(got).message, /ghcr\.io\/owner\/app:v1.*schema 1.*Build and push it again/);
      assert.equal(ghcr.count({ endpoint: 'manifest' }), 1);
      assert.doesNotMatch(cache.log(), /once more/);
    });
  }
});
