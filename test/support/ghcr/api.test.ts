// GitHub's package API: versions listed and deleted, with the rights and scopes that takes, and what it says of users.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { makeImage } from '../images.ts';
import { ask, bearer, type Got } from './ask.ts';
import { image } from './fixture.ts';
import { answers, type Ghcr, type Switches, startGhcr, type User } from './ghcr.ts';

describe('the package API', () => {
  const deleter = {
    username: 'alice',
    token: 'ghp_alice',
    scopes: ['read:packages', 'delete:packages'],
    packages: ['org/*', 'alice/*'],
    expiration: '2030-01-31 12:00:00 UTC',
  } satisfies User;
  const agent = { 'user-agent': 'test' };
  const credentials = { ...agent, ...bearer(deleter.token) };
  const VERSIONS = '/orgs/org/packages/container/team%2Fapp/versions';
  const images = ['a', 'b', 'c'].map(seed => makeImage({ layers: [10], seed }));
  const digests = images.map(({ manifest }) => manifest.digest);

  async function startFilled(switches: Partial<Switches> = {}): Promise<Ghcr> {
    const ghcr = await startGhcr({ switches });
    ghcr.addUser(deleter);
    for (const name of ['org/team/app', 'alice/app']) {
      images.forEach((each, i) => {
        ghcr.push(name, each, `v${i}`);
      });
      ghcr.addPackage(name, { visibility: 'private' });
    }
    ghcr.setTag('org/team/app', 'latest', digests[2] ?? assert.fail());
    return ghcr;
  }

  const get = (ghcr: Ghcr, path: string, headers: Record<string, string> = credentials) =>
    ask(new URL(path, ghcr.apiUrl).href, { headers });
  const remove = (ghcr: Ghcr, path: string, headers: Record<string, string> = credentials) =>
    ask(ghcr.apiUrl + path, { method: 'DELETE', headers });
  const jsonOf = ({ body }: Got) => JSON.parse(body.toString());
  const idOf = async (ghcr: Ghcr, digest: string | undefined, path = VERSIONS): Promise<number> =>
    jsonOf(await get(ghcr, path)).find(({ name }: { name: string }) => name === digest).id;

  test('versions, newest first, with their tags', async () => {
    await using ghcr = await startFilled();
    const got = await get(ghcr, VERSIONS);
    assert.equal(got.status, 200);
    assert.equal(got.headers['x-oauth-scopes'], 'read:packages, delete:packages');
    assert.equal(got.headers['github-authentication-token-expiration'], '2030-01-31 12:00:00 UTC');
    assert.equal(got.headers.link, undefined);
    const versions = jsonOf(got);
    assert.deepEqual(
      versions.map(({ name, metadata }: { name: string; metadata: unknown }) => [name, metadata]),
      [
        [digests[2], { package_type: 'container', container: { tags: ['v2', 'latest'] } }],
        [digests[1], { package_type: 'container', container: { tags: ['v1'] } }],
        [digests[0], { package_type: 'container', container: { tags: ['v0'] } }],
      ],
    );
    assert.deepEqual(jsonOf(await get(ghcr, `${VERSIONS}/${versions[1].id}`)), versions[1]);
    assert.deepEqual(jsonOf(await get(ghcr, new URL(versions[1].url).pathname)), versions[1]);
    assert.equal(ghcr.count({ endpoint: 'api', repository: 'org/team/app', reference: String(versions[1].id) }), 2);
  });

  test('pages, with a Link header', async () => {
    await using ghcr = await startFilled();
    const names: string[] = [];
    let path: string | undefined = `${VERSIONS}?per_page=1&state=active`;
    while (path) {
      const got: Got = await get(ghcr, path);
      names.push(...jsonOf(got).map(({ name }: { name: string }) => name));
      const links = String(got.headers.link);
      if (names.length === 2) {
        const page = (number: number) => `${ghcr.apiUrl}${VERSIONS}?per_page=1&state=active&page=${number}`;
        assert.equal(
          links,
          `<${page(1)}>; rel="prev", <${page(3)}>; rel="next", <${page(3)}>; rel="last", <${page(1)}>; rel="first"`,
        );
      }
      path = /<([^>]+)>; rel="next"/.exec(links)?.[1];
    }
    assert.deepEqual(names, digests.toReversed());
  });

  test('which path belongs to which owner', async t => {
    await using ghcr = await startFilled();
    ghcr.switches.ownerKinds = { 'some-user': 'user' };
    ghcr.push('some-user/app', image, 'v1');
    const rows: [string, number][] = [
      [VERSIONS, 200],
      [VERSIONS.replace('orgs', 'users'), 404],
      [VERSIONS.replace('%2F', '/'), 404],
      [VERSIONS.replace('app', 'none'), 404],
      [`${VERSIONS}/123456`, 404],
      ['/users/alice/packages/container/app/versions', 200],
      ['/orgs/alice/packages/container/app/versions', 404],
      ['/user/packages/container/app/versions', 200],
      ['/users/some-user/packages/container/app/versions', 200],
      ['/orgs/org/packages/npm/app/versions', 404],
      ['/orgs/org/packages/container/%ff/versions', 404],
    ];
    for (const [path, status] of rows) {
      await t.test(path, async () => {
        const got = await get(ghcr, path);
        assert.equal(got.status, status);
        if (status === 404) assert.deepEqual(Object.keys(jsonOf(got)), ['message', 'documentation_url', 'status']);
      });
    }
  });

  test('which scopes and rights it takes', async t => {
    await using ghcr = await startFilled();
    const withScopes = (username: string, ...scopes: string[]) =>
      ghcr.addUser({ username, token: username, scopes, packages: ['org/*'] });
    withScopes('reader', 'read:packages');
    withScopes('writer', 'write:packages');
    withScopes('only-deleter', 'delete:packages');
    ghcr.addUser({ ...deleter, username: 'stranger', token: 'stranger', packages: [] });
    ghcr.addUser({ ...deleter, username: 'guest', token: 'guest', writes: [] });
    const path = `${VERSIONS}/${await idOf(ghcr, digests[0])}`;
    const rows: [string, Record<string, string>, number, number][] = [
      ['no User-Agent', bearer(deleter.token), 403, 403],
      ['anonymous', agent, 401, 401],
      ['an invalid token', { ...agent, ...bearer('x') }, 401, 401],
      ['scope to read', { ...agent, ...bearer('reader') }, 200, 403],
      ['scope to write', { ...agent, ...bearer('writer') }, 200, 403],
      ['scope to delete alone', { ...agent, ...bearer('only-deleter') }, 403, 403],
      ['no right to the package', { ...agent, ...bearer('stranger') }, 404, 404],
      ['only a right to read it', { ...agent, ...bearer('guest') }, 200, 403],
      ['all scopes and rights', { ...agent, authorization: `token ${deleter.token}` }, 200, 204],
    ];
    for (const [name, headers, getStatus, deleteStatus] of rows) {
      await t.test(name, async () => {
        assert.equal((await get(ghcr, VERSIONS, headers)).status, getStatus);
        assert.equal((await remove(ghcr, path, headers)).status, deleteStatus);
      });
    }
    const denied = await get(ghcr, VERSIONS, { ...agent, ...bearer('only-deleter') });
    assert.match(jsonOf(denied).message, /at least read:packages scope/);
  });

  test('a version is deleted with all its tags, except the last version', async () => {
    await using ghcr = await startFilled();
    ghcr.deleteTag('org/team/app', 'v0');
    const [first, second, third] = await Promise.all(digests.map(digest => idOf(ghcr, digest)));
    assert.equal((await remove(ghcr, `${VERSIONS}/${third}`)).status, 204);
    assert.deepEqual([...(ghcr.packages()[0]?.tags.keys() ?? [])], ['v1']);
    assert.equal((await remove(ghcr, `${VERSIONS}/${third}`)).status, 404);
    const denied = await remove(ghcr, `${VERSIONS}/${second}`);
    assert.equal(denied.status, 400);
    assert.match(jsonOf(denied).message, /^You cannot delete the last tagged version of a package\./);
    assert.equal((await remove(ghcr, `${VERSIONS}/${first}`)).status, 204);
    ghcr.deleteTag('org/team/app', 'v1');
    assert.match(jsonOf(await remove(ghcr, `${VERSIONS}/${second}`)).message, /the last version of a package/);
    ghcr.switches.keepLastVersion = false;
    assert.equal((await remove(ghcr, `${VERSIONS}/${second}`)).status, 204);

    const whole = '/user/packages/container/app';
    assert.equal(jsonOf(await get(ghcr, whole)).version_count, 3);
    assert.equal((await remove(ghcr, whole)).status, 204);
    assert.equal((await get(ghcr, whole)).status, 404);
  });

  test('a public version with many downloads cannot be deleted', async () => {
    await using ghcr = await startFilled({
      downloadsOf: (name, digest) => (name === 'org/team/app' && digest === digests[0] ? 5001 : 0),
    });
    const [first, second] = await Promise.all(digests.map(digest => idOf(ghcr, digest)));
    ghcr.addPackage('org/team/app', { visibility: 'public' });
    const denied = await remove(ghcr, `${VERSIONS}/${first}`);
    assert.equal(denied.status, 400);
    assert.match(jsonOf(denied).message, /more than 5000 downloads/);
    assert.equal((await remove(ghcr, `${VERSIONS}/${second}`)).status, 204);
    ghcr.addPackage('org/team/app', { visibility: 'private' });
    assert.equal((await remove(ghcr, `${VERSIONS}/${first}`)).status, 204);
  });

  test('users, their tokens, and single sign-on', async () => {
    await using ghcr = await startFilled();
    const got = await get(ghcr, '/user');
    assert.deepEqual(jsonOf(got), { login: 'alice', type: 'User' });
    assert.equal(got.headers['x-oauth-scopes'], 'read:packages, delete:packages');
    assert.equal(got.headers['github-authentication-token-expiration'], '2030-01-31 12:00:00 UTC');
    assert.equal((await get(ghcr, '/user', agent)).status, 401);
    assert.deepEqual(jsonOf(await get(ghcr, '/users/org', agent)), { login: 'org', type: 'Organization' });
    assert.equal((await get(ghcr, '/rate_limit')).status, 404);
    assert.equal(ghcr.count({ endpoint: 'api-user' }), 3);

    ghcr.switches.singleSignOn = 'required';
    const denied = await get(ghcr, VERSIONS);
    assert.equal(denied.status, 403);
    assert.match(String(denied.headers['x-github-sso']), /^required; url=https:\/\//);
    assert.equal((await get(ghcr, '/user/packages/container/app/versions')).status, 200);
    ghcr.switches.singleSignOn = 'partial-results';
    const partial = await get(ghcr, VERSIONS);
    assert.deepEqual([partial.status, partial.headers['x-github-sso']], [200, 'partial-results; organizations=1']);
  });

  test('faults apply to it, and it can be stopped', async () => {
    await using ghcr = await startFilled();
    ghcr.fault({ endpoint: 'api', method: 'DELETE', times: 1, answer: answers.secondaryRateLimit });
    const path = `${VERSIONS}/${await idOf(ghcr, digests[0])}`;
    assert.equal((await remove(ghcr, path)).status, 403);
    assert.equal((await remove(ghcr, path)).status, 204);
    await ghcr.stop('api');
    assert.equal((await get(ghcr, VERSIONS)).code, 'ECONNREFUSED');
    assert.equal((await ask(`${ghcr.url}/v2/`)).status, 401);
    await ghcr.restart();
    assert.equal((await get(ghcr, VERSIONS)).status, 200);
  });
});
