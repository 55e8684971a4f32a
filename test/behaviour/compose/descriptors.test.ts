// A process that has too few descriptors: it says so, closes what it can spare, and answers in order.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { until } from '../../support/async.ts';
import { startBoth } from '../../support/cache.ts';
import { bytesOf, randomContent } from '../../support/images.ts';
import { assertCreated, LIMIT, MIB, NAME, small, startPushing } from '../../support/push-client.ts';

/** Has every opening of a file fail whose path matches and that `isLacking` says. */
function lackDescriptors(t: TestContext, path: RegExp, isLacking: () => boolean): void {
  const functions = fs as unknown as { open(path: string, ...rest: unknown[]): void };
  const real = functions.open;
  t.after(() => {
    functions.open = real;
    syncBuiltinESMExports();
  });
  functions.open = (name, ...rest) => {
    const done = rest.at(-1) as (error: Error) => void;
    if (!path.test(name) || !isLacking()) return real(name, ...rest);
    process.nextTick(done, Object.assign(new Error(`EMFILE: too many open files, open '${name}'`), { code: 'EMFILE' }));
  };
  syncBuiltinESMExports();
}

const linesOf = (log: string) => log.match(/no file or connection can be opened/g)?.length ?? 0;

test('a low limit is said at the start', async t => {
  const few = await startBoth(t, { descriptors: 1_024 });
  assert.match(few.cache.log(), /warn this process may have 1024 files and connections open.*4096 or more/);
  const enough = await startBoth(t, { descriptors: 4_096 });
  assert.doesNotMatch(enough.cache.log(), /warn/);
});

test('content that cannot be opened is 503, to be tried again, and the log says so once', async t => {
  // One file stays open.
  const { ghcr, cache, clock } = await startBoth(t, { descriptors: 8 });
  const paths: string[] = [];
  for (const blob of [1, 2].map(i => randomContent(MIB, `blob ${i}`))) {
    ghcr.addBlob(NAME, blob);
    paths.push(`/v2/${NAME}/blobs/${blob.digest}`);
    await cache.get(paths.at(-1) ?? '');
    await cache.settled();
  }
  let isLacking = true;
  lackDescriptors(t, /content\/blobs/, () => isLacking);
  for (let i = 0; i < 5; i++) {
    for (const path of paths) {
      const got = await cache.get(path);
      assert.equal(got.status, 503);
      assert.equal(got.headers['retry-after'], '5');
      assert.match(got.body.toString(), /UNAVAILABLE.*too many files and connections are open/);
    }
  }
  assert.equal(linesOf(cache.log()), 1);
  assert.doesNotMatch(cache.log(), /unexpected error/);
  clock.advance(10_000);
  await cache.get(paths[0] ?? '');
  assert.equal(linesOf(cache.log()), 2);
  isLacking = false;
  for (const path of paths) assert.equal((await cache.get(path)).headers['x-cache'], 'hit');
});

test('one descriptor that closing others has freed is enough', async t => {
  const { ghcr, cache } = await startBoth(t);
  let lacking = 1;
  lackDescriptors(t, /ingest/, () => lacking-- > 0);
  const other = randomContent(MIB, 'other');
  ghcr.addBlob(NAME, other);
  assert.equal((await cache.get(`/v2/${NAME}/blobs/${other.digest}`)).headers['x-cache'], 'miss');
  assert.equal(linesOf(cache.log()), 1);
});

test('a push and a pull that cannot be stored for want of descriptors pass through', LIMIT, async t => {
  const { ghcr, cache, client } = await startPushing(t);
  lackDescriptors(t, /ingest/, () => true);
  const pushed = await client.stream(small);
  assertCreated(pushed);
  assert.equal(pushed.headers['x-cache'], 'bypass');
  const blob = randomContent(MIB, 'pulled');
  ghcr.addBlob(NAME, blob);
  const pulled = await cache.get(`/v2/${NAME}/blobs/${blob.digest}`);
  assert(pulled.body.equals(bytesOf(blob)));
  assert.equal(pulled.headers['x-cache'], 'bypass');
  assert.doesNotMatch(cache.log(), /the disk cannot be written/);
  assert.match(cache.log(), /passed through without being kept: too many files and connections are open/);
});

test('clients beyond what the descriptors allow are turned away, with a line in the log', LIMIT, async t => {
  const { cache } = await startBoth(t, { descriptors: 32 });
  const { port } = new URL(cache.url);
  const closed = new Set<Socket>();
  const sockets = Array.from({ length: 20 }, () => {
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('error', () => {});
    socket.once('close', () => closed.add(socket));
    return socket;
  });
  await until(() => closed.size === 4);
  assert.equal(cache.log().match(/a client was turned away, since 16 are connected/g)?.length, 1);
  for (const socket of sockets) socket.destroy();
  await until(() => closed.size === 20);
  await until(async () => (await cache.get('/healthz').catch(() => undefined))?.status === 200);
});

test('a client that is turned away finds a place next, if one of those connected is idle', LIMIT, async t => {
  const { cache } = await startBoth(t, { descriptors: 8 });
  const { port } = new URL(cache.url);
  let answered = 0;
  let closed = 0;
  for (let i = 0; i < 4; i++) {
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('data', () => answered++);
    socket.on('error', () => {});
    socket.once('close', () => closed++);
    socket.write('GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
  }
  await until(() => answered >= 4);
  assert.equal(closed, 0);
  await assert.rejects(cache.get('/healthz'));
  await until(() => closed === 4);
  assert.equal((await cache.get('/healthz')).status, 200);
});
