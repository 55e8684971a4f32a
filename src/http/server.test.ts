import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { until } from '../../test/support/async.ts';
import { TestClock, testRandom } from '../../test/support/clock.ts';
import { fetchRaw } from '../../test/support/http-client.ts';
import { hostCheck } from '../access/hosts.ts';
import { type Clock, systemClock } from '../base/clock.ts';
import { InFlight } from './registry/in-flight.ts';
import { createApp, startServer } from './server.ts';

async function serve(t: TestContext, services: object = {}, clock: Clock = systemClock) {
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  const app = createApp({
    upstreams: { has: () => false, default: 'ghcr.io' },
    ready: async () => {},
    ...{ clock: systemClock, random: testRandom(), log },
    ...services,
  } as never);
  const listen = { host: '127.0.0.1', port: 0, isOurs: hostCheck([]) };
  const { address, stop } = await startServer(app, listen, { clock, log, inFlight: new InFlight() });
  t.after(() => stop(0));
  return { url: `http://127.0.0.1:${address.port}`, port: address.port, stop };
}

describe('paths', () => {
  test('under /v2 are the registry, and what else there is is answered by the app', async t => {
    const { url } = await serve(t, { ready: () => Promise.reject(new Error('the disk is gone')) });
    for (const [path, status, body] of [
      ['/v2', 200, '{}\n'],
      ['/v2/', 200, '{}\n'],
      ['/v2/?a=b', 200, '{}\n'],
      ['/healthz', 200, 'ok\n'],
      ['/readyz', 503, 'not ready: the disk is gone\n'],
      ['/', 404, 'not found; the registry is under /v2/\n'],
      ['/v2x', 404, 'not found; the registry is under /v2/\n'],
      ['/v3/', 404, 'not found; the registry is under /v2/\n'],
    ] as const) {
      const isRegistry = status === 200 && path !== '/healthz';
      const get = await fetchRaw(url + path);
      assert.deepEqual([get.status, get.body.toString()], [status, body], path);
      const head = await fetchRaw(url + path, { method: 'HEAD' });
      assert.deepEqual([head.status, head.body.toString()], [status, ''], path);
      for (const reply of [get, head]) {
        const version = reply.headers['docker-distribution-api-version'];
        assert.equal(version, isRegistry ? 'registry/2.0' : undefined, path);
        assert.equal(reply.headers['x-hono-already-sent'], undefined, path);
      }
      if (isRegistry) assert.equal(head.headers['content-length'], '3');
    }
  });

  test('reach the registry as they were sent', async t => {
    const names: string[] = [];
    const pull = async ({ name }: { name: string }) => {
      names.push(name);
      return { tags: [], outcome: 'hit' };
    };
    const { port } = await serve(t, { tagLists: { pull } });
    for (const path of ['/v2/owner/app/tags/list', '/v2/%6fwner%2Fapp/tags/list', '/v2/a/../b/tags/list']) {
      const socket = net.connect(port, '127.0.0.1');
      socket.end(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
      socket.resume();
      await once(socket, 'close');
    }
    assert.deepEqual(names, ['owner/app', 'owner/app'], 'and what has dots in it is not a name');
  });
});

test('an address that is taken is named', async t => {
  const { port } = await serve(t);
  const listen = { host: '127.0.0.1', port, isOurs: () => true };
  const starting = startServer(createApp({} as never), listen, {
    clock: systemClock,
    log: {} as never,
    inFlight: new InFlight(),
  });
  await assert.rejects(starting, new RegExp(`cannot listen on 127\\.0\\.0\\.1:${port}: another program`));
});

describe('stop', () => {
  /** A request whose response is held back until `respond` is called. */
  async function startHeld(t: TestContext, clock?: Clock) {
    const held = Promise.withResolvers<void>();
    let isHeld = false;
    const repositories = async () => {
      isHeld = true;
      await held.promise;
      return [];
    };
    const served = await serve(t, { repositories }, clock);
    const reply = fetchRaw(`${served.url}/v2/_catalog`);
    reply.catch(() => {});
    await until(() => isHeld);
    return { ...served, reply, respond: () => held.resolve() };
  }

  test('lets responses in progress finish, and accepts no more', async t => {
    const { port, stop, reply, respond } = await startHeld(t);
    const stopping = stop(60_000);
    const [error] = await once(net.connect(port, '127.0.0.1'), 'error');
    assert.equal(error.code, 'ECONNREFUSED');
    respond();
    assert.equal((await reply).status, 200);
    await stopping;
  });

  test('cuts what is left when its time is over', async t => {
    const clock = new TestClock();
    const { stop, reply } = await startHeld(t, clock);
    await stop(7000);
    assert.deepEqual(clock.sleptMs, [7000]);
    await assert.rejects(reply);
  });
});
