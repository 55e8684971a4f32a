import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { Source } from '../content/content.ts';
import { sendSource } from './send.ts';

/** A server whose one handler gets the response; what it does is awaited by `handled`. */
async function serveOnce(t: TestContext, handler: (outgoing: ServerResponse) => Promise<unknown>) {
  const handled = Promise.withResolvers<unknown>();
  const server = http.createServer((_, outgoing) => handled.resolve(handler(outgoing).catch(error => error)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, handled: handled.promise };
}

function sourceOf(sizeBytes: number, read: Source['read'] = async into => into.fill(7).length) {
  const calls = { reads: 0, closes: 0 };
  const source: Source = {
    sizeBytes,
    read: (into, position) => {
      calls.reads++;
      return read(into, position);
    },
    close: () => {
      calls.closes++;
    },
  };
  return { source, calls };
}

test('nothing is read for a client that left before the answer began', async t => {
  const { source, calls } = sourceOf(10_000_000);
  const { url, handled } = await serveOnce(t, async outgoing => {
    request.destroy();
    await once(outgoing, 'close');
    return sendSource(outgoing, {}, source, undefined);
  });
  const request = http.get(url).on('error', () => {});
  assert.equal(await handled, undefined);
  assert.deepEqual(calls, { reads: 0, closes: 1 });
});

test('a client that leaves in the middle ends the reading, and that is no error', async t => {
  const { source, calls } = sourceOf(1_000_000_000);
  const { url, handled } = await serveOnce(t, outgoing => sendSource(outgoing, {}, source, undefined));
  const request = http
    .get(url, incoming => incoming.once('data', () => request.destroy()))
    .on('error', () => {});
  assert.equal(await handled, undefined);
  assert(calls.reads < 1000);
  assert.equal(calls.closes, 1);
});

test('a source that fails, or ends too early, cuts the connection', async t => {
  const failing = async () => Promise.reject(new Error('rotten'));
  for (const [read, reason] of [
    [failing, /rotten/],
    [async () => 0, /ends at byte 0 of 1000/],
  ] as [Source['read'], RegExp][]) {
    const { source, calls } = sourceOf(1000, read);
    const { url, handled } = await serveOnce(t, outgoing => sendSource(outgoing, {}, source, undefined));
    await assert.rejects(fetch(url).then(answer => answer.arrayBuffer()));
    assert.match(String(await handled), reason);
    assert.equal(calls.closes, 1);
  }
});

test('a client that does not read is not read for: no more than two buffers are in the air', async t => {
  const { source, calls } = sourceOf(1_000_000_000);
  const { url, handled } = await serveOnce(t, outgoing => sendSource(outgoing, {}, source, undefined));
  const request = http.get(url, incoming => incoming.pause()).on('error', () => {});
  const [incoming] = await once(request, 'response');
  let before = -1;
  // The buffers of both sockets fill up first.
  while (before !== calls.reads) {
    before = calls.reads;
    for (let i = 0; i < 200; i++) await new Promise(resolve => setImmediate(resolve));
  }
  assert(calls.reads < 200, `${calls.reads} reads`);
  incoming.destroy();
  assert.equal(await handled, undefined);
});
