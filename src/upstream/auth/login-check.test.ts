// Whether a registry accepts a login: the fake ghcr.io, and registries with other challenges.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { startGhcr } from '../../../test/support/ghcr/ghcr.ts';
import { dialerOf, SECRET } from '../../../test/support/upstream-clients.ts';
import { systemClock } from '../../base/clock.ts';
import { checkLogin } from './login-check.ts';
import { Mask } from './mask.ts';

const LOGIN = { username: 'octocat', secret: SECRET };
const BASIC = `Basic ${Buffer.from(`octocat:${SECRET}`).toString('base64')}`;

interface Reply {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

/** A registry that answers GET /v2/ by the Authorization that comes with it. */
async function startRegistry(t: TestContext, reply: (authorization: string | undefined) => Reply): Promise<string> {
  const server = createServer((request, response) => {
    const { status, headers = {}, body } = reply(request.headers.authorization);
    response.writeHead(status, headers).end(body);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close().closeAllConnections());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function check(t: TestContext, url: string, secret = SECRET) {
  const registry = new URL(url);
  const dialer = dialerOf(t, { registry });
  const options = { url: registry, realms: [], dialer, clock: systemClock, mask: new Mask() };
  return checkLogin(options, { ...LOGIN, secret });
}

test('ghcr.io accepts a token of its own, and denies another', async t => {
  const ghcr = await startGhcr();
  t.after(() => ghcr.close());
  ghcr.addUser({ ...LOGIN, token: SECRET });
  assert.deepEqual(await check(t, ghcr.url), { verdict: 'accepted' });
  const said = '403 "DENIED: requested access to the resource is denied"';
  assert.deepEqual(await check(t, ghcr.url, 'wrong'), { verdict: 'denied', said });
});

test('a registry that asks for Basic is asked so, and one that asks nobody says nothing of a login', async t => {
  const headers = { 'www-authenticate': 'Basic realm="x"' };
  const basic = await startRegistry(t, authorization =>
    authorization === BASIC ? { status: 200 } : { status: 401, headers },
  );
  assert.deepEqual(await check(t, basic), { verdict: 'accepted' });
  assert.deepEqual(await check(t, basic, 'wrong'), { verdict: 'denied', said: '401' });
  const open = await startRegistry(t, () => ({ status: 200 }));
  assert.deepEqual(await check(t, open), { verdict: 'unasked' });
});

test('a login goes to no realm that is not trusted, and what fails is told without it', async t => {
  const challenge = { 'www-authenticate': 'Bearer realm="http://elsewhere.example/token",service="x"' };
  const elsewhere = await startRegistry(t, () => ({ status: 401, headers: challenge }));
  await assert.rejects(check(t, elsewhere), { code: 'UPSTREAM_INVALID', message: /which is not trusted/ });
  const echo = await startRegistry(t, authorization => {
    if (authorization === undefined) return { status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } };
    const errors = [{ code: 'DENIED', message: `no ${SECRET}, no ${BASIC}` }];
    return { status: 403, headers: { 'content-type': 'application/json' }, body: JSON.stringify({ errors }) };
  });
  assert.deepEqual(await check(t, echo), { verdict: 'denied', said: '403 "DENIED: no ***, no Basic ***"' });
  for (const status of [404, 429, 500]) {
    const failing = await startRegistry(t, () => ({ status, body: '{}' }));
    await assert.rejects(check(t, failing), (error: Error) => !error.message.includes(SECRET));
  }
});
