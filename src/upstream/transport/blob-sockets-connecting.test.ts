// How sockets for blobs connect: where to, by whose certificate, and what is said when they cannot.
import assert from 'node:assert/strict';
import { type LookupAddress, lookup } from 'node:dns';
import type { LookupFunction, Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { createSecureContext } from 'node:tls';
import { errors } from 'undici';
import { until } from '../../../test/support/async.ts';
import { TestClock } from '../../../test/support/clock.ts';
import { startRaw } from '../../../test/support/raw-server.ts';
import { LOOPBACK_TLS } from '../../../test/support/tls.ts';
import { isOutOfDescriptors, RegistryError } from '../../oci/errors.ts';
import { BlobSockets, type BlobSocketsOptions } from './blob-sockets.ts';
import { discard } from './response.ts';

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';
const TIMEOUTS = { connectMs: 10_000, headersMs: 20_000, stallMs: 30_000 };

function open(t: TestContext, options: Partial<BlobSocketsOptions> = {}) {
  const secureContext = createSecureContext({ ca: LOOPBACK_TLS.cert });
  const sockets = new BlobSockets({ clock: new TestClock(), timeouts: TIMEOUTS, lookup, secureContext, ...options });
  t.after(() => sockets.close());
  let connected = 0;
  const get = async (url: URL) => {
    const response = await sockets.get(url, {}, { onConnect: () => connected++ });
    return (await discard(response ?? assert.fail('no response'))).status;
  };
  return { get, connected: () => connected };
}

/** Gives these addresses, or fails with this error. */
function resolvingTo(outcome: readonly LookupAddress[] | Error): LookupFunction {
  return (_hostname, _options, callback) => {
    if (outcome instanceof Error) callback(outcome, '');
    else callback(null, [...outcome]);
  };
}

function named(url: URL, hostname: string): URL {
  const other = new URL(url);
  other.hostname = hostname;
  return other;
}

test('what connecting fails with comes as it is, and nothing was sent', async t => {
  const closed = new URL('http://localhost:1/');
  const { get, connected } = open(t);
  await assert.rejects(get(new URL('http://127.0.0.1:1/')), { code: 'ECONNREFUSED' });
  await assert.rejects(get(new URL('http://[::1]:1/')), { code: 'ECONNREFUSED' });
  await assert.rejects(get(new URL('https://127.0.0.1:1/')), { code: 'ECONNREFUSED' });
  assert.equal(connected(), 0);
  const outcomes = [
    Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' }),
    new RegistryError('UPSTREAM_INVALID', 'it may not send us there'),
    Object.assign(new Error('connect EMFILE'), { code: 'EMFILE' }),
  ];
  for (const outcome of outcomes) {
    const failing = open(t, { lookup: resolvingTo(outcome) });
    await assert.rejects(failing.get(closed), error => error === outcome);
    assert.equal(failing.connected(), 0);
  }
});

test('addresses that are all too slow are a timeout, and those that cannot be tried are not', async t => {
  const failed = (code: string) => new AggregateError([Object.assign(new Error(code), { code })]);
  const slow = open(t, { lookup: resolvingTo(failed('ETIMEDOUT')) });
  await assert.rejects(slow.get(new URL('http://localhost/')), (error: Error) => {
    return error instanceof errors.ConnectTimeoutError && error.cause instanceof AggregateError;
  });
  const exhausted = open(t, { lookup: resolvingTo(failed('EMFILE')) });
  await assert.rejects(exhausted.get(new URL('http://localhost/')), isOutOfDescriptors);
});

for (const tls of [false, true]) {
  test(`the second address of a name is tried when the first fails, ${tls ? 'over TLS' : 'plain'}`, async t => {
    const { url } = await startRaw(t, socket => socket.write(OK), { tls });
    const addresses = [
      { address: '::1', family: 6 },
      { address: '127.0.0.1', family: 4 },
    ];
    const { get, connected } = open(t, { lookup: resolvingTo(addresses) });
    assert.equal(await get(named(url, 'localhost')), 200);
    assert.equal(connected(), 1);
  });
}

test('a connection is counted once the request is on it', async t => {
  const { url } = await startRaw(t, socket => socket.destroy());
  const { get, connected } = open(t);
  await assert.rejects(get(url), /closed before there was a response|ECONNRESET/);
  assert.equal(connected(), 1);
});

test('a server is trusted by the certificates that are given, for its own names, and over HTTP/1.1', async t => {
  const said: unknown[][] = [];
  const answer = (socket: Socket) => {
    const { servername, alpnProtocol } = socket as TLSSocket & { servername: unknown };
    said.push([servername, alpnProtocol]);
    socket.write(OK);
  };
  const { url } = await startRaw(t, answer, { tls: true });
  const { get } = open(t);
  assert.equal(await get(url), 200);
  assert.equal(await get(named(url, 'localhost')), 200);
  assert.deepEqual(said, [
    [false, 'http/1.1'],
    ['localhost', 'http/1.1'],
  ]);

  const distrustful = open(t, { secureContext: createSecureContext() });
  await assert.rejects(distrustful.get(url), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
  const stranger = await startRaw(t, socket => socket.write(OK), { tls: true, host: '127.0.0.2' });
  await assert.rejects(get(stranger.url), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  assert.deepEqual(stranger.requests, []);
  assert.equal(distrustful.connected(), 0);
});

test('a server that speaks no TLS, or hangs up in the midst of it, is an error', async t => {
  for (const [text, code] of [
    ['HTTP/1.1 400 Bad Request\r\n\r\n', /SSL/],
    ['', /ECONNRESET/],
  ] as const) {
    const { url, sockets } = await startRaw(t, () => {});
    const { get, connected } = open(t);
    const failing = assert.rejects(get(new URL(url.href.replace('http:', 'https:'))), { code });
    await until(() => sockets.length === 1);
    sockets[0]?.end(text);
    await failing;
    assert.equal(connected(), 0);
  }
});

test('a TLS session is resumed by the next connection', async t => {
  const resumed: boolean[] = [];
  const answer = (socket: Socket) => {
    resumed.push((socket as TLSSocket).isSessionReused());
    socket.end(OK);
  };
  const { url, sockets } = await startRaw(t, answer, { tls: true });
  const { get } = open(t);
  for (const hostname of ['127.0.0.1', '127.0.0.1', 'localhost', '127.0.0.1']) {
    assert.equal(await get(named(url, hostname)), 200);
    await until(() => sockets.every(socket => socket.destroyed));
  }
  assert.deepEqual(resumed, [false, true, false, true]);
});
