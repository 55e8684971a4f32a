// Deleting through GitHub's API for packages, against that of the fake ghcr.io.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Ghcr } from '../../../test/support/ghcr/ghcr.ts';
import { type Image, makeImage } from '../../../test/support/images.ts';
import { one, packagesAt, packagesOfGhcr, pushBoth, scriptedApi, two } from '../../../test/support/packages-api.ts';
import { APP, CREDENTIAL, fails, manifestsIn, SECRET } from '../../../test/support/upstream-clients.ts';
import type { OwnedCredential } from '../../credentials/credential.ts';
import { digestOf } from '../../oci/digest.ts';
import type { RegistryError } from '../../oci/errors.ts';
import type { Repository } from '../../oci/reference.ts';

const imageOf = (seed: string) => makeImage({ layers: [], seed });
const digestsOf = (...images: Image[]) => images.map(({ manifest }) => manifest.digest);
const pathsOf = (ghcr: Ghcr) => ghcr.requests.map(({ method, path }) => `${method} ${path}`);

describe('a version of a package', () => {
  test('is deleted by its digest, with all its tags', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    pushBoth(ghcr);
    await packages.delete(APP, { digest: one.manifest.digest });
    assert.deepEqual(manifestsIn(ghcr), digestsOf(two));
    assert.deepEqual(pathsOf(ghcr), [
      'GET /orgs/owner/packages/container/app/versions?per_page=100&page=1',
      'DELETE /orgs/owner/packages/container/app/versions/1',
    ]);
    for (const { headers } of ghcr.requests) {
      assert.equal(headers.authorization, `Bearer ${SECRET}`);
      assert.equal(headers.accept, 'application/vnd.github+json');
      assert.equal(headers['x-github-api-version'], '2022-11-28');
    }
  });

  test('is deleted by its only tag', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    pushBoth(ghcr);
    await packages.delete(APP, { tag: 'v2' });
    assert.deepEqual(manifestsIn(ghcr), digestsOf(one));
  });

  test('is not deleted by one of its tags, and is named with the others', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    pushBoth(ghcr);
    await assert.rejects(packages.delete(APP, { tag: 'v1' }), (error: unknown) => {
      fails('UNSUPPORTED', /app:v1 cannot be deleted alone.*, and latest would go too/)(error);
      const { detail } = error as RegistryError;
      assert.deepEqual(detail, { digest: one.manifest.digest, tags: ['v1', 'latest'] });
      return true;
    });
    assert.deepEqual(manifestsIn(ghcr), digestsOf(one, two));
    assert.equal(ghcr.count({ method: 'DELETE' }), 0);
  });

  test('that has no tag is deleted by its digest, and found by no tag', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    pushBoth(ghcr);
    ghcr.push(APP.name, imageOf('untagged'));
    await assert.rejects(packages.delete(APP, { tag: 'v3' }), fails('MANIFEST_UNKNOWN'));
    await packages.delete(APP, { digest: imageOf('untagged').manifest.digest });
    assert.deepEqual(manifestsIn(ghcr), digestsOf(one, two));
  });

  test('of a user is found where users are, after it was not among organisations', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    pushBoth(ghcr, 'octocat/app');
    await packages.delete({ upstream: 'ghcr.io', name: 'octocat/app' }, { tag: 'v2' });
    assert.deepEqual(manifestsIn(ghcr, 'octocat/app'), digestsOf(one));
    assert.deepEqual(
      pathsOf(ghcr).map(path => path.replace(/versions.*/, '')),
      [
        'GET /orgs/octocat/packages/container/app/',
        ...['GET', 'DELETE'].map(method => `${method} /users/octocat/packages/container/app/`),
      ],
    );
  });

  test('of a name of several parts is found under it', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    pushBoth(ghcr, 'owner/group/sub.app');
    await packages.delete({ upstream: 'ghcr.io', name: 'owner/group/sub.app' }, { tag: 'v2' });
    assert.deepEqual(manifestsIn(ghcr, 'owner/group/sub.app'), digestsOf(one));
    assert.match(pathsOf(ghcr)[0] ?? '', /\/orgs\/owner\/packages\/container\/group%2Fsub\.app\/versions\?/);
  });

  for (const [pages, versions] of [
    [1, 99],
    [2, 100],
    [3, 250],
  ] as const) {
    test(`is looked for in all pages: the oldest of ${versions + 1} on page ${pages}`, async t => {
      const { ghcr, packages } = await packagesOfGhcr(t);
      pushBoth(ghcr);
      for (let i = 0; i < versions - 1; i++) ghcr.push(APP.name, imageOf(`${i}`), `tag-${i}`);
      const asked = () => ghcr.count({ method: 'GET' });
      await packages.delete(APP, { digest: one.manifest.digest });
      assert.equal(asked(), pages);
      assert.ok(!manifestsIn(ghcr).includes(one.manifest.digest));
      await assert.rejects(packages.delete(APP, { tag: 'nowhere' }), fails('MANIFEST_UNKNOWN'));
    });
  }

  test('that is on the first page is looked for no further', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    for (let i = 0; i < 150; i++) ghcr.push(APP.name, imageOf(`${i}`), `tag-${i}`);
    await packages.delete(APP, { tag: 'tag-149' });
    assert.equal(ghcr.count({ method: 'GET' }), 1);
  });
});

describe('what is not found', () => {
  const unknown = fails(
    'MANIFEST_UNKNOWN',
    /is not among the versions that 127\.0\.0\.1:\d+ shows to credential "ci".*read:packages, delete:packages/,
  );

  test('is MANIFEST_UNKNOWN: a package, a digest, a tag', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    await assert.rejects(packages.delete(APP, { tag: 'v1' }), unknown);
    pushBoth(ghcr);
    await assert.rejects(packages.delete(APP, { tag: 'v3' }), unknown);
    await assert.rejects(packages.delete(APP, { digest: digestOf(Buffer.from('x')) }), unknown);
    assert.equal(manifestsIn(ghcr).length, 2);
  });

  test('is MANIFEST_UNKNOWN too when it disappears between the question and the deletion', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    pushBoth(ghcr);
    ghcr.fault({
      endpoint: 'api',
      method: 'DELETE',
      answer: { status: 404, body: { message: 'Not Found' } },
    });
    await assert.rejects(packages.delete(APP, { tag: 'v2' }), unknown);
  });

  test('may be a package that the credential does not see', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t, { user: { packages: [] } });
    pushBoth(ghcr);
    ghcr.addPackage(APP.name, { visibility: 'private' });
    await assert.rejects(packages.delete(APP, { tag: 'v2' }), unknown);
  });
});

describe('a credential', () => {
  test('is the one that is for the owner', async t => {
    const of = (owner: string, secret: string): OwnedCredential => ({
      name: owner,
      owner,
      read: async () => ({ username: owner, secret }),
    });
    const { ghcr, packages } = await packagesOfGhcr(t, {
      credentials: [of('someone', 'wrong'), of('owner', SECRET)],
    });
    pushBoth(ghcr);
    await packages.delete(APP, { tag: 'v2' });
    const nobody: Repository = { upstream: 'ghcr.io', name: 'nobody/app' };
    ghcr.resetCounters();
    await assert.rejects(
      packages.delete(nobody, { tag: 'v2' }),
      fails(
        'DENIED',
        /nobody\/app:v2 can only be deleted through 127\.0\.0\.1:\d+, and no credential of the config is for owner "nobody"/,
      ),
    );
    assert.equal(ghcr.count(), 0, 'no request is made');
  });

  test('that cannot be read is DENIED, with its name and why', async t => {
    const read = () => Promise.reject(new Error('no such file'));
    const { ghcr, packages } = await packagesOfGhcr(t, { credentials: [{ ...CREDENTIAL, read }] });
    await assert.rejects(
      packages.delete(APP, { tag: 'v1' }),
      fails('DENIED', /credential "ci" cannot be read: no such file/),
    );
    assert.equal(ghcr.count(), 0);
  });

  test('that is not accepted is DENIED, with its name', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    ghcr.removeUser('octocat');
    await assert.rejects(
      packages.delete(APP, { tag: 'v1' }),
      fails(
        'DENIED',
        /does not accept credential "ci": 401 "Bad credentials"; it needs the rights read:packages and delete:packages/,
      ),
    );
  });

  for (const scopes of [[], ['read:packages'], ['write:packages']]) {
    test(`with no more than ${scopes.join() || 'nothing'} is DENIED, with the right that it lacks`, async t => {
      const { ghcr, packages } = await packagesOfGhcr(t, { user: { scopes } });
      pushBoth(ghcr);
      const lacking = scopes.length === 0 ? 'read' : 'delete';
      await assert.rejects(
        packages.delete(APP, { tag: 'v2' }),
        fails(
          'DENIED',
          new RegExp(
            `does not let credential "ci" delete ghcr\\.io/owner/app:v2: 403 "You need at least ${lacking}:packages`,
          ),
        ),
      );
      assert.equal(manifestsIn(ghcr).length, 2);
    });
  }

  test('that is not an administrator of the package is DENIED', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t, { user: { packages: ['*'], writes: [] } });
    pushBoth(ghcr);
    await assert.rejects(packages.delete(APP, { tag: 'v2' }), fails('DENIED', /administrator of the package/));
  });

  test('that is not authorized for single sign-on is DENIED, with what to do', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    pushBoth(ghcr);
    ghcr.switches.singleSignOn = 'required';
    await assert.rejects(
      packages.delete(APP, { tag: 'v2' }),
      fails('DENIED', /authorize the credential for single sign-on/),
    );
  });

  test('that leads to partial results only is good for what is among them', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    pushBoth(ghcr);
    ghcr.switches.singleSignOn = 'partial-results';
    await packages.delete(APP, { tag: 'v2' });
    assert.deepEqual(manifestsIn(ghcr), digestsOf(one));
  });
});

test('an API may be at a path of its host, as on a GitHub Enterprise server', async t => {
  const { url, calls } = await scriptedApi(t, call => ({
    status: call.startsWith('GET') ? 200 : 204,
    body: [{ id: 1, name: 'x', metadata: { container: { tags: ['v1'] } } }],
  }));
  for (const api of [`${url}/api/v3`, `${url}/api/v3/`]) {
    calls.length = 0;
    await packagesAt(t, api).delete(APP, { tag: 'v1' });
    assert.deepEqual(
      calls.map(call => call.replace(/\?.*/, '')),
      [
        'GET /api/v3/orgs/owner/packages/container/app/versions',
        'DELETE /api/v3/orgs/owner/packages/container/app/versions/1',
      ],
    );
  }
});
