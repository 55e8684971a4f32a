// Who we are to the upstream: challenges, tokens, credentials, and what becomes of them when they fail. And
// that no secret is to be found anywhere.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { startBoth, type TestCache, type TestCacheOptions } from '../../support/cache.ts';
import { answers, type Ghcr, type GhcrOptions, startGhcr } from '../../support/ghcr/ghcr.ts';
import { errorOf } from '../../support/http-client.ts';
import { bytesOf, makeImage } from '../../support/images.ts';

const SECRET = 'ghp_0123456789secretABCDEF';
const CI = { name: 'ci', owner: '*', username: 'octocat', token: SECRET };
const V1 = '/v2/owner/app/manifests/v1';
const image = makeImage({ layers: [100_000, 50_000] });
const layer = image.layers[0] ?? assert.fail();
const BLOB = `/v2/owner/app/blobs/${layer.digest}`;

async function startPrivate(t: TestContext, options: TestCacheOptions & { fake?: GhcrOptions } = {}) {
  const both = await startBoth(t, { upstream: { credentials: [CI] }, ...options });
  both.ghcr.addUser({ username: 'octocat', token: SECRET, packages: ['owner/*'] });
  both.ghcr.addPackage('owner/app', { visibility: 'private' });
  both.ghcr.push('owner/app', image, 'v1');
  return both;
}

/** The secret, and its encoded forms, are in no file, no log line, and went nowhere but to /token. */
function assertNothingLeaked(cache: TestCache, ghcr: Ghcr): void {
  const encoded = Buffer.from(`octocat:${SECRET}`).toString('base64');
  const texts = [cache.log()];
  const visit = (directory: string) => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) visit(join(directory, entry.name));
      else texts.push(readFileSync(join(directory, entry.name), 'latin1'));
    }
  };
  visit(cache.data);
  for (const text of texts) assert(!text.includes(SECRET) && !text.includes(encoded));
  for (const { endpoint, headers } of ghcr.requests) {
    if (headers.authorization?.includes(encoded)) assert.equal(endpoint, 'token');
  }
}

test('a private image is pulled with the credential of the config, asked for once per repository', async t => {
  const { ghcr, cache } = await startPrivate(t);
  const paths = [V1, BLOB, `/v2/owner/app/blobs/${image.config.digest}`];
  for (const path of paths) assert.equal((await cache.get(path)).status, 200);
  assert.equal(ghcr.count({ endpoint: 'token' }), 1);
  assert.equal(ghcr.count({ status: 401 }), 1);
  const token = ghcr.requests.find(({ endpoint }) => endpoint === 'token');
  assert.equal(token?.method, 'GET');
  assert.equal(token?.authorization, 'basic');
  // Pull alone is asked for: more is denied even where pulling is free.
  assert.match(decodeURIComponent(token?.path ?? ''), /scope=repository:owner\/app:pull$/);
  assertNothingLeaked(cache, ghcr);
});

test('a public image needs no credential', async t => {
  const { ghcr, cache } = await startBoth(t);
  ghcr.push('owner/app', image, 'v1');
  assert.equal((await cache.get(V1)).status, 200);
  assert.equal(ghcr.requests.find(({ endpoint }) => endpoint === 'token')?.authorization, 'none');
});

test('the challenge is asked for once, a token never twice at the same time', async t => {
  const { ghcr, cache } = await startPrivate(t);
  const paths = [V1, ...[...image.layers, image.config].map(({ digest }) => `/v2/owner/app/blobs/${digest}`)];
  await Promise.all(paths.map(path => cache.get(path)));
  assert.equal(ghcr.count({ endpoint: 'token', repository: 'owner/app' }), 1);
  assert.equal(ghcr.count({ status: 401 }), 1);
});

test('a token is used until it expires: 60 s unless the answer says', async t => {
  for (const [expiresIn, lifeS] of [
    [undefined, 60],
    [300, 300],
  ] as const) {
    const { ghcr, cache, clock } = await startPrivate(t, {
      fake: { switches: { expiresIn } },
      config: { tags: [{ match: '*', fresh: '1ms' }] },
    });
    const tokens = async () => {
      await cache.get(V1);
      return ghcr.count({ endpoint: 'token' });
    };
    assert.equal(await tokens(), 1);
    clock.advance(lifeS * 800);
    assert.equal(await tokens(), 1);
    clock.advance(lifeS * 300);
    assert.equal(await tokens(), 2);
  }
});

for (const expiredToken of ['challenge', 'denied'] as const) {
  test(`a token that expired early is renewed midway, when that is told by ${expiredToken}`, async t => {
    const { ghcr, cache } = await startPrivate(t, { fake: { switches: { expiredToken } } });
    assert.equal((await cache.get(V1)).status, 200);
    ghcr.expireTokens();
    assert((await cache.get(BLOB)).body.equals(bytesOf(layer)));
    assert.equal(ghcr.count({ endpoint: 'token' }), 2);
    assert(!cache.log().includes('was denied'));
  });

  test(`a token that expires during a long pull (${expiredToken}) does not end it`, async t => {
    const { ghcr, cache } = await startPrivate(t, { fake: { switches: { expiredToken } } });
    const cut = ghcr.fault({ endpoint: 'blobhost', cutAfter: 50_000, times: 1 });
    const pulling = cache.get(BLOB);
    await cut.reached();
    ghcr.expireTokens();
    const reply = await pulling;
    assert(reply.complete && reply.body.equals(bytesOf(layer)));
  });
}

test('missing or private, anonymously: each of ghcr.io’s answers becomes one that says what to do', async t => {
  const cases: [NonNullable<GhcrOptions['switches']>, 'missing' | 'private', number, RegExp][] = [
    [{ missing: 'token-403' }, 'missing', 403, /private or does not exist.*credential/],
    [{ missing: 'token-401' }, 'missing', 403, /private or does not exist.*credential/],
    [{ missing: 'later-404' }, 'missing', 404, /not found/],
    [{ missing: 'later-403' }, 'missing', 403, /private or does not exist.*credential/],
    [{ private: 'token-401' }, 'private', 403, /private or does not exist.*credential/],
    [{ private: 'token-403' }, 'private', 403, /private or does not exist.*credential/],
    [{ private: 'later-403' }, 'private', 403, /private or does not exist.*credential/],
  ];
  for (const [switches, kind, status, says] of cases) {
    const { ghcr, cache } = await startBoth(t, { fake: { switches } });
    if (kind === 'private') {
      ghcr.addPackage('owner/app', { visibility: 'private' });
      ghcr.push('owner/app', image, 'v1');
    }
    for (const path of [V1, BLOB, '/v2/owner/app/tags/list']) {
      const reply = await cache.get(path);
      assert.equal(reply.status, status, `${JSON.stringify(switches)} ${path}`);
      assert.match(errorOf(reply).message, says);
      assert.match(errorOf(reply).message, /owner\/app/);
    }
  }
});

test('our token is rejected: a public image is pulled anonymously, and the log says which credential', async t => {
  const { ghcr, cache } = await startBoth(t, { upstream: { credentials: [CI] } });
  ghcr.push('owner/app', image, 'v1');
  assert.equal((await cache.get(V1)).status, 200);
  assert((await cache.get(BLOB)).body.equals(bytesOf(layer)));
  assert.match(cache.log(), /error credential "ci" was denied/);
  assertNothingLeaked(cache, ghcr);
});

test('our token is rejected: a cached private image is served stale, an uncached one names the credential', async t => {
  const { ghcr, cache, clock } = await startPrivate(t);
  for (const path of [V1, BLOB]) assert.equal((await cache.get(path)).status, 200);
  ghcr.removeUser('octocat');
  clock.advance(3600_000);
  const stale = await cache.get(V1);
  assert.equal(stale.headers['x-cache'], 'stale');
  assert.match(String(stale.headers.warning), /Credential 'ci'/);
  assert.equal((await cache.get(BLOB)).headers['x-cache'], 'hit');
  const denied = await cache.get(`/v2/owner/app/blobs/${image.config.digest}`);
  assert.equal(denied.status, 403);
  assert.match(errorOf(denied).message, /Credential "ci" was denied/);
  assert.match(cache.log(), /error credential "ci" was denied/);
  assertNothingLeaked(cache, ghcr);
});

test('a token without the right to a package: the error names the credential and the right', async t => {
  const { ghcr, cache } = await startPrivate(t);
  ghcr.addPackage('elsewhere/app', { visibility: 'private' });
  ghcr.push('elsewhere/app', image, 'v1');
  const denied = await cache.get('/v2/elsewhere/app/manifests/v1');
  assert.equal(denied.status, 403);
  assert.match(errorOf(denied).message, /Credential "ci" was denied.*read:packages/);
});

test('the first credential whose owner pattern matches is used, and none for an owner without one', async t => {
  const { ghcr, cache } = await startBoth(t, {
    upstream: {
      credentials: [
        { name: 'team', owner: 'team-*', username: 'team', token: 'ghp_team' },
        { name: 'one', owner: 'owner', username: 'octocat', tokenFile: 'token' },
      ],
    },
    files: { token: `${SECRET}\n` },
  });
  ghcr.addUser({ username: 'team', token: 'ghp_team', packages: ['team-a/*'] });
  ghcr.addUser({ username: 'octocat', token: SECRET, packages: ['owner/*'] });
  for (const name of ['team-a/app', 'owner/app', 'public/app']) {
    ghcr.addPackage(name, { visibility: name === 'public/app' ? 'public' : 'private' });
    ghcr.push(name, image, 'v1');
    assert.equal((await cache.get(`/v2/${name}/manifests/v1`)).status, 200, name);
  }
  const users = ghcr.requests
    .filter(({ endpoint }) => endpoint === 'token')
    .map(
      ({ headers }) =>
        Buffer.from(headers.authorization?.slice(6) ?? '', 'base64')
          .toString()
          .split(':')[0],
    );
  assert.deepEqual(users, ['team', 'octocat', '']);
  assertNothingLeaked(cache, ghcr);
});

test('the environment gives the credential for ghcr.io when the config names none', async t => {
  for (const env of [
    { CR_PAT: SECRET, GHCR_USERNAME: 'octocat' },
    { GITHUB_TOKEN: SECRET, GHCR_USERNAME: 'octocat' },
  ]) {
    const { cache } = await startPrivate(t, { upstream: { credentials: undefined }, env });
    assert.equal((await cache.get(V1)).status, 200);
  }
});

test('a registry with a Basic challenge gets the credential on every request', async t => {
  const { ghcr, cache } = await startPrivate(t, { fake: { switches: { auth: 'basic', redirects: false } } });
  assert.equal((await cache.get(V1)).status, 200);
  assert((await cache.get(BLOB)).body.equals(bytesOf(layer)));
  assert.equal(ghcr.count({ endpoint: 'token' }), 0);
  const wrong = await startPrivate(t, {
    fake: { switches: { auth: 'basic' } },
    upstream: { credentials: [{ ...CI, token: 'wrong' }] },
  });
  const denied = await wrong.cache.get(V1);
  assert.equal(denied.status, 403);
  assert.match(errorOf(denied).message, /Credential "ci" was denied/);
});

test('a registry that challenges no one gets no credential', async t => {
  const { ghcr, cache } = await startPrivate(t, { fake: { switches: { auth: 'none' } } });
  assert.equal((await cache.get(V1)).status, 200);
  assert(ghcr.requests.every(({ authorization }) => authorization === 'none'));
});

test('a hostile realm gets neither our credential nor a request', async t => {
  const evil = await startGhcr();
  t.after(() => evil.close());
  const port = new URL(evil.url).port;
  for (const realm of [
    `${evil.url}/token`,
    `http://localhost:${port}/token`,
    'https://ghcr.io.evil.example/token',
    'file:///etc/passwd',
    '//x',
    '',
  ]) {
    const { ghcr, cache } = await startPrivate(t, { fake: { switches: { realm } } });
    const denied = await cache.get(V1);
    assert.equal(denied.status, 502, realm);
    assert.match(errorOf(denied).message, /not trusted with our credentials|token/);
    assert.equal(evil.requests.length, 0);
    assertNothingLeaked(cache, ghcr);
  }
});

test('a realm that the config names is told our credential', async t => {
  const realm = await startGhcr();
  t.after(() => realm.close());
  realm.addUser({ username: 'octocat', token: SECRET });
  const { cache } = await startPrivate(t, {
    fake: { switches: { realm: `${realm.url}/token` } },
    upstream: { credentials: [CI], realms: [new URL(realm.url).host] },
  });
  await cache.get(V1);
  assert.equal(realm.requests[0]?.authorization, 'basic');
});

test('a realm that redirects is not followed', async t => {
  const elsewhere = await startGhcr();
  t.after(() => elsewhere.close());
  const { ghcr, cache } = await startPrivate(t);
  ghcr.fault({ endpoint: 'token', answer: { status: 307, headers: { location: `${elsewhere.url}/token` } } });
  assert.equal((await cache.get(V1)).status, 502);
  assert.equal(elsewhere.requests.length, 0);
});

test('an upstream that echoes our credential does not make us tell it', async t => {
  const { ghcr, cache } = await startPrivate(t);
  const echo = Buffer.from(`octocat:${SECRET}`).toString('base64');
  const body = { errors: [{ code: 'DENIED', message: `bad credential ${echo} alias ${SECRET}` }] };
  ghcr.fault({ endpoint: 'token', answer: { status: 403, body } });
  ghcr.fault({ endpoint: 'manifest', answer: { status: 403, body } });
  const denied = await cache.get(V1);
  assert.equal(denied.status, 403);
  assert(!denied.body.toString().includes(SECRET) && !denied.body.toString().includes(echo));
  assertNothingLeaked(cache, ghcr);
});

test('rubbish instead of a token, and a failing realm, are told apart from a denial', async t => {
  const cases: [Parameters<Ghcr['fault']>[0], number][] = [
    [{ endpoint: 'token', answer: answers.htmlPage }, 502],
    [{ endpoint: 'token', answer: { status: 200, body: { token: 'a\nb' } } }, 502],
    [{ endpoint: 'token', answer: { status: 200, body: { token: 5 } } }, 502],
    [{ endpoint: 'token', answer: answers.serverError(503) }, 502],
    [{ endpoint: 'token', answer: answers.tooManyRequests('30s') }, 429],
    [{ endpoint: 'token', hang: true }, 504],
  ];
  for (const [fault, status] of cases) {
    const { ghcr, cache } = await startPrivate(t);
    ghcr.fault(fault);
    const reply = await cache.get(V1);
    assert.equal(reply.status, status, JSON.stringify(fault.answer));
    ghcr.clearFaults();
    cache.clock.advance(60_000);
    assert.equal((await cache.get(V1)).status, 200);
  }
});

test('a token file is read again when the secret in it was rotated', async t => {
  const { ghcr, cache, clock } = await startPrivate(t, {
    upstream: { credentials: [{ name: 'ci', owner: '*', username: 'octocat', tokenFile: 'token' }] },
    files: { token: 'old' },
  });
  assert.equal((await cache.get(V1)).status, 403);
  writeFileSync(join(cache.directory, 'token'), SECRET);
  clock.advance(120_000);
  assert.equal((await cache.get(V1)).status, 200);
  assert(ghcr.count({ endpoint: 'token' }) > 1);
});
