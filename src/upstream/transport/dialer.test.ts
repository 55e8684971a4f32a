import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { turns, until } from '../../../test/support/async.ts';
import { LOOPBACK_TLS } from '../../../test/support/tls.ts';
import { DIAL_TIMEOUTS, dialerOf, dialTo } from '../../../test/support/upstream-clients.ts';
import type { RegistryError } from '../../oci/errors.ts';
import type { DialRequest } from './dialer.ts';
import { discard, readAll } from './response.ts';

test('connections are used again for all that is asked in turn, whichever way the body is done with', async t => {
  const { dial, connections } = await dialTo(t, (_, response) => response.end('x'.repeat(10_000)));
  for (let i = 0; i < 5; i++) {
    const whole = await dial();
    assert.equal((await readAll(whole, 10_000))?.length, 10_000);
    // As every caller does in the end, to be sure.
    whole.body.abandon();
    await discard(await dial());
  }
  // The next request may come a moment before the connection of the last is known to be free.
  assert(connections() <= 2, `${connections()} connections`);
});

test('HTTP/1.1 is spoken, and downloads have a connection each, also where HTTP/2 is available', async t => {
  const server = createSecureServer({ ...LOOPBACK_TLS, allowHTTP1: true }, (request, response) => {
    response.end(request.httpVersion);
  });
  let connections = 0;
  server.on('secureConnection', () => connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const dialer = dialerOf(t, { timeouts: DIAL_TIMEOUTS, ca: LOOPBACK_TLS.cert });
  t.after(() => server.close());
  const url = new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  const answers = [1, 2, 3].map(async () =>
    String(await readAll(await dialer.dial({ method: 'GET', url, headers: {} }), 10)),
  );
  assert.deepEqual(await Promise.all(answers), ['1.1', '1.1', '1.1']);
  assert.equal(connections, 3);
});

test('no response, no headers in time, and a body that stalls are told apart', async t => {
  const closing = await dialTo(t, (_, response) => response.destroy());
  await assert.rejects(closing.dial(), (error: RegistryError) => error.code === 'UPSTREAM_UNAVAILABLE');
  const silent = await dialTo(t, () => {});
  await assert.rejects(silent.dial(), (error: RegistryError) => error.code === 'UPSTREAM_TIMEOUT');
  const stalling = await dialTo(t, (_, response) => {
    response.writeHead(200, { 'content-length': 10 });
    response.write('x');
  });
  await assert.rejects(readAll(await stalling.dial(), 10), (error: RegistryError) => error.code === 'UPSTREAM_TIMEOUT');
});

test('an abort ends it at any stage, with its reason', async t => {
  const { dial } = await dialTo(t, (_, response) => {
    response.writeHead(200, { 'content-length': 10 });
    response.write('x');
  });
  const reason = new Error('shutting down');
  await assert.rejects(dial(AbortSignal.abort(reason)), reason);
  const early = new AbortController();
  const dialing = dial(early.signal);
  early.abort(reason);
  await assert.rejects(dialing, reason);
  const late = new AbortController();
  const { body } = await dial(late.signal);
  const broken = body.read(() => {
    late.abort(reason);
    return undefined;
  });
  assert((await broken) instanceof Error);
});

async function sendTo(t: TestContext, listener: RequestListener) {
  const { dialer, url } = await dialTo(t, listener);
  return (request: Partial<DialRequest>) => dialer.dial({ method: 'PUT', url, headers: {}, ...request });
}

test('a body goes out as it is, at once or as its chunks come', async t => {
  const send = await sendTo(t, async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
    response.end(`${length ?? encoding} ${Buffer.concat(chunks)}`);
  });
  async function* chunks() {
    for (const text of ['one', ' ', 'two']) yield Buffer.from(text);
  }
  const said = async (request: Partial<DialRequest>) => String(await readAll(await send(request), 1000));
  assert.equal(await said({ body: Buffer.from('one two') }), '7 one two');
  assert.equal(await said({ body: chunks() }), 'chunked one two');
  assert.equal(await said({ body: chunks(), headers: { 'content-length': '7' } }), '7 one two');
  assert.equal(await said({}), '0 ');
});

test('a body is asked for its next chunk when the one before has left, and no sooner', async t => {
  const received = Promise.withResolvers<void>();
  const send = await sendTo(t, async request => {
    request.once('data', () => {
      request.pause();
      received.resolve();
    });
  });
  let asked = 0;
  let isReleased = false;
  async function* endless() {
    try {
      for (;;) {
        asked++;
        yield Buffer.alloc(256 * 1024);
      }
    } finally {
      isReleased = true;
    }
  }
  const stopping = new AbortController();
  const sending = send({ body: endless(), signal: stopping.signal, headersMs: 10_000 });
  sending.catch(() => {});
  await received.promise;
  // The buffers of both sockets fill up first.
  for (let before = -1; before !== asked; ) {
    before = asked;
    await turns(200);
  }
  assert(asked < 200, `${asked} chunks`);
  stopping.abort(new Error('shutting down'));
  await assert.rejects(sending, /shutting down/);
  await until(() => isReleased);
});

test('a body that fails is what the request fails with, not the other side', async t => {
  const send = await sendTo(t, request => request.resume());
  const mine = new Error('mine');
  async function* failing() {
    yield Buffer.from('x');
    throw mine;
  }
  await assert.rejects(send({ body: failing() }), mine);
});

test('a response may take longer where that is allowed', async t => {
  const heads: (() => void)[] = [];
  const send = await sendTo(t, (_, response) => heads.push(() => response.end('late')));
  // What is given no longer runs into its timeout first.
  const slow = send({ method: 'GET', headersMs: 60_000 });
  await assert.rejects(send({ method: 'GET' }), { code: 'UPSTREAM_TIMEOUT' });
  for (const answer of heads) answer();
  assert.equal(String(await readAll(await slow, 10)), 'late');
});
