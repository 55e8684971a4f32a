import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { type ScriptedReply, startScripted } from '../../../test/support/scripted-server.ts';
import { dialerOf, fails } from '../../../test/support/upstream-clients.ts';
import { systemClock } from '../../base/clock.ts';
import { Mask } from './mask.ts';
import { requestToken, type TokenRequest } from './token-endpoint.ts';

async function setUp(t: TestContext, reply: ScriptedReply, request: Partial<TokenRequest> = {}) {
  const { origin, seen } = await startScripted(t, () => reply);
  const dialer = dialerOf(t);
  const mask = new Mask();
  mask.add('c2VjcmV0');
  const result = requestToken(
    { dialer, clock: systemClock, mask },
    {
      realm: new URL('/token?kept=1', origin),
      service: 'ghcr.io',
      scopes: ['repository:owner/app:pull'],
      authorization: 'Basic c2VjcmV0',
      subject: { repository: 'owner/app', image: 'ghcr.io/owner/app' },
      ...request,
    },
  );
  result.catch(() => {});
  return { seen, result };
}

const json = (body: object): ScriptedReply => ({ status: 200, body: JSON.stringify(body) });

describe('a token request', () => {
  test('is a GET with service, scopes and our credential, and keeps the query of the realm', async t => {
    const scopes = ['repository:owner/app:pull,push', 'repository:owner/from:pull'];
    const { seen, result } = await setUp(t, json({ token: 'abc' }), { scopes });
    await result;
    const [{ method, url, headers } = assert.fail(), ...others] = seen;
    assert.equal(`${method} ${url.pathname}`, 'GET /token');
    assert.deepEqual(
      [...url.searchParams],
      [['kept', '1'], ['service', 'ghcr.io'], ...scopes.map(scope => ['scope', scope])],
    );
    assert.equal(headers.authorization, 'Basic c2VjcmV0');
    assert.deepEqual(others, []);
  });

  test('says neither a service nor a credential where there is none', async t => {
    const { seen, result } = await setUp(t, json({ token: 'abc' }), {
      service: undefined,
      authorization: undefined,
    });
    await result;
    assert.equal(seen[0]?.url.searchParams.has('service'), false);
    assert.equal(seen[0]?.headers.authorization, undefined);
  });
});

describe('a token', () => {
  const table: [what: string, body: object, value: string, lifetimeMs: number][] = [
    ['lives a minute where nothing is said', { token: 'abc' }, 'abc', 60_000],
    ['may be called access_token', { access_token: 'abc' }, 'abc', 60_000],
    ['is `token` where both are there', { token: 'a', access_token: 'b' }, 'a', 60_000],
    ['is access_token where `token` is empty', { token: '', access_token: 'b' }, 'b', 60_000],
    ['is access_token where `token` is null', { token: null, access_token: 'b' }, 'b', 60_000],
    ['lives as long as is said', { token: 'abc', expires_in: 300 }, 'abc', 300_000],
    ['lives an hour at most', { token: 'abc', expires_in: 1e9 }, 'abc', 3_600_000],
    ['lives a minute where nonsense is said', { token: 'abc', expires_in: -1 }, 'abc', 60_000],
    ['lives a minute where a text is said', { token: 'abc', expires_in: '300' }, 'abc', 60_000],
  ];
  for (const [what, body, value, lifetimeMs] of table) {
    test(what, async t => {
      const { result } = await setUp(t, json(body));
      assert.deepEqual(await result, { token: { value, lifetimeMs } });
    });
  }

  const bad: [what: string, body: string][] = [
    ['a page', '<html>'],
    ['nothing', ''],
    ['null', 'null'],
    ['an object without one', '{}'],
    ['a number', '{"token":5}'],
    ['an empty text', '{"token":""}'],
    ['a text that no header can hold', '{"token":"a\\nb"}'],
    ['more than a token can be', JSON.stringify({ token: 'x'.repeat(200_000) })],
  ];
  for (const [what, body] of bad) {
    test(`is not ${what}`, async t => {
      const { result } = await setUp(t, { status: 200, body });
      await assert.rejects(result, fails('UPSTREAM_INVALID', /answered our token request with something/));
    });
  }
});

test('an error response comes back as one, without our secrets', async t => {
  const { result } = await setUp(t, { status: 403, body: 'bad credential c2VjcmV0' });
  const outcome = await result;
  assert('error' in outcome);
  assert.equal(outcome.error.status, 403);
  assert.equal(outcome.error.message, 'bad credential ***');
});

test('a wait that it asks for, also until a date, is told', async t => {
  const date = new Date(Date.now() + 90_000).toUTCString();
  for (const [status, member] of [
    [429, 'retryAfterMs'],
    [503, 'busyMs'],
  ] as const) {
    const { result } = await setUp(t, { status, headers: { 'retry-after': date } });
    const outcome = await result;
    assert('error' in outcome);
    const ms = outcome.error[member] ?? assert.fail();
    assert(status === 429 ? ms > 60_000 && ms <= 90_000 : ms === 10_000, `${ms}`);
  }
});

test('a redirect is not followed, since it could lead our credential anywhere', async t => {
  const { seen, result } = await setUp(t, { status: 307, headers: { location: '/elsewhere' } });
  const outcome = await result;
  assert('error' in outcome);
  assert.equal(outcome.error.status, 307);
  assert.equal(seen.length, 1);
});
