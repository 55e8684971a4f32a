// What GitHub's API tells of a token, against that of the fake ghcr.io and a scripted one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startGhcr } from '../../../test/support/ghcr/ghcr.ts';
import { scriptedApi } from '../../../test/support/packages-api.ts';
import { dialerOf, SECRET } from '../../../test/support/upstream-clients.ts';
import { Mask } from '../auth/mask.ts';
import { accountOf } from './account.ts';

test('the user, the scopes and the end of a token are told, and that it is not known', async t => {
  const ghcr = await startGhcr();
  t.after(() => ghcr.close());
  const options = { api: new URL(ghcr.apiUrl), dialer: dialerOf(t), mask: new Mask() };
  assert.equal(await accountOf(options, SECRET), undefined);
  ghcr.addUser({ username: 'octocat', token: SECRET, scopes: ['write:packages', 'repo'] });
  const account = { user: 'octocat', scopes: ['write:packages', 'repo'], expiresAt: undefined };
  assert.deepEqual(await accountOf(options, SECRET), account);
  ghcr.addUser({ username: 'hubot', token: 'ghp_another', scopes: [], expiration: '2027-10-12 09:00:00 UTC' });
  const expiresAt = new Date('2027-10-12T09:00:00Z');
  assert.deepEqual(await accountOf(options, 'ghp_another'), { user: 'hubot', scopes: [], expiresAt });
  for (const { path, headers } of ghcr.requests.slice(1, 2)) {
    assert.deepEqual([path, headers.authorization], ['/user', `Bearer ${SECRET}`]);
  }
});

test('an answer may lack anything, and none of it is believed to be fit for a terminal', async t => {
  const unknown = { user: undefined, scopes: undefined, expiresAt: undefined };
  const expires = (text: string) => ({
    status: 200,
    headers: { 'github-authentication-token-expiration': text },
    body: {},
  });
  const cases: [
    reply: { status: number; headers?: Record<string, string>; body?: unknown },
    account: object | RegExp,
  ][] = [
    [{ status: 403, body: { message: 'Resource not accessible by integration' } }, unknown],
    [{ status: 200, body: '<html>' }, unknown],
    [{ status: 200, body: { login: 7 } }, unknown],
    [
      { status: 200, body: { login: `\x1b[31m${SECRET}${'x'.repeat(500)}` } },
      { ...unknown, user: `[31m***${'x'.repeat(93)}` },
    ],
    [
      { status: 200, headers: { 'x-oauth-scopes': '' }, body: {} },
      { ...unknown, scopes: [] },
    ],
    [
      { status: 200, headers: { 'x-oauth-scopes': 'repo,, gist' }, body: {} },
      { ...unknown, scopes: ['repo', 'gist'] },
    ],
    [expires('2027-10-12 09:00:00 +0200'), { ...unknown, expiresAt: new Date('2027-10-12T07:00:00Z') }],
    [expires('2027-13-99 09:00:00 UTC'), unknown],
    [expires('never'), unknown],
    [{ status: 500 }, /answers a question about the token with 500/],
    [{ status: 302, headers: { location: 'http://127.0.0.1:1/' } }, /with 302/],
  ];
  for (const [reply, expected] of cases) {
    const { url } = await scriptedApi(t, () => reply);
    const asking = accountOf({ api: new URL(url), dialer: dialerOf(t), mask: new Mask() }, SECRET);
    if (expected instanceof RegExp) await assert.rejects(asking, { code: 'UPSTREAM_INVALID', message: expected });
    else assert.deepEqual(await asking, expected);
  }
});
