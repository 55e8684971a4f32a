// Deleting through GitHub's interface for packages: against the stand-in's, and against a scripted one for answers that
// nobody should give.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { TestClock } from '../../../test/support/clock.ts';
import { type Ghcr, startGhcr, type User } from '../../../test/support/ghcr/ghcr.ts';
import { type Image, makeImage } from '../../../test/support/images.ts';
import { credentialsOf, type OwnedCredential } from '../../credentials/credential.ts';
import { digestOf } from '../../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../../oci/errors.ts';
import type { Repository } from '../../oci/reference.ts';
import { Dialer } from '../transport/dialer.ts';
import { Packages } from './packages.ts';

const APP: Repository = { upstream: 'ghcr.io', name: 'owner/app' };
const SECRET = 'ghp_0123456789secret';
const USER: User = {
  username: 'octocat',
  token: SECRET,
  scopes: ['read:packages', 'delete:packages'],
  packages: ['*'],
};
const CREDENTIAL: OwnedCredential = {
  name: 'ci',
  owner: '*',
  read: async () => ({ username: 'octocat', secret: SECRET }),
};

function packagesAt(t: TestContext, api: string, credentials: OwnedCredential[] = [CREDENTIAL]): Packages {
  const dialer = new Dialer({
    timeouts: { connectMs: 2_000, headersMs: 2_000, stallMs: 2_000, uploadMs: 2_000 },
  });
  t.after(() => dialer.close());
  return new Packages({
    api: new URL(api),
    credentials: credentialsOf(credentials),
    dialer,
    clock: new TestClock(),
  });
}

async function setUp(
  t: TestContext,
  options: { user?: Partial<User>; credentials?: OwnedCredential[] } = {},
) {
  const ghcr = await startGhcr();
  t.after(() => ghcr.close());
  ghcr.addUser({ ...USER, ...options.user });
  return { ghcr, packages: packagesAt(t, ghcr.apiUrl, options.credentials) };
}

/** An interface that answers each path as the test says; what is not known to it is 404. */
async function scripted(
  t: TestContext,
  reply: (call: string) => { status: number; headers?: Record<string, string>; body?: unknown } | undefined,
) {
  const calls: string[] = [];
  const server = createServer((request, response) => {
    const call = `${request.method} ${request.url}`;
    calls.push(call);
    const { status, headers, body = '' } = reply(call) ?? { status: 404 };
    response.writeHead(status, headers);
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, calls, packages: packagesAt(t, url) };
}

const fails =
  (code: ErrorCode, said: RegExp = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof RegistryError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, said);
    assert.ok(!error.message.includes(SECRET));
    return true;
  };

const imageOf = (seed: string) => makeImage({ layers: [], seed });
const [one, two] = [imageOf('one'), imageOf('two')];

function push(ghcr: Ghcr, name = APP.name): void {
  ghcr.push(name, one, 'v1', 'latest');
  ghcr.push(name, two, 'v2');
}

function digestsIn(ghcr: Ghcr, name = APP.name): string[] {
  return [
    ...(ghcr
      .packages()
      .find(each => each.name === name)
      ?.manifests.keys() ?? []),
  ];
}

const digestsOf = (...images: Image[]) => images.map(({ manifest }) => manifest.digest);
const pathsOf = (ghcr: Ghcr) => ghcr.requests.map(({ method, path }) => `${method} ${path}`);

describe('a version of a package', () => {
  test('is deleted by its digest, with all its tags', async t => {
    const { ghcr, packages } = await setUp(t);
    push(ghcr);
    await packages.delete(APP, { digest: one.manifest.digest });
    assert.deepEqual(digestsIn(ghcr), digestsOf(two));
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
    const { ghcr, packages } = await setUp(t);
    push(ghcr);
    await packages.delete(APP, { tag: 'v2' });
    assert.deepEqual(digestsIn(ghcr), digestsOf(one));
  });

  test('is not deleted by one of its tags, and is named with the others', async t => {
    const { ghcr, packages } = await setUp(t);
    push(ghcr);
    await assert.rejects(packages.delete(APP, { tag: 'v1' }), (error: unknown) => {
      fails('UNSUPPORTED', /app:v1 cannot be deleted alone.*, and latest would go too/)(error);
      const { detail } = error as RegistryError;
      assert.deepEqual(detail, { digest: one.manifest.digest, tags: ['v1', 'latest'] });
      return true;
    });
    assert.deepEqual(digestsIn(ghcr), digestsOf(one, two));
    assert.equal(ghcr.count({ method: 'DELETE' }), 0);
  });

  test('that has no tag is deleted by its digest, and found by no tag', async t => {
    const { ghcr, packages } = await setUp(t);
    push(ghcr);
    ghcr.push(APP.name, imageOf('untagged'));
    await assert.rejects(packages.delete(APP, { tag: 'v3' }), fails('MANIFEST_UNKNOWN'));
    await packages.delete(APP, { digest: imageOf('untagged').manifest.digest });
    assert.deepEqual(digestsIn(ghcr), digestsOf(one, two));
  });

  test('of a user is found where users are, after it was not among organisations', async t => {
    const { ghcr, packages } = await setUp(t);
    push(ghcr, 'octocat/app');
    await packages.delete({ upstream: 'ghcr.io', name: 'octocat/app' }, { tag: 'v2' });
    assert.deepEqual(digestsIn(ghcr, 'octocat/app'), digestsOf(one));
    assert.deepEqual(
      pathsOf(ghcr).map(path => path.replace(/versions.*/, '')),
      [
        'GET /orgs/octocat/packages/container/app/',
        ...['GET', 'DELETE'].map(method => `${method} /users/octocat/packages/container/app/`),
      ],
    );
  });

  test('of a name of several parts is found under it', async t => {
    const { ghcr, packages } = await setUp(t);
    push(ghcr, 'owner/group/sub.app');
    await packages.delete({ upstream: 'ghcr.io', name: 'owner/group/sub.app' }, { tag: 'v2' });
    assert.deepEqual(digestsIn(ghcr, 'owner/group/sub.app'), digestsOf(one));
    assert.match(pathsOf(ghcr)[0] ?? '', /\/orgs\/owner\/packages\/container\/group%2Fsub\.app\/versions\?/);
  });

  for (const [pages, versions] of [
    [1, 99],
    [2, 100],
    [3, 250],
  ] as const) {
    test(`is looked for in all pages: the oldest of ${versions + 1} on page ${pages}`, async t => {
      const { ghcr, packages } = await setUp(t);
      push(ghcr);
      for (let i = 0; i < versions - 1; i++) ghcr.push(APP.name, imageOf(`${i}`), `tag-${i}`);
      const asked = () => ghcr.count({ method: 'GET' });
      await packages.delete(APP, { digest: one.manifest.digest });
      assert.equal(asked(), pages);
      assert.ok(!digestsIn(ghcr).includes(one.manifest.digest));
      await assert.rejects(packages.delete(APP, { tag: 'nowhere' }), fails('MANIFEST_UNKNOWN'));
    });
  }

  test('that is on the first page is looked for no further', async t => {
    const { ghcr, packages } = await setUp(t);
    for (let i = 0; i < 150; i++) ghcr.push(APP.name, imageOf(`${i}`), `tag-${i}`);
    await packages.delete(APP, { tag: 'tag-149' });
    assert.equal(ghcr.count({ method: 'GET' }), 1);
  });
});

describe('what is not there', () => {
  const unknown = fails(
    'MANIFEST_UNKNOWN',
    /is not among the versions that 127\.0\.0\.1:\d+ shows to credential "ci".*read:packages, delete:packages/,
  );

  test('is MANIFEST_UNKNOWN: a package, a digest, a tag', async t => {
    const { ghcr, packages } = await setUp(t);
    await assert.rejects(packages.delete(APP, { tag: 'v1' }), unknown);
    push(ghcr);
    await assert.rejects(packages.delete(APP, { tag: 'v3' }), unknown);
    await assert.rejects(packages.delete(APP, { digest: digestOf(Buffer.from('x')) }), unknown);
    assert.equal(digestsIn(ghcr).length, 2);
  });

  test('is MANIFEST_UNKNOWN too when it goes between the question and the deletion', async t => {
    const { ghcr, packages } = await setUp(t);
    push(ghcr);
    ghcr.fault({
      endpoint: 'api',
      method: 'DELETE',
      answer: { status: 404, body: { message: 'Not Found' } },
    });
    await assert.rejects(packages.delete(APP, { tag: 'v2' }), unknown);
  });

  test('may be a package that the credential does not see', async t => {
    const { ghcr, packages } = await setUp(t, { user: { packages: [] } });
    push(ghcr);
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
    const { ghcr, packages } = await setUp(t, { credentials: [of('someone', 'wrong'), of('owner', SECRET)] });
    push(ghcr);
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
    assert.equal(ghcr.count(), 0, 'nobody is asked anything');
  });

  test('that cannot be read is DENIED, with its name and why', async t => {
    const read = () => Promise.reject(new Error('no such file'));
    const { ghcr, packages } = await setUp(t, { credentials: [{ ...CREDENTIAL, read }] });
    await assert.rejects(
      packages.delete(APP, { tag: 'v1' }),
      fails('DENIED', /credential "ci" cannot be read: no such file/),
    );
    assert.equal(ghcr.count(), 0);
  });

  test('that is not known is UNAUTHORIZED, with its name', async t => {
    const { ghcr, packages } = await setUp(t);
    ghcr.removeUser('octocat');
    await assert.rejects(
      packages.delete(APP, { tag: 'v1' }),
      fails(
        'UNAUTHORIZED',
        /refuses credential "ci": 401 "Bad credentials"; it needs the rights read:packages and delete:packages/,
      ),
    );
  });

  for (const scopes of [[], ['read:packages'], ['write:packages']]) {
    test(`with no more than ${scopes.join() || 'nothing'} is DENIED, with the right that it lacks`, async t => {
      const { ghcr, packages } = await setUp(t, { user: { scopes } });
      push(ghcr);
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
      assert.equal(digestsIn(ghcr).length, 2);
    });
  }

  test('that is not an administrator of the package is DENIED', async t => {
    const { ghcr, packages } = await setUp(t, { user: { packages: ['*'], writes: [] } });
    push(ghcr);
    await assert.rejects(
      packages.delete(APP, { tag: 'v2' }),
      fails('DENIED', /administrator of the package/),
    );
  });

  test('that is not authorized for single sign-on is DENIED, with what to do', async t => {
    const { ghcr, packages } = await setUp(t);
    push(ghcr);
    ghcr.switches.singleSignOn = 'required';
    await assert.rejects(
      packages.delete(APP, { tag: 'v2' }),
      fails('DENIED', /authorize the credential for single sign-on/),
    );
  });

  test('that leads to partial results only is good for what is among them', async t => {
    const { ghcr, packages } = await setUp(t);
    push(ghcr);
    ghcr.switches.singleSignOn = 'partial-results';
    await packages.delete(APP, { tag: 'v2' });
    assert.deepEqual(digestsIn(ghcr), digestsOf(one));
  });
});

describe('what GitHub does not do', () => {
  test('is UNSUPPORTED: the last version, and one of very many downloads', async t => {
    const { ghcr, packages } = await setUp(t);
    push(ghcr);
    ghcr.switches.downloadsOf = (_, digest) => (digest === one.manifest.digest ? 5001 : 0);
    await assert.rejects(
      packages.delete(APP, { digest: one.manifest.digest }),
      fails('UNSUPPORTED', /does not delete ghcr\.io\/owner\/app@sha256:.*more than 5000 downloads/),
    );
    ghcr.deleteManifest(APP.name, one.manifest.digest);
    await assert.rejects(
      packages.delete(APP, { tag: 'v2' }),
      fails('UNSUPPORTED', /delete the package instead/),
    );
    assert.deepEqual(digestsIn(ghcr), digestsOf(two));
  });

  const nowS = new TestClock().now() / 1000;
  const none = { 'x-ratelimit-remaining': '0' };
  const answers: [status: number, headers: Record<string, string>, code: ErrorCode, retryAfterMs?: number][] =
    [
      [422, {}, 'UNSUPPORTED'],
      [429, { 'retry-after': '7' }, 'TOOMANYREQUESTS', 7_000],
      [429, { 'retry-after': 'Thu, 01 Jan 2026 00:00:30 GMT' }, 'TOOMANYREQUESTS', 30_000],
      [429, {}, 'TOOMANYREQUESTS', 60_000],
      [429, { 'retry-after': 'soon' }, 'TOOMANYREQUESTS', 60_000],
      [429, { 'retry-after': '999999999' }, 'TOOMANYREQUESTS', 3_600_000],
      [403, { 'retry-after': '7' }, 'TOOMANYREQUESTS', 7_000],
      [403, none, 'TOOMANYREQUESTS', 60_000],
      [403, { ...none, 'x-ratelimit-reset': `${nowS + 90}` }, 'TOOMANYREQUESTS', 90_000],
      [403, { ...none, 'x-ratelimit-reset': `${nowS - 90}` }, 'TOOMANYREQUESTS', 60_000],
      [403, { ...none, 'x-ratelimit-reset': `${nowS + 1e6}` }, 'TOOMANYREQUESTS', 3_600_000],
      [403, { ...none, 'x-ratelimit-reset': 'never' }, 'TOOMANYREQUESTS', 60_000],
      [403, { 'x-ratelimit-remaining': '10' }, 'DENIED'],
      [401, none, 'UNAUTHORIZED'],
      [500, {}, 'UPSTREAM_UNAVAILABLE'],
      [502, {}, 'UPSTREAM_UNAVAILABLE'],
      [503, {}, 'UPSTREAM_UNAVAILABLE'],
      [301, { location: '/elsewhere' }, 'UPSTREAM_INVALID'],
      [410, {}, 'UPSTREAM_INVALID'],
      [418, {}, 'UPSTREAM_INVALID'],
    ];
  for (const [status, headers, code, retryAfterMs] of answers) {
    test(`because of a ${status} with ${JSON.stringify(headers)} is ${code}, whichever request it comes to`, async t => {
      for (const method of ['GET', 'DELETE']) {
        const { packages } = await scripted(t, call => {
          if (call.startsWith(method)) return { status, headers, body: { message: 'why' } };
          return { status: 200, body: [{ id: 1, name: 'x', metadata: { container: { tags: ['v1'] } } }] };
        });
        await assert.rejects(packages.delete(APP, { tag: 'v1' }), (error: unknown) => {
          fails(code, new RegExp(`${status} "why"`))(error);
          assert.equal((error as RegistryError).retryAfterMs, retryAfterMs);
          return true;
        });
      }
    });
  }

  test('because of a limit that only its words tell is TOOMANYREQUESTS too', async t => {
    for (const message of [
      'You have exceeded a secondary rate limit. Please wait a few minutes before you try again.',
      'API rate limit exceeded for user ID 1.',
    ]) {
      const { packages } = await scripted(t, () => ({ status: 403, body: { message } }));
      await assert.rejects(
        packages.delete(APP, { tag: 'v1' }),
        fails('TOOMANYREQUESTS', /limits our requests: 403/),
      );
    }
  });

  test('is told without our secret, shortly, and not at all by a page', async t => {
    const bodies: [body: unknown, said: RegExp][] = [
      [{ message: `token ${SECRET} is bad, ${SECRET}` }, /403 "token \*\*\* is bad, \*\*\*"/],
      [{ message: 'x'.repeat(10_000) }, /403 "x{300}"/],
      ['<html>Unicorn!</html>', /403 ""/],
      ['', /403 ""/],
      [{ message: null }, /403 ""/],
      [{ message: { toString: 1 } }, /403 ""/],
      ['null', /403 ""/],
      ['[]', /403 ""/],
    ];
    for (const [body, said] of bodies) {
      const { packages } = await scripted(t, () => ({ status: 403, body }));
      await assert.rejects(packages.delete(APP, { tag: 'v1' }), fails('DENIED', said));
    }
  });

  test('because it cannot be reached is UPSTREAM_UNAVAILABLE', async t => {
    const packages = packagesAt(t, 'http://127.0.0.1:1');
    await assert.rejects(packages.delete(APP, { tag: 'v1' }), fails('UPSTREAM_UNAVAILABLE'));
  });
});

describe('a list of versions', () => {
  const bad: [what: string, body: unknown][] = [
    ['nothing', ''],
    ['a page', '<html>'],
    ['JSON that breaks off', '[{"id":1'],
    ['an object', { message: 'x' }],
    ['null', 'null'],
    ['a text', '"x"'],
    ['a version that is null', [null]],
    ['a version without a number', [{ name: 'x' }]],
    ['a version with a number that is a text', [{ id: '1/../../x', name: 'x' }]],
    ['a version with a number beyond all numbers', '[{"id":1e999,"name":"x"}]'],
    ['a version with half a number', [{ id: 1.5, name: 'x' }]],
    ['tags that are a text', [{ id: 1, name: 'x', metadata: { container: { tags: 'v1' } } }]],
    ['tags that are an object', [{ id: 1, name: 'x', metadata: { container: { tags: {} } } }]],
    ['more than a page can be', `[${' '.repeat(9 * 1024 * 1024)}]`],
  ];
  for (const [what, body] of bad) {
    test(`of ${what} is UPSTREAM_INVALID, and nothing is deleted`, async t => {
      const { packages, calls } = await scripted(t, () => ({ status: 200, body }));
      await assert.rejects(
        packages.delete(APP, { tag: 'v1' }),
        fails('UPSTREAM_INVALID', /answered with no list of versions/),
      );
      assert.equal(calls.length, 1);
    });
  }

  test('may have versions without tags, without metadata, and with fields that nobody knows', async t => {
    const tagged = {
      id: 7,
      name: 'sha256:x',
      metadata: { package_type: 'container', container: { tags: ['v1'] } },
    };
    const body = [
      { id: 1, name: 'a' },
      { id: 2, name: 'b', metadata: null },
      { id: 3, name: 'c', metadata: { container: null } },
      { id: 4, metadata: { container: { tags: null } }, __proto: 1 },
      { ...tagged, url: 'http://elsewhere/' },
    ];
    const { packages, calls } = await scripted(t, call => ({
      status: call.startsWith('GET') ? 200 : 204,
      body,
    }));
    await packages.delete(APP, { tag: 'v1' });
    assert.equal(calls.at(-1), 'DELETE /orgs/owner/packages/container/app/versions/7');
  });

  test('leads to one deletion of its own package at most, whatever is in it', async t => {
    let body: unknown;
    const { packages, calls } = await scripted(t, call =>
      call.startsWith('GET') ? { status: 200, body: JSON.stringify(body) } : { status: 204 },
    );
    const version = fc.record(
      {
        id: fc.oneof(fc.integer(), fc.jsonValue()),
        name: fc.oneof(fc.constant(one.manifest.digest), fc.jsonValue()),
        metadata: fc.oneof(
          fc.record({ container: fc.record({ tags: fc.array(fc.constantFrom('v1', 'v2')) }) }),
          fc.jsonValue(),
        ),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(fc.array(version, { maxLength: 3 }), fc.jsonValue()),
        fc.boolean(),
        async (list, byTag) => {
          body = list;
          calls.length = 0;
          const deleting = packages.delete(APP, byTag ? { tag: 'v1' } : { digest: one.manifest.digest });
          await deleting.catch(error => assert.ok(error instanceof RegistryError, String(error)));
          const deletions = calls.filter(call => call.startsWith('DELETE'));
          assert.ok(deletions.length <= 1);
          for (const call of deletions)
            assert.match(call, /^DELETE \/(orgs|users)\/owner\/packages\/container\/app\/versions\/-?\d+$/);
        },
      ),
      { numRuns: 100 },
    );
  });
});

test('an interface may be at a path of its host, as on a server of ones own', async t => {
  const { url, calls } = await scripted(t, call => ({
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
