// What a dialer makes of answers that are unusual, and of hosts that are down or may not be asked.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer as createRawServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { turns } from '../../../test/support/async.ts';
import { TestClock } from '../../../test/support/clock.ts';
import { DIAL_TIMEOUTS, dialerOf, dialTo } from '../../../test/support/upstream-clients.ts';
import { systemClock } from '../../base/clock.ts';
import type { DialRequest, Resolve } from './dialer.ts';
import { readAll } from './response.ts';

/** A server that writes what the test says to each connection that has sent the head of a request. */
async function dialRaw(t: TestContext, respond: (socket: Socket) => void, options: Partial<DialRequest> = {}) {
  const server = createRawServer(socket => {
    socket.on('error', () => {});
    socket.on('data', bytes => bytes.includes('\r\n\r\n') && respond(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const open = new Set<Socket>();
  server.on('connection', socket => open.add(socket));
  t.after(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  const dialer = dialerOf(t, { timeouts: DIAL_TIMEOUTS, clock: systemClock });
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  return () => dialer.dial({ method: 'GET', url, headers: {}, ...options });
}

test('responses that only announce one do not keep a request going beyond its timeout', async t => {
  const dial = await dialRaw(t, async socket => {
    while (!socket.destroyed) {
      socket.write('HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n');
      await turns(50);
    }
  });
  await assert.rejects(dial(), { code: 'UPSTREAM_TIMEOUT' });
});

test('a few that announce one are passed over', async t => {
  const dial = await dialRaw(t, socket => {
    socket.write('HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n'.repeat(3));
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  });
  assert.equal(String(await readAll(await dial(), 10)), 'ok');
});

const CONTINUE = 'HTTP/1.1 100 Continue\r\n\r\n';
const RESPONSE = 'HTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\nHTTP/1.1 100 Continue...';

for (const [what, text] of [
  ['once', CONTINUE],
  ['twice, with headers', `HTTP/1.1 100 Continue\r\nserver: x\r\n\r\n${CONTINUE}`],
  ['without a reason, as HTTP/1.0', 'HTTP/1.0 100\r\n\r\n'],
]) {
  test(`a 100 Continue that was not asked for is passed over: ${what}`, async t => {
    const inOne = await dialRaw(t, socket => socket.write(text + RESPONSE));
    assert.equal(String(await readAll(await inOne(), 100)), 'HTTP/1.1 100 Continue...');
    const inPieces = await dialRaw(
      t,
      async socket => {
        for (const byte of text + RESPONSE) {
          socket.write(byte);
          await turns(2);
        }
      },
      { method: 'PUT', body: Buffer.from('x') },
    );
    assert.equal(String(await readAll(await inPieces(), 100)), 'HTTP/1.1 100 Continue...');
  });
}

test('what comes is asked for as it is, without an encoding', async t => {
  const { dial } = await dialTo(t, (request, response) => response.end(request.headers['accept-encoding']));
  assert.equal(String(await readAll(await dial(), 100)), 'identity');
});

test('of headers that are lists every line counts, of others the first', async t => {
  const { dial } = await dialTo(t, (_, response) => {
    response.setHeader('www-authenticate', ['Negotiate', 'Bearer realm="https://a/token"']);
    response.setHeader('link', ['</a>; rel="first"', '</b>; rel="next"']);
    response.setHeader('x-other', ['1', '2']);
    response.end();
  });
  const { header, body } = await dial();
  body.abandon();
  assert.equal(header('www-authenticate'), 'Negotiate, Bearer realm="https://a/token"');
  assert.equal(header('link'), '</a>; rel="first", </b>; rel="next"');
  assert.equal(header('x-other'), '1');
});

test('a name is judged by what it resolves to when it is connected to', async t => {
  const { url } = await dialTo(t, (_, response) => response.end('ok'));
  let address = '169.254.169.254';
  const resolve: Resolve = (_host, _options, callback) => callback(null, [{ address, family: 4 }]);
  const registry = new URL('https://registry.example');
  const clock = new TestClock();
  const dialer = dialerOf(t, { registry, resolve, clock, blobHosts: ['localhost'] });
  const dial = () => dialer.dial({ method: 'GET', url: new URL(`http://localhost:${url.port}/`), headers: {} });
  for (let i = 0; i < 5; i++) {
    const message = /^registry\.example sends us to localhost, 169\.254\.169\.254, which no registry may send us to/;
    await assert.rejects(dial(), { code: 'UPSTREAM_INVALID', message });
  }
  address = '127.0.0.1';
  await assert.rejects(dial(), { code: 'UPSTREAM_INVALID' }, 'an answer serves for a while');
  clock.advance(10_000);
  assert.equal(String(await readAll(await dial(), 10)), 'ok');
});

test('a host that cannot be reached is left alone, and others are not', async t => {
  const { url } = await dialTo(t, (_, response) => response.end('ok'));
  const down: string[] = [];
  const dialer = dialerOf(t, { onDown: host => down.push(host) });
  const dial = (target: URL) => dialer.dial({ method: 'GET', url: target, headers: {} });
  const closed = new URL('http://127.0.0.1:1/');
  for (let i = 0; i < 3; i++) await assert.rejects(dial(closed), /cannot be reached .*ECONNREFUSED/);
  await assert.rejects(dial(closed), /is failing and is left alone/);
  assert.deepEqual(down, ['127.0.0.1:1']);
  assert.equal(String(await readAll(await dial(url), 10)), 'ok');
});
