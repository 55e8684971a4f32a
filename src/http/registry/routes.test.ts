import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import { RegistryError } from '../../oci/errors.ts';
import { startServer } from '../server.ts';
import { createApp, type Services } from './routes.ts';

/** The app with no more behind it than a test needs, and what it logs. */
async function serve(t: TestContext, services: Partial<Services>, isLevelEnabled = () => true) {
  const lines: [string, object, string][] = [];
  const into = (level: string) => (fields: object, message: string) => lines.push([level, fields, message]);
  const log = { debug: into('debug'), info: into('info'), warn: into('warn'), error: into('error') };
  const app = createApp({
    upstreams: { has: () => false, default: 'ghcr.io' },
    clock: systemClock,
    log: { ...log, isLevelEnabled } as Log,
    ...services,
  } as Services);
  const { address, stop } = await startServer(app, { host: '127.0.0.1', port: 0 });
  t.after(() => stop(0));
  return { url: `http://127.0.0.1:${address.port}`, lines };
}

test('a request that cannot even be refused is cut off and logged, and the server goes on', async t => {
  // There is no JSON of it.
  const unspeakable = new RegistryError('DENIED', 'no', { detail: 1n });
  const { url, lines } = await serve(t, { tags: { pull: () => Promise.reject(unspeakable) } as never });
  await assert.rejects(fetch(`${url}/v2/owner/app/manifests/v1`));
  assert.deepEqual(
    lines.slice(0, 1).map(([level, fields]) => [level, String((fields as { err: Error }).err)]),
    [['error', 'TypeError: Do not know how to serialize a BigInt']],
  );
  assert.equal((await fetch(`${url}/v2/`)).status, 200);
});

test('HEAD is answered by the registry under /v2/, and by the app elsewhere', async t => {
  const { url } = await serve(t, {});
  const base = await fetch(`${url}/v2/`, { method: 'HEAD' });
  assert.equal(base.headers.get('docker-distribution-api-version'), 'registry/2.0');
  assert.equal(base.headers.get('content-length'), '3');
  const health = await fetch(`${url}/healthz`, { method: 'HEAD' });
  assert.deepEqual([health.status, await health.text()], [200, '']);
  assert.equal((await fetch(`${url}/elsewhere`, { method: 'HEAD' })).status, 404);
});

test('no line is made of a good request when nobody wants to read it', async t => {
  for (const isWanted of [true, false]) {
    const { url, lines } = await serve(t, {}, () => isWanted);
    assert.equal(await (await fetch(`${url}/v2/`, { headers: { connection: 'close' } })).text(), '{}\n');
    // What is logged when a connection closes is there before the next is answered.
    assert.equal((await fetch(`${url}/v2/`)).status, 200);
    assert.equal(lines.length >= 1, isWanted);
  }
});
