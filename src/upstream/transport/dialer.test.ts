import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { LOOPBACK_TLS } from '../../../test/support/tls.ts';
import { releaseBuffer } from '../../base/receive-buffers.ts';
import type { RegistryError } from '../../oci/errors.ts';
import { Dialer, type DialRequest, discard, readAll } from './dialer.ts';

const TIMEOUTS = { connectMs: 2_000, headersMs: 200, stallMs: 200, uploadMs: 2_000 };

async function dialTo(t: TestContext, listener: RequestListener) {
  const server = createServer(listener);
  let connections = 0;
  server.on('connection', () => connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const dialer = new Dialer({ timeouts: TIMEOUTS });
  t.after(async () => {
    await dialer.close();
    server.closeAllConnections();
    server.close();
  });
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  const dial = (signal?: AbortSignal, headers = {}) => dialer.dial({ method: 'GET', url, headers, signal });
  return { dialer, url, dial, connections: () => connections };
}

test('connections are used again for all that is asked in turn, whichever way the body is done with', async t => {
  const { dial, connections } = await dialTo(t, (_, response) => response.end('x'.repeat(10_000)));
  for (let i = 0; i < 5; i++) {
    const whole = await dial();
    assert.equal((await readAll(whole, 10_000))?.length, 10_000);
    // As everybody does in the end, to be sure.
    whole.body.abandon();
    await discard(await dial());
  }
  // The next request may come a moment before the connection of the last is known to be free.
  assert(connections() <= 2, `${connections()} connections`);
});

test('HTTP/1.1 is spoken, and downloads have a connection each, also where HTTP/2 is to be had', async t => {
  const server = createSecureServer({ ...LOOPBACK_TLS, allowHTTP1: true }, (request, response) => {
    response.end(request.httpVersion);
  });
  let connections = 0;
  server.on('secureConnection', () => connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const dialer = new Dialer({ timeouts: TIMEOUTS, ca: LOOPBACK_TLS.cert });
  t.after(async () => {
    await dialer.close();
    server.close();
  });
  const url = new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  const answers = [1, 2, 3].map(async () =>
    String(await readAll(await dialer.dial({ method: 'GET', url, headers: {} }), 10)),
  );
  assert.deepEqual(await Promise.all(answers), ['1.1', '1.1', '1.1']);
  assert.equal(connections, 3);
});

test('a body longer than is wanted ends its connection', async t => {
  const { dial, connections } = await dialTo(t, (_, response) => response.end('x'.repeat(1_000_000)));
  assert.equal(await readAll(await dial(), 100_000), undefined);
  await discard(await dial());
  (await dial()).body.abandon();
  await readAll(await dial(), 1_000_000);
  assert.equal(connections(), 4);
});

test('every chunk that came is handed over, also when the body then breaks, and also to a slow reader', async t => {
  const { dial } = await dialTo(t, (_, response) => {
    response.writeHead(200, { 'content-length': 1_000_000 });
    response.write('x'.repeat(300_000), () => response.destroy());
  });
  for (const isSlow of [false, true]) {
    let length = 0;
    const trouble = await (await dial()).body.read(chunk => {
      length += chunk.length;
      return isSlow ? new Promise(resolve => setImmediate(resolve)) : undefined;
    });
    assert(trouble instanceof Error);
    assert.equal(length, 300_000);
  }
});

/** Sends bytes in pieces of these sizes, over and over. */
async function sendInPieces(
  response: ServerResponse,
  bytes: Buffer,
  sizes: readonly number[],
): Promise<void> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const piece = bytes.subarray(at, at + (sizes[i % sizes.length] ?? 0));
    if (!response.write(piece)) await once(response, 'drain');
    at += piece.length;
  }
  response.end();
}

test('bytes stay what they are until they are given back, and their memory is used again', async t => {
  const sent = randomBytes(8_000_000);
  const { dial } = await dialTo(t, (request, response) => {
    // With a length, and in chunks of HTTP, many of which come in one read.
    const isWhole = request.headers['x-whole'] !== undefined;
    if (isWhole) response.setHeader('content-length', sent.length);
    void sendInPieces(response, sent, isWhole ? [sent.length] : [1, 50, 70_000, 3, 1_000_000, 16_384]);
  });
  for (const headers of [{ 'x-whole': 'yes' }, {}]) {
    const memories = new Set<ArrayBufferLike>();
    const kept: { chunk: Buffer; at: number }[] = [];
    const giveOneBack = (which: number) => {
      const [one] = kept.splice(which, 1);
      if (one === undefined) return;
      assert(one.chunk.equals(sent.subarray(one.at, one.at + one.chunk.length)), `at ${one.at}`);
      releaseBuffer(one.chunk);
    };
    let at = 0;
    const trouble = await (await dial(undefined, headers)).body.read(chunk => {
      memories.add(chunk.buffer);
      kept.push({ chunk, at });
      at += chunk.length;
      if (kept.length > 3) giveOneBack(at % kept.length);
      return at % 5 === 0 ? new Promise(resolve => setImmediate(resolve)) : undefined;
    });
    while (kept.length > 0) giveOneBack(0);
    assert.deepEqual([trouble, at], [undefined, sent.length]);
    if ('x-whole' in headers) assert(memories.size < 12, `${memories.size} pieces of memory for 8 MB`);
  }
});

test('what the reader throws, at once or later, comes back as it is, and the body is let go', async t => {
  const { dial } = await dialTo(t, (_, response) => response.end('x'.repeat(1_000_000)));
  const mine = new Error('mine');
  const takes = [
    () => {
      throw mine;
    },
    () => Promise.reject(mine),
  ];
  for (const take of takes) await assert.rejects((await dial()).body.read(take), mine);
});

test('no answer, no head in time, and a body that stalls are told apart', async t => {
  const refused = await dialTo(t, (_, response) => response.destroy());
  await assert.rejects(refused.dial(), (error: RegistryError) => error.code === 'UPSTREAM_UNAVAILABLE');
  const silent = await dialTo(t, () => {});
  await assert.rejects(silent.dial(), (error: RegistryError) => error.code === 'UPSTREAM_TIMEOUT');
  const stalling = await dialTo(t, (_, response) => {
    response.writeHead(200, { 'content-length': 10 });
    response.write('x');
  });
  await assert.rejects(
    readAll(await stalling.dial(), 10),
    (error: RegistryError) => error.code === 'UPSTREAM_TIMEOUT',
  );
});

test('an abort ends it at any stage, with its reason', async t => {
  const { dial } = await dialTo(t, (_, response) => {
    response.writeHead(200, { 'content-length': 10 });
    response.write('x');
  });
  const reason = new Error('leaving');
  await assert.rejects(dial(AbortSignal.abort(reason)), reason);
  const early = new AbortController();
  const dialing = dial(early.signal);
  early.abort(reason);
  await assert.rejects(dialing, reason);
  const late = new AbortController();
  const { body } = await dial(late.signal);
  const trouble = body.read(() => {
    late.abort(reason);
    return undefined;
  });
  assert((await trouble) instanceof Error);
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
  let isLetGo = false;
  async function* endless() {
    try {
      for (;;) {
        asked++;
        yield Buffer.alloc(256 * 1024);
      }
    } finally {
      isLetGo = true;
    }
  }
  const leaving = new AbortController();
  const sending = send({ body: endless(), signal: leaving.signal, headersMs: 10_000 });
  sending.catch(() => {});
  await received.promise;
  // The buffers of both sockets fill up first.
  for (let before = -1; before !== asked; ) {
    before = asked;
    for (let i = 0; i < 200; i++) await new Promise(resolve => setImmediate(resolve));
  }
  assert(asked < 200, `${asked} chunks`);
  leaving.abort(new Error('leaving'));
  await assert.rejects(sending, /leaving/);
  while (!isLetGo) await new Promise(resolve => setImmediate(resolve));
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

test('an answer may take longer where it is said so', async t => {
  const heads: (() => void)[] = [];
  const send = await sendTo(t, (_, response) => heads.push(() => response.end('late')));
  // What is given no longer runs into its time-out first.
  const slow = send({ method: 'GET', headersMs: 60_000 });
  await assert.rejects(send({ method: 'GET' }), { code: 'UPSTREAM_TIMEOUT' });
  for (const answer of heads) answer();
  assert.equal(String(await readAll(await slow, 10)), 'late');
});
