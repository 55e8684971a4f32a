// Which token is asked for, how long it is used, and what happens when it is denied, against the fake ghcr.io. What that
// means for pulls is tested in test/behaviour/upstream/auth.test.ts.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { turns, until } from '../../../test/support/async.ts';
import { TestClock, testRandom } from '../../../test/support/clock.ts';
import { answers, type Ghcr, type Switches, startGhcr } from '../../../test/support/ghcr/ghcr.ts';
import { contentOf } from '../../../test/support/images.ts';
import { AS_TO_HOSTS, SHORT_TIMEOUTS } from '../../../test/support/upstream-clients.ts';
import { credentialsOf, type OwnedCredential } from '../../credentials/credential.ts';
import { type ErrorCode, RegistryError } from '../../oci/errors.ts';
import type { Repository } from '../../oci/reference.ts';
import { type RequestSpec, Requests } from '../requests.ts';
import { type Access, DELETE, PULL, PUSH } from './access.ts';

const APP: Repository = { upstream: 'ghcr.io', name: 'owner/app' };
const SECRET = 'ghp_0123456789secret';
const CREDENTIAL: OwnedCredential = {
  name: 'ci',
  owner: 'owner',
  read: async () => ({ username: 'octocat', secret: SECRET }),
};
const blob = contentOf('blob');

const asks = {
  pull: { method: 'HEAD', path: `blobs/${blob.digest}`, what: 'ghcr.io/owner/app', notFound: 'BLOB_UNKNOWN' },
  push: {
    method: 'POST',
    path: 'blobs/uploads/',
    what: 'ghcr.io/owner/app',
    notFound: 'NAME_UNKNOWN',
    access: PUSH,
  },
  delete: {
    method: 'DELETE',
    path: `blobs/${blob.digest}`,
    what: 'ghcr.io/owner/app',
    notFound: 'BLOB_UNKNOWN',
    access: DELETE,
  },
} satisfies Record<string, RequestSpec>;

async function setUp(
  t: TestContext,
  options: { credentials?: OwnedCredential[]; scopes?: string[]; switches?: Partial<Switches> } = {},
) {
  const clock = new TestClock();
  const ghcr = await startGhcr({
    // Another machine, whose clock is not set with ours.
    now: clock.monotonic,
    switches: { allowDelete: true, redirects: false, ...options.switches },
  });
  t.after(() => ghcr.close());
  ghcr.addUser({
    ...{ username: 'octocat', token: SECRET, packages: ['owner/*'] },
    scopes: options.scopes ?? ['write:packages', 'delete:packages'],
  });
  ghcr.addBlob(APP.name, blob);
  const denied: string[] = [];
  const requests = new Requests({
    ...{ name: 'ghcr.io', url: new URL(ghcr.url), offline: false, realms: [], clock, random: testRandom() },
    ...{ timeouts: SHORT_TIMEOUTS, ...AS_TO_HOSTS },
    credentials: credentialsOf(options.credentials ?? [CREDENTIAL]),
    onDenied: (credential, message) => denied.push(`${credential}: ${message}`),
  });
  t.after(() => requests.close());
  const send = async (ask: RequestSpec) => {
    const { status, body } = await requests.send(APP, ask);
    body.abandon();
    return status;
  };
  return { ghcr, clock, requests, denied, send };
}

/** The scopes of each request for a token, and by whom it was made. */
function tokensOf(ghcr: Ghcr): string[] {
  return ghcr.requests
    .filter(({ endpoint }) => endpoint === 'token')
    .map(({ path, authorization }) => {
      const { searchParams } = new URL(path, ghcr.url);
      return `${authorization} ${searchParams.getAll('scope').join(' ')}`;
    });
}

const fails = (code: ErrorCode, said: RegExp) => (error: unknown) => {
  assert.ok(error instanceof RegistryError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, said);
  assert.ok(!error.message.includes(SECRET));
  return true;
};

describe('a token', () => {
  test('that is refused the moment it was issued is asked for once more', async t => {
    const { ghcr, send } = await setUp(t);
    const once = ghcr.fault({ endpoint: 'upload-start', answer: { status: 401 }, times: 1 });
    assert.equal(await send(asks.push), 202);
    assert.equal(once.hits, 1);
    assert.deepEqual(tokensOf(ghcr), Array(2).fill('basic repository:owner/app:pull,push'));
    ghcr.expireTokens();
    const refused = ghcr.fault({ endpoint: 'upload-start', answer: { status: 401 } });
    await assert.rejects(send(asks.push), fails('DENIED', /Credential "ci" was denied/));
    assert.equal(refused.hits, 2);
  });

  test('is asked for with the right to what is to be done, and no other', async t => {
    const { ghcr, send } = await setUp(t);
    assert.equal(await send(asks.pull), 200);
    assert.equal(await send(asks.push), 202);
    assert.equal(await send(asks.delete), 202);
    assert.deepEqual(tokensOf(ghcr), [
      'basic repository:owner/app:pull',
      'basic repository:owner/app:pull,push',
      'basic repository:owner/app:*',
    ]);
  });

  test('for a mount has the right to read the other repository too, in a scope of its own', async t => {
    const { ghcr, send } = await setUp(t);
    const access: Access = { ...PUSH, from: 'owner/from' };
    await send({ ...asks.push, access });
    await send({ ...asks.push, access: { ...PUSH, from: 'owner/another' } });
    assert.deepEqual(tokensOf(ghcr), [
      'basic repository:owner/app:pull,push repository:owner/from:pull',
      'basic repository:owner/app:pull,push repository:owner/another:pull',
    ]);
  });

  test('is asked for once for each right, and used again for it alone', async t => {
    const { ghcr, send } = await setUp(t);
    for (let times = 0; times < 3; times++) {
      for (const ask of [asks.pull, asks.push]) await send(ask);
    }
    assert.deepEqual(tokensOf(ghcr), ['basic repository:owner/app:pull', 'basic repository:owner/app:pull,push']);
  });

  test('is asked for once by all who need it at once', async t => {
    const { ghcr, send } = await setUp(t);
    await Promise.all(Array.from({ length: 5 }, () => send(asks.push)));
    assert.equal(tokensOf(ghcr).length, 1);
  });

  test('that has expired is renewed for the right that it was for, and the request made again', async t => {
    for (const expiredToken of ['challenge', 'denied'] as const) {
      const { ghcr, send } = await setUp(t, { switches: { expiredToken } });
      for (const ask of [asks.pull, asks.push]) await send(ask);
      ghcr.expireTokens();
      assert.equal(await send(asks.push), 202);
      assert.deepEqual(tokensOf(ghcr).slice(2), ['basic repository:owner/app:pull,push']);
      assert.equal(await send(asks.pull), 200);
      assert.deepEqual(tokensOf(ghcr).slice(3), ['basic repository:owner/app:pull']);
    }
  });

  test('that has expired makes the request again with its body made again', async t => {
    const { ghcr, send } = await setUp(t);
    await send(asks.push);
    ghcr.expireTokens();
    let bodies = 0;
    const body = () => {
      bodies++;
      return Buffer.from('body');
    };
    assert.equal(await send({ ...asks.push, body }), 202);
    assert.equal(bodies, 2);
  });

  test('that has expired fails a request that cannot be made again, with nothing said twice', async t => {
    const { ghcr, send } = await setUp(t);
    await send(asks.push);
    ghcr.expireTokens();
    let bodies = 0;
    const body = () => {
      bodies++;
      return Buffer.from('body');
    };
    await assert.rejects(send({ ...asks.push, body, isSingleUse: true }), RegistryError);
    assert.equal(bodies, 1);
    assert.equal(tokensOf(ghcr).length, 1);
  });
});

describe('a credential that is denied for a write', () => {
  test('by the realm ends it: no one may write without one', async t => {
    for (const [ask, right] of [
      [asks.push, 'write:packages'],
      [asks.delete, 'delete:packages'],
    ] as const) {
      const { ghcr, send, denied } = await setUp(t);
      ghcr.removeUser('octocat');
      const said = new RegExp(
        `Credential "ci" was denied: check that it has not expired and that it has the right to this package \\(${right}\\)$`,
      );
      await assert.rejects(send(ask), fails('DENIED', said));
      assert.equal(tokensOf(ghcr).length, 1, 'no one asks anonymously');
      assert.equal(ghcr.count({ endpoint: 'upload-start' }), 0);
      assert.equal(denied.length, 1);
      assert.match(denied[0] ?? '', /^ci: .*403/);
    }
  });

  test('by the realm is no reason to read anonymously, or the other way round', async t => {
    const { ghcr, send } = await setUp(t, { scopes: ['read:packages'] });
    assert.equal(await send(asks.pull), 200);
    await assert.rejects(send(asks.push), fails('DENIED', /\(write:packages\)$/));
    assert.equal(await send(asks.pull), 200);
    assert.deepEqual(tokensOf(ghcr), ['basic repository:owner/app:pull', 'basic repository:owner/app:pull,push']);
  });

  for (const [pushDenied, code] of [
    ['later-403', 'DENIED'],
    ['later-unauthenticated', 'DENIED'],
  ] as const) {
    test(`by the registry itself (${pushDenied}) ends it too`, async t => {
      const { ghcr, send } = await setUp(t, { scopes: ['read:packages'], switches: { pushDenied } });
      await assert.rejects(send(asks.push), fails(code, /Credential "ci" was denied: check/));
      for (const line of tokensOf(ghcr)) assert.match(line, /^basic /);
      assert.equal(ghcr.count({ endpoint: 'upload-start', authorization: 'none' }), 0);
    });
  }

  test('lets pulls go on anonymously, which a public image is open to', async t => {
    const { ghcr, send } = await setUp(t);
    ghcr.removeUser('octocat');
    assert.equal(await send(asks.pull), 200);
    assert.deepEqual(tokensOf(ghcr), ['basic repository:owner/app:pull', 'none repository:owner/app:pull']);
    await assert.rejects(send(asks.push), fails('DENIED', /Credential "ci" was denied/));
    assert.equal(tokensOf(ghcr).length, 3);
  });

  test('by a realm that fails or limits us is not denied: that is told instead', async t => {
    for (const [answer, code] of [
      [answers.serverError(503), 'UPSTREAM_UNAVAILABLE'],
      [answers.tooManyRequests('7s'), 'TOOMANYREQUESTS'],
    ] as const) {
      const { ghcr, send, denied } = await setUp(t);
      ghcr.fault({ endpoint: 'token', answer });
      await assert.rejects(send(asks.push), fails(code, /./));
      assert.deepEqual(denied, []);
    }
  });
});

describe('a write without a credential', () => {
  test('is denied with the advice to add one', async t => {
    const { ghcr, send, denied } = await setUp(t, { credentials: [] });
    const said = /This takes a credential, and no credential of the config is for owner "owner": add one, by /;
    await assert.rejects(send(asks.push), fails('DENIED', said));
    await assert.rejects(send(asks.delete), fails('DENIED', said));
    assert.equal(ghcr.count({ endpoint: 'upload-start' }), 0);
    assert.deepEqual(denied, []);
    await assert.rejects(
      setUp(t, { credentials: [{ ...CREDENTIAL, owner: 'somebody' }] }).then(other => other.send(asks.push)),
      fails('DENIED', said),
    );
  });

  test('is done where no one is asked for one', async t => {
    const { ghcr, send } = await setUp(t, { credentials: [], switches: { auth: 'none' } });
    assert.equal(await send(asks.push), 202);
    assert.equal(tokensOf(ghcr).length, 0);
  });
});

test('a registry that takes the credential itself gets it with every write, and no realm is asked', async t => {
  const { ghcr, send } = await setUp(t, { switches: { auth: 'basic' } });
  for (const ask of Object.values(asks)) assert.ok((await send(ask)) < 300);
  assert.equal(tokensOf(ghcr).length, 0);
  assert.equal(ghcr.count({ authorization: 'basic' }), 3);
});

test('a credential that cannot be read is DENIED, with its name', async t => {
  const read = () => Promise.reject(new Error('no such file'));
  const { ghcr, send } = await setUp(t, { credentials: [{ ...CREDENTIAL, read }] });
  for (const ask of [asks.pull, asks.push]) {
    await assert.rejects(send(ask), fails('DENIED', /credential "ci" cannot be read: no such file/));
  }
  assert.equal(tokensOf(ghcr).length, 0);
});

test('rights to pull are the default', async t => {
  const { ghcr, send } = await setUp(t);
  await send({ ...asks.pull, access: PULL });
  await send(asks.pull);
  assert.equal(tokensOf(ghcr).length, 1);
});

test('a token that is used towards its end is renewed meanwhile, and no request waits for that', async t => {
  const { ghcr, clock, send } = await setUp(t);
  await send(asks.pull);
  clock.advance(50_000);
  await send(asks.pull);
  assert.equal(tokensOf(ghcr).length, 1);
  const slow = Promise.withResolvers<void>();
  ghcr.fault({ endpoint: 'token', gate: slow.promise, times: 1 });
  clock.advance(2_000);
  await Promise.all([send(asks.pull), send(asks.pull)]);
  await ghcr.until({ endpoint: 'token' }, 2);
  slow.resolve();
  await until(() => ghcr.count({ endpoint: 'token', state: 'finished' }) === 2);
  await turns(20);
  clock.advance(10_000);
  await send(asks.pull);
  assert.equal(tokensOf(ghcr).length, 2);
});

test('a token of a login that is changed while it is asked for is not used', async t => {
  let login = { username: 'octocat', secret: SECRET };
  const { ghcr, requests, send } = await setUp(t, { credentials: [{ ...CREDENTIAL, read: async () => login }] });
  ghcr.addUser({ username: 'hubot', token: 'another', packages: ['owner/*'], scopes: ['read:packages'] });
  const slow = Promise.withResolvers<void>();
  ghcr.fault({ endpoint: 'token', gate: slow.promise, times: 1 });
  const sending = send(asks.pull);
  await ghcr.until({ endpoint: 'token' }, 1);
  login = { username: 'hubot', secret: 'another' };
  await requests.identity(APP);
  slow.resolve();
  assert.equal(await sending, 200);
  assert.equal(tokensOf(ghcr).length, 2);
  await send(asks.pull);
  assert.equal(tokensOf(ghcr).length, 2);
});

test('a helper that gives another login each time costs two tokens for each request at most', async t => {
  let reads = 0;
  const read = async () => {
    await turns(3);
    return { username: 'octocat', secret: reads++ === 0 ? SECRET : `${SECRET}${reads}` };
  };
  const { ghcr, requests } = await setUp(t, { credentials: [{ ...CREDENTIAL, read }] });
  ghcr.fault({ endpoint: 'token', chunked: true });
  const names = Array.from({ length: 6 }, (_, i) => ({ ...APP, name: `owner/app${i}` }));
  await Promise.allSettled(names.map(each => requests.send(each, asks.pull)));
  assert.ok(tokensOf(ghcr).length <= 6 * 3, `${tokensOf(ghcr).length} tokens`);
});

test('a token lasts its own time, whatever happens to the wall clock', async t => {
  for (const byMs of [-3_600_000, 3_600_000]) {
    const { ghcr, clock, send } = await setUp(t);
    await send(asks.pull);
    clock.set(byMs);
    clock.advance(50_000);
    await send(asks.pull);
    assert.equal(tokensOf(ghcr).length, 1);
    clock.advance(10_000);
    await send(asks.pull);
    assert.equal(tokensOf(ghcr).length, 2);
  }
});
