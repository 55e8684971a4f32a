// Challenges, tokens and rights: which users get a token, what it allows, and which errors the others get.
import assert from 'node:assert/strict';
import type http from 'node:http';
import { describe, test } from 'node:test';
import { type Asking, ask, basic, bearer, errorOf } from './ask.ts';
import { ACCEPT, image, layer, layerBytes, MANIFEST, NAME, Pusher, startFilled } from './fixture.ts';
import { type Ghcr, type Switches, startGhcr, type User } from './ghcr.ts';

const ALICE = { username: 'alice', token: 'ghp_alice', packages: [NAME] };
const BOB = { username: 'bob', token: 'ghp_bob' };

async function tokenFor(ghcr: Ghcr, name = NAME, headers = {}): Promise<string> {
  const url = `${ghcr.url}/token?service=ghcr.io&scope=repository:${name}:pull`;
  return JSON.parse((await ask(url, { headers })).body.toString()).token;
}

describe('challenge and token', () => {
  test('an anonymous client is challenged, gets a token, and is served', async () => {
    await using ghcr = await startFilled({ auth: 'bearer' });
    const denied = await ask(ghcr.url + MANIFEST, { headers: ACCEPT });
    assert.equal(denied.status, 401);
    assert.equal(
      denied.headers['www-authenticate'],
      `Bearer realm="${ghcr.url}/token",service="ghcr.io",scope="repository:${NAME}:pull"`,
    );
    assert.equal(denied.headers['docker-distribution-api-version'], 'registry/2.0');
    assert.ok(denied.headers['x-github-request-id']);
    assert.equal(denied.body.toString(), '{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}\n');

    const token = await tokenFor(ghcr);
    assert.match(Buffer.from(token, 'base64').toString(), /^v1:owner\/app:\d{19}$/);
    const got = await ask(ghcr.url + MANIFEST, { headers: { ...ACCEPT, ...bearer(token) } });
    assert.equal(got.status, 200);
    assert.deepEqual(got.body, image.manifest.bytes);
    assert.deepEqual(
      ghcr.requests.map(({ endpoint, authorization, repository }) => [endpoint, authorization, repository]),
      [
        ['manifest', 'none', NAME],
        ['token', 'none', NAME],
        ['manifest', 'bearer', NAME],
      ],
    );
  });

  test('the scope in the challenge of the ping is never granted', async () => {
    await using ghcr = await startFilled({ auth: 'bearer' });
    for (const path of ['/v2/', '/v2/_catalog']) {
      const { headers } = await ask(ghcr.url + path);
      assert.match(headers['www-authenticate'] ?? '', /scope="repository:user\/image:pull"$/);
    }
    assert.equal((await ask(`${ghcr.url}/token?scope=repository:user/image:pull`)).status, 403);
  });

  test('requests for tokens', async t => {
    await using ghcr = await startFilled({ auth: 'bearer' });
    ghcr.addUser(ALICE);
    const url = `${ghcr.url}/token?scope=repository:${NAME}`;
    const rows: [string, string, Asking, number][] = [
      ['anonymous pull', `${url}:pull`, {}, 200],
      ['anonymous push', `${url}:pull,push`, {}, 403],
      ['anonymous without a scope', `${ghcr.url}/token`, {}, 403],
      ['docker login', `${ghcr.url}/token?account=alice`, { headers: basic('alice', 'ghp_alice') }, 200],
      ['stale credentials', `${url}:pull`, { headers: basic('alice', 'old') }, 403],
      ['POST', `${url}:pull`, { method: 'POST' }, 405],
    ];
    for (const [name, asked, asking, status] of rows) {
      await t.test(name, async () => assert.equal((await ask(asked, asking)).status, status));
    }
  });

  test('how /v2/ treats an Authorization header', async t => {
    await using ghcr = await startFilled({ auth: 'bearer' });
    ghcr.addPackage(NAME, { visibility: 'private' });
    ghcr.addUser(ALICE);
    ghcr.addUser(BOB);
    ghcr.addUser({ username: 'carol', token: 'ghp_carol', scopes: ['gist'], packages: ['owner/*'] });
    ghcr.addUser({ username: 'dan', token: 'ghp_dan', packages: ['owner/*'] });
    const pat = (token: string) => bearer(Buffer.from(token).toString('base64'));
    const rows: [string, http.OutgoingHttpHeaders, number, string?][] = [
      ['basic', basic('alice', 'ghp_alice'), 403, 'invalid token'],
      ['nonsense', bearer('nonsense'), 403, 'invalid token'],
      ['token of a user with the right', bearer(await tokenFor(ghcr, NAME, basic('alice', 'ghp_alice'))), 200],
      ['right to all of an owner', pat('ghp_dan'), 200],
      ['personal access token', pat('ghp_alice'), 200],
      ['no right to the package', pat('ghp_bob'), 403, 'permission_denied: read_package'],
      [
        'no scope to read packages',
        pat('ghp_carol'),
        403,
        'permission_denied: The token provided does not match expected scopes.',
      ],
      [
        'token of another repository',
        bearer(await tokenFor(ghcr, 'owner/other', basic('alice', 'ghp_alice'))),
        403,
        'permission_denied: The token provided does not match expected scopes.',
      ],
    ];
    for (const [name, headers, status, message] of rows) {
      await t.test(name, async () => {
        const got = await ask(ghcr.url + MANIFEST, { headers: { ...ACCEPT, ...headers } });
        assert.equal(got.status, status);
        assert.equal(got.headers['www-authenticate'], undefined);
        if (message) assert.equal(errorOf(got).message, message);
      });
    }
    ghcr.removeUser('alice');
    assert.equal((await ask(ghcr.url + MANIFEST, { headers: pat('ghp_alice') })).status, 403);
  });

  test('tokens expire, by the clock or all at once', async () => {
    let now = 1_000_000;
    await using ghcr = await startFilled({ auth: 'bearer', tokenTtlMs: 60_000 }, { now: () => now });
    const statusWith = async (token: string) => {
      const got = await ask(ghcr.url + MANIFEST, { headers: { ...ACCEPT, ...bearer(token) } });
      return [got.status, got.headers['www-authenticate'] !== undefined];
    };
    const token = await tokenFor(ghcr);
    now += 59_999;
    assert.deepEqual(await statusWith(token), [200, false]);
    now += 1;
    assert.deepEqual(await statusWith(token), [401, true]);
    const second = await tokenFor(ghcr);
    ghcr.expireTokens();
    assert.deepEqual(await statusWith(second), [401, true]);
    ghcr.switches.expiredToken = 'denied';
    assert.deepEqual(await statusWith(second), [403, false]);
    assert.deepEqual(await statusWith(await tokenFor(ghcr)), [200, false]);
  });

  test('missing and private packages, anonymously', async t => {
    await using ghcr = await startFilled({ auth: 'bearer' });
    ghcr.addPackage('owner/secret', { visibility: 'private' });
    const rows: [Partial<Switches>, string, number, number | undefined][] = [
      [{}, 'owner/none', 403, undefined],
      [{ missing: 'token-401' }, 'owner/none', 401, undefined],
      [{ missing: 'later-404' }, 'owner/none', 200, 404],
      [{ missing: 'later-403' }, 'owner/none', 200, 403],
      [{}, 'owner/secret', 401, undefined],
      [{ private: 'token-403' }, 'owner/secret', 403, undefined],
      [{ private: 'later-403' }, 'owner/secret', 200, 403],
      [{ auth: 'none' }, 'owner/Upper', 403, 404],
    ];
    const defaults = { ...ghcr.switches };
    for (const [switches, name, tokenStatus, laterStatus] of rows) {
      await t.test(`${name} ${JSON.stringify(switches)}`, async () => {
        Object.assign(ghcr.switches, defaults, switches);
        const got = await ask(`${ghcr.url}/token?scope=repository:${name}:pull`);
        assert.equal(got.status, tokenStatus);
        if (laterStatus === undefined) return;
        const token = JSON.parse(got.body.toString()).token;
        const headers = token ? { ...ACCEPT, ...bearer(token) } : ACCEPT;
        assert.equal((await ask(`${ghcr.url}/v2/${name}/manifests/latest`, { headers })).status, laterStatus);
      });
    }
  });

  test('realm, service, scope and the token response can be anything', async () => {
    const hostile = { realm: 'http://evil.example/token', service: 's', scope: 'repository:x/y:pull' };
    await using ghcr = await startFilled({
      auth: 'bearer',
      ...hostile,
      expiresIn: 300,
      tokenField: 'access_token',
    });
    assert.equal(
      (await ask(ghcr.url + MANIFEST)).headers['www-authenticate'],
      'Bearer realm="http://evil.example/token",service="s",scope="repository:x/y:pull"',
    );
    const { body } = await ask(`${ghcr.url}/token?scope=repository:${NAME}:pull`);
    assert.deepEqual(Object.keys(JSON.parse(body.toString())), ['access_token', 'expires_in']);
  });

  test('basic mode requires credentials on every request', async () => {
    await using ghcr = await startFilled({ auth: 'basic' });
    ghcr.addUser(ALICE);
    const denied = await ask(ghcr.url + MANIFEST, { headers: basic('alice', 'wrong') });
    assert.equal(denied.status, 401);
    assert.equal(denied.headers['www-authenticate'], 'Basic realm="Registry Realm"');
    const headers = { ...ACCEPT, ...basic('alice', 'ghp_alice') };
    assert.equal((await ask(ghcr.url + MANIFEST, { headers })).status, 200);
  });
});

const WRITER = {
  username: 'alice',
  token: 'ghp_alice',
  scopes: ['write:packages'],
  packages: ['owner/*'],
} satisfies User;

describe('rights to push and delete', () => {
  const tokenUrl = ({ url }: Ghcr, ...scopes: string[]) =>
    `${url}/token?service=ghcr.io&${scopes.map(scope => `scope=repository:${scope}`).join('&')}`;
  const askToken = (ghcr: Ghcr, user: User | undefined, ...scopes: string[]) =>
    ask(tokenUrl(ghcr, ...scopes), user && { headers: basic(user.username, user.token) });
  const authorized = async (ghcr: Ghcr, user: User, ...scopes: string[]) =>
    bearer(JSON.parse((await askToken(ghcr, user, ...scopes)).body.toString()).token);

  test('a push creates a private package that its user may read', async () => {
    await using ghcr = await startGhcr();
    const user = { ...WRITER, packages: [], writes: ['owner/*'] };
    ghcr.addUser(user);
    ghcr.addUser({ username: 'bob', token: 'ghp_bob' });
    const challenged = await new Pusher(ghcr).start();
    assert.match(String(challenged.headers['www-authenticate']), /scope="repository:owner\/app:pull,push"$/);
    const headers = await authorized(ghcr, user, `${NAME}:pull,push`);
    assert.equal((await new Pusher(ghcr, NAME, headers).image(image, 'v1')).status, 201);
    assert.equal(ghcr.packages().find(({ name }) => name === NAME)?.visibility, 'private');

    ghcr.addUser({ ...user, writes: [] });
    const mine = new Pusher(ghcr, NAME, await authorized(ghcr, user, `${NAME}:pull`));
    assert.deepEqual((await mine.ask('GET', 'manifests/v1', { headers: ACCEPT })).body, image.manifest.bytes);
    const others = new Pusher(
      ghcr,
      NAME,
      await authorized(ghcr, { username: 'bob', token: 'ghp_bob' }, `${NAME}:pull`),
    );
    assert.equal((await others.ask('GET', 'manifests/v1', { headers: ACCEPT })).status, 403);
    assert.equal((await askToken(ghcr, undefined, `${NAME}:pull`)).status, 401);
  });

  test('which users get a token to push', async t => {
    await using ghcr = await startGhcr();
    ghcr.push(NAME, image, 'v1');
    const reader = { username: 'reader', token: 't', packages: ['owner/*'] };
    const stranger = { ...WRITER, username: 'stranger', packages: ['other/*'] };
    const writer = { ...WRITER, username: 'writer', writes: [NAME], packages: [] };
    const all = { ...WRITER, username: 'all', packages: ['*'] };
    for (const user of [reader, stranger, writer, all]) ghcr.addUser(user);
    const mismatch = 'permission_denied: The token provided does not match expected scopes.';
    const rows: [string, User | undefined, string, number, string?][] = [
      ['anonymous', undefined, `${NAME}:pull,push`, 403, 'requested access to the resource is denied'],
      ['without the scope', reader, `${NAME}:pull,push`, 403, mismatch],
      ['of others', stranger, `${NAME}:push`, 403, 'permission_denied: write_package'],
      ['of others, only to pull', stranger, `${NAME}:pull`, 200],
      ['by a right to write', writer, `${NAME}:pull,push`, 200],
      ['not beyond it', writer, 'owner/new:pull,push', 403, 'permission_denied: write_package'],
      ['for everything', all, 'any/where:pull,push', 200],
      ['everything of it', all, `${NAME}:*`, 200],
      ['to delete', all, `${NAME}:delete`, 403, mismatch],
    ];
    for (const [name, user, scope, status, message] of rows) {
      await t.test(name, async () => {
        const got = await askToken(ghcr, user, scope);
        assert.equal(got.status, status);
        if (message) assert.equal(errorOf(got).message, message);
      });
    }
  });

  test('the error can come later, from HEAD of a blob on', async t => {
    await using ghcr = await startGhcr({ switches: { pushDenied: 'later-403' } });
    ghcr.push(NAME, image, 'v1');
    const stranger = { ...WRITER, packages: [] };
    ghcr.addUser(stranger);
    const unauthenticated = 'unauthenticated: User cannot be authenticated with the token provided.';
    const rows = [
      ['later-403', 403, 'DENIED', 'permission_denied: write_package'],
      ['later-unauthenticated', 401, 'UNAUTHORIZED', unauthenticated],
    ] as const;
    for (const [pushDenied, status, code, message] of rows) {
      await t.test(pushDenied, async () => {
        ghcr.switches.pushDenied = pushDenied;
        const pusher = new Pusher(ghcr, NAME, await authorized(ghcr, stranger, `${NAME}:pull,push`));
        assert.equal((await pusher.ask('HEAD', `blobs/${layer.digest}`)).status, status);
        assert.equal((await pusher.ask('HEAD', 'manifests/v1', { headers: ACCEPT })).status, 200);
        const denied = await pusher.start();
        assert.equal(denied.status, status);
        assert.equal(denied.headers['www-authenticate'], undefined);
        assert.deepEqual(errorOf(denied), { code, message });
        assert.equal((await pusher.manifest('v1', image.manifest.bytes, undefined)).status, status);
      });
    }
  });

  test('a token to pull does not push, and one to push only to its own repository', async () => {
    await using ghcr = await startGhcr();
    ghcr.addUser(WRITER);
    for (const scope of [`${NAME}:pull`, 'owner/other:pull,push']) {
      const got = await new Pusher(ghcr, NAME, await authorized(ghcr, WRITER, scope)).start();
      assert.deepEqual([got.status, errorOf(got).code], [403, 'DENIED'], scope);
    }
    const pat = bearer(Buffer.from(WRITER.token).toString('base64'));
    assert.equal((await new Pusher(ghcr, NAME, pat).start()).status, 202);
  });

  test('mounting takes the right to read the other package, and a token for both', async () => {
    await using ghcr = await startGhcr();
    ghcr.addUser(WRITER);
    ghcr.push('other/public', image);
    ghcr.addPackage('other/private', { visibility: 'private' });
    ghcr.push('other/private', image);
    const statusFrom = async (from: string, ...scopes: string[]) => {
      const headers = await authorized(ghcr, WRITER, `${NAME}:pull,push`, ...scopes);
      const got = await new Pusher(ghcr, NAME, headers).start(`?mount=${layer.digest}&from=${from}`);
      return got.status;
    };
    assert.equal(await statusFrom('other/public', 'other/public:pull'), 201);
    assert.equal(await statusFrom('other/public'), 202);
    assert.equal(await statusFrom('other/private', 'other/private:pull'), 202);
    ghcr.addUser({ ...WRITER, packages: ['owner/*', 'other/*'] });
    assert.equal(await statusFrom('other/private', 'other/private:pull'), 201);
  });

  test('deleting takes a scope of its own', async () => {
    await using ghcr = await startGhcr({ switches: { allowDelete: true } });
    ghcr.push(NAME, image, 'v1');
    const deleter = { ...WRITER, username: 'deleter', scopes: ['delete:packages', 'read:packages'] };
    for (const user of [WRITER, deleter]) ghcr.addUser(user);
    const statusOf = async (user: User, action: string) => {
      const headers = await authorized(ghcr, user, `${NAME}:${action}`);
      return (await new Pusher(ghcr, NAME, headers).ask('DELETE', 'manifests/v1')).status;
    };
    assert.equal(await statusOf(WRITER, '*'), 403);
    assert.equal(await statusOf(deleter, 'pull'), 403);
    assert.equal(await statusOf(deleter, 'delete'), 202);
  });

  test('a token can expire during a push', async () => {
    await using ghcr = await startGhcr();
    ghcr.addUser(WRITER);
    const pusher = new Pusher(ghcr, NAME, await authorized(ghcr, WRITER, `${NAME}:pull,push`));
    const location = await pusher.location();
    const fault = ghcr.fault({ endpoint: 'upload', stallRequestAfter: 50_000 });
    const patched = pusher.patch(location, layerBytes);
    await fault.reached();
    ghcr.expireTokens();
    fault.remove();
    assert.equal((await patched).status, 202);
    const denied = await pusher.finish(location, layer.digest);
    assert.equal(denied.status, 401);
    assert.match(String(denied.headers['www-authenticate']), /:pull,push"$/);
    const again = new Pusher(ghcr, NAME, await authorized(ghcr, WRITER, `${NAME}:pull,push`));
    assert.equal((await again.finish(location, layer.digest)).status, 201);
  });
});
