import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { TestClock, testRandom } from '../../../test/support/clock.ts';
import { fetchRaw } from '../../../test/support/http-client.ts';
import { systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import { digestOf } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { BodyMemory } from '../body/body-memory.ts';
import { createApp, startServer } from '../server.ts';
import { InFlight } from './in-flight.ts';
import type { Kind } from './request.ts';
import { type Action, ROUTES } from './routes.ts';
import type { Services } from './services.ts';

/** A server with nothing behind it but what a test needs, and what it logs. */
async function serve(t: TestContext, services: object, isLevelEnabled = () => true) {
  const lines: [string, object, string][] = [];
  const into = (level: string) => (fields: object, message: string) => lines.push([level, fields, message]);
  const log = { debug: into('debug'), info: into('info'), warn: into('warn'), error: into('error') };
  const environment = { clock: systemClock, log: { ...log, isLevelEnabled } as Log, inFlight: new InFlight() };
  const app = createApp({
    ...environment,
    upstreams: { has: () => false, default: 'ghcr.io' },
    random: testRandom(),
    bodyMemory: new BodyMemory(systemClock),
    pushesOff: false,
    ready: async () => {},
    ...services,
    explain: (error: unknown) => error,
  } as unknown as Services & { ready(): Promise<void> });
  const { address, stop } = await startServer(
    app,
    { host: '127.0.0.1', port: 0, isOurs: () => true },
    { ...environment, ...services },
  );
  t.after(() => stop(0));
  return { url: `http://127.0.0.1:${address.port}`, lines };
}

/** Something whose every method fails with this error. */
const failing = (error: Error) => new Proxy({}, { get: () => () => Promise.reject(error) });

describe('the route table', () => {
  const DIGEST = digestOf(Buffer.from('x'));
  const TABLE: Record<Kind, { path: string; actions: Record<string, Action>; allow: string }> = {
    base: { path: '/v2/', actions: { GET: 'pull' }, allow: 'GET, HEAD' },
    catalog: { path: '/v2/_catalog', actions: { GET: 'pull' }, allow: 'GET, HEAD' },
    manifest: {
      path: '/v2/owner/app/manifests/v1',
      actions: { GET: 'pull', PUT: 'push', DELETE: 'delete' },
      allow: 'GET, HEAD, PUT, DELETE',
    },
    blob: {
      path: `/v2/owner/app/blobs/${DIGEST}`,
      actions: { GET: 'pull', DELETE: 'delete' },
      allow: 'GET, HEAD, DELETE',
    },
    tags: { path: '/v2/owner/app/tags/list', actions: { GET: 'pull' }, allow: 'GET, HEAD' },
    referrers: { path: `/v2/owner/app/referrers/${DIGEST}`, actions: { GET: 'pull' }, allow: 'GET, HEAD' },
    uploads: { path: '/v2/owner/app/blobs/uploads/', actions: { POST: 'push' }, allow: 'POST' },
    upload: {
      path: `/v2/owner/app/blobs/uploads/id?digest=${DIGEST}`,
      actions: { GET: 'push', PATCH: 'push', PUT: 'push', DELETE: 'push' },
      allow: 'GET, HEAD, PATCH, PUT, DELETE',
    },
  };
  const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND'];
  /** What the handlers meet. */
  const reached = new RegistryError('UNAVAILABLE', 'reached');
  const services = {
    seen: { gave: () => {} },
    repositories: () => Promise.reject(reached),
    ...Object.fromEntries(
      ['blobs', 'manifests', 'tags', 'tagLists', 'referrers', 'uploads', 'manifestPushes', 'deletes'].map(name => [
        name,
        failing(reached),
      ]),
    ),
  };

  test('has an action for each kind and method', () => {
    for (const [kind, { actions }] of Object.entries(TABLE)) {
      const found = Object.entries(ROUTES[kind as Kind]).map(([method, { action }]) => [method, action]);
      assert.deepEqual(Object.fromEntries(found), actions, kind);
    }
  });

  for (const pushesOff of [false, true]) {
    test(`decides what is handled, not allowed, ${pushesOff ? 'or denied by push: off' : 'and nothing is denied'}`, async t => {
      const { url } = await serve(t, { ...services, pushesOff });
      for (const [kind, { path, actions, allow }] of Object.entries(TABLE)) {
        for (const method of METHODS) {
          const reply = await fetchRaw(url + path, { method });
          const action = actions[method === 'HEAD' ? 'GET' : method];
          const handled = kind === 'base' ? 200 : 503;
          const expected = action === undefined ? 405 : pushesOff && action !== 'pull' ? 403 : handled;
          assert.equal(reply.status, expected, `${method} ${path}`);
          assert.equal(reply.headers.allow, expected === 405 ? allow : undefined, `${method} ${path}`);
          if (method === 'HEAD') assert.equal(reply.body.length, 0);
          else if (expected !== 200) {
            const [error] = JSON.parse(reply.body.toString()).errors;
            const code = { 405: 'UNSUPPORTED', 403: 'DENIED', 503: 'UNAVAILABLE' }[expected];
            assert.equal(error.code, code);
            if (code === 'DENIED') assert.match(error.message, /push: off/);
          }
        }
      }
    });
  }

  test('handles HEAD as GET, with the same headers and no body', async t => {
    const manifest = { digest: DIGEST, mediaType: 'a/b', bytes: Buffer.from('{"a":1}') };
    const pull = async () => ({ manifest, outcome: 'hit' });
    const stat = async () => ({ sizeBytes: 7, outcome: 'hit' });
    const source = { sizeBytes: 7, bytes: manifest.bytes, close() {} };
    const blobs = { stat, pull: async () => ({ source, outcome: 'hit' }) };
    const { url } = await serve(t, { tags: { pull }, manifests: { pull }, blobs, seen: { gave: () => {} } });
    for (const path of ['manifests/v1', `manifests/${DIGEST}`, `blobs/${DIGEST}`]) {
      const get = await fetchRaw(`${url}/v2/owner/app/${path}`);
      const head = await fetchRaw(`${url}/v2/owner/app/${path}`, { method: 'HEAD' });
      for (const reply of [get, head]) {
        assert.equal(reply.status, 200);
        assert.equal(reply.headers['content-length'], '7');
        assert.equal(reply.headers['docker-content-digest'], DIGEST);
        assert.equal(reply.headers.etag, `"${DIGEST}"`);
        assert.equal(reply.headers['x-hono-already-sent'], undefined);
      }
      assert.equal(get.body.toString(), '{"a":1}');
      assert.equal(head.body.length, 0);
    }
  });
});

test('a request whose error cannot be sent is cut off and logged, and the server goes on', async t => {
  // There is no JSON of it.
  const unspeakable = new RegistryError('DENIED', 'no', { detail: { number: 1n } as never });
  const { url, lines } = await serve(t, { tags: failing(unspeakable) });
  await assert.rejects(fetch(`${url}/v2/owner/app/manifests/v1`));
  assert.deepEqual(
    lines.slice(0, 1).map(([level, fields]) => [level, String((fields as { err: Error }).err)]),
    [['error', 'TypeError: Do not know how to serialize a BigInt']],
  );
  assert.equal((await fetch(`${url}/v2/`)).status, 200);
});

test('an error says what it has to in headers: a challenge, and no login without one', async t => {
  for (const [headers, status, code] of [
    [{ 'www-authenticate': 'Basic realm="x"' }, 401, 'UNAUTHORIZED'],
    [undefined, 403, 'DENIED'],
  ] as const) {
    const error = new RegistryError('UNAUTHORIZED', 'no', { ...(headers && { headers }) });
    const { url } = await serve(t, { tags: failing(error) });
    const reply = await fetchRaw(`${url}/v2/owner/app/manifests/v1`);
    assert.equal(reply.status, status);
    assert.equal(reply.headers['www-authenticate'], headers?.['www-authenticate']);
    assert.equal(reply.body.toString(), `{"errors":[{"code":"${code}","message":"no"}]}\n`);
  }
});

describe('the log line', () => {
  test('is not made of a good request when its level is not written', async t => {
    for (const isWanted of [true, false]) {
      const { url, lines } = await serve(t, {}, () => isWanted);
      assert.equal(await (await fetch(`${url}/v2/`, { headers: { connection: 'close' } })).text(), '{}\n');
      // What is logged when a connection closes is there before the next response.
      assert.equal((await fetch(`${url}/v2/`)).status, 200);
      assert.equal(lines.length >= 1, isWanted);
    }
  });

  test('has whole milliseconds, whatever becomes of the wall clock', async t => {
    const clock = new TestClock();
    const repositories = async () => {
      clock.advance(12.4);
      clock.set(-3_600_000);
      return [];
    };
    const { url, lines } = await serve(t, { clock, repositories });
    assert.equal((await fetchRaw(`${url}/v2/_catalog`, { headers: { connection: 'close' } })).status, 200);
    await fetchRaw(`${url}/v2/`);
    assert.deepEqual(
      lines.slice(0, 1).map(([, fields, message]) => [(fields as { ms: number }).ms, message]),
      [[12, 'request']],
    );
  });
});
