// What GitHub's API for packages does not do, and responses that no one should give, against a scripted one.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { TestClock } from '../../../test/support/clock.ts';
import { one, packagesAt, packagesOfGhcr, pushBoth, scriptedApi, two } from '../../../test/support/packages-api.ts';
import { APP, fails, manifestsIn, SECRET } from '../../../test/support/upstream-clients.ts';
import { type ErrorCode, RegistryError } from '../../oci/errors.ts';

describe('what GitHub does not do', () => {
  test('is UNSUPPORTED: the last version, and one of very many downloads', async t => {
    const { ghcr, packages } = await packagesOfGhcr(t);
    pushBoth(ghcr);
    ghcr.switches.downloadsOf = (_, digest) => (digest === one.manifest.digest ? 5001 : 0);
    await assert.rejects(
      packages.delete(APP, { digest: one.manifest.digest }),
      fails('UNSUPPORTED', /does not delete ghcr\.io\/owner\/app@sha256:.*more than 5000 downloads/),
    );
    ghcr.deleteManifest(APP.name, one.manifest.digest);
    await assert.rejects(packages.delete(APP, { tag: 'v2' }), fails('UNSUPPORTED', /delete the package instead/));
    assert.deepEqual(manifestsIn(ghcr), [two.manifest.digest]);
  });

  const nowS = new TestClock().now() / 1000;
  const none = { 'x-ratelimit-remaining': '0' };
  const answers: [status: number, headers: Record<string, string>, code: ErrorCode, retryAfterMs?: number][] = [
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
    [401, none, 'DENIED'],
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
        const { packages } = await scriptedApi(t, call => {
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
      const { packages } = await scriptedApi(t, () => ({ status: 403, body: { message } }));
      await assert.rejects(packages.delete(APP, { tag: 'v1' }), fails('TOOMANYREQUESTS', /limits our requests: 403/));
    }
  });

  test('is told without our secret, in short, and without a page', async t => {
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
      const { packages } = await scriptedApi(t, () => ({ status: 403, body }));
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
      const { packages, calls } = await scriptedApi(t, () => ({ status: 200, body }));
      await assert.rejects(
        packages.delete(APP, { tag: 'v1' }),
        fails('UPSTREAM_INVALID', /answered with no list of versions/),
      );
      assert.equal(calls.length, 1);
    });
  }

  test('may have versions without tags, without metadata, and with unknown fields', async t => {
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
    const { packages, calls } = await scriptedApi(t, call => ({
      status: call.startsWith('GET') ? 200 : 204,
      body,
    }));
    await packages.delete(APP, { tag: 'v1' });
    assert.equal(calls.at(-1), 'DELETE /orgs/owner/packages/container/app/versions/7');
  });

  test('leads to one deletion of its own package at most, whatever is in it', async t => {
    let body: unknown;
    const { packages, calls } = await scriptedApi(t, call =>
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
