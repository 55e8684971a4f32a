// GETs over sockets, against servers that write what each test says.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { lookup } from 'node:dns';
import type { Socket } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { createSecureContext } from 'node:tls';
import { errors } from 'undici';
import { stateOf, turns, until } from '../../../test/support/async.ts';
import { TestClock } from '../../../test/support/clock.ts';
import { startRaw } from '../../../test/support/raw-server.ts';
import { LOOPBACK_TLS } from '../../../test/support/tls.ts';
import { Address } from './address.ts';
import { BlobSockets, type BlobSocketsOptions, hasProxy } from './blob-sockets.ts';
import type { UpstreamResponse } from './response.ts';

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';
const TIMEOUTS = { connectMs: 10_000, headersMs: 20_000, stallMs: 30_000 };

function open(t: TestContext, options: Partial<BlobSocketsOptions> = {}) {
  const clock = new TestClock();
  const secureContext = createSecureContext({ ca: LOOPBACK_TLS.cert });
  const sockets = new BlobSockets({ clock, timeouts: TIMEOUTS, lookup, secureContext, ...options });
  t.after(() => sockets.close());
  /** Of a response that there must be. */
  const get = async (url: URL, signal?: AbortSignal): Promise<UpstreamResponse> =>
    (await sockets.get(url, {}, { signal })) ?? assert.fail('no response');
  const text = async (url: URL) => (await readAll(await get(url))).toString('latin1');
  return { sockets, clock, get, text };
}

/** Pauses after each chunk when it is told to. The chunks are copied, since they are borrowed. */
async function readAll({ body }: UpstreamResponse, pause?: () => Promise<void>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const broken = await body.read(chunk => {
    chunks.push(Buffer.from(chunk));
    return pause?.();
  });
  if (broken !== undefined) throw broken;
  return Buffer.concat(chunks);
}

for (const tls of [false, true]) {
  describe(tls ? 'over TLS' : 'over plain sockets', () => {
    test('a request is what it has to be', async t => {
      const { url, requests } = await startRaw(t, socket => socket.write(OK), { tls });
      const { sockets } = open(t);
      const address = Address.of('/a%2e%2e/b?sig="x"&#y', url) ?? assert.fail('no address');
      const response = await sockets.get(address, { range: 'bytes=1-', 'user-agent': 'x' });
      assert.equal(String(await readAll(response ?? assert.fail('no response'))), 'ok');
      const lines = ['GET /a%2e%2e/b?sig="x"& HTTP/1.1', `host: ${url.host}`, 'range: bytes=1-', 'user-agent: x'];
      assert.equal(requests[0], lines.join('\r\n'));
      await assert.rejects(sockets.get(url, { range: 'x\r\ny: z' }), errors.InvalidArgumentError);
      await assert.rejects(sockets.get(url, { 'x\n': '' }), errors.InvalidArgumentError);
    });

    test('many bodies at once are whole, whether their readers pause or not', async t => {
      const bodies = Array.from({ length: 24 }, (_, i) =>
        randomBytes([1, 1_000, 65_536, 300_000, 2_000_000][i % 5] ?? 0),
      );
      const answer = (socket: NodeJS.WritableStream, request: string) => {
        const body = bodies[Number(/\d+/.exec(request)?.[0])] ?? assert.fail(request);
        socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n`);
        socket.write(body);
      };
      const { url, sockets: connections } = await startRaw(t, answer, { tls });
      const { get } = open(t);
      const checks = bodies.map(async (body, i) => {
        const response = await get(new URL(`/${i}`, url));
        // Some read a moment later.
        await turns(i % 4);
        const pauses = [undefined, () => Promise.resolve(), () => turns(1), () => turns(3)];
        assert((await readAll(response, pauses[i % pauses.length])).equals(body), `body ${i}`);
      });
      await Promise.all(checks);
      assert.equal(connections.length, bodies.length);
    });

    test('a connection is used again after a body that came whole', async t => {
      const { url, sockets } = await startRaw(t, socket => socket.write(OK), { tls });
      const { get, text } = open(t);
      for (let i = 0; i < 3; i++) assert.equal(await text(url), 'ok');
      const { body } = await get(url);
      await readAll(await get(url));
      body.abandon();
      assert.equal(await text(url), 'ok');
      assert.equal(sockets.length, 1);
    });

    test('or before it is read, if it has come', async t => {
      const answer = (socket: Socket) => {
        // Over TLS these are two pieces, of which the second comes while nobody wants it.
        socket.write(OK.slice(0, -1));
        socket.write(OK.slice(-1));
      };
      const { url, sockets } = await startRaw(t, answer, { tls });
      const { get } = open(t);
      const responses: UpstreamResponse[] = [];
      for (let i = 0; i < 3; i++) {
        responses.push(await get(url));
        await turns(5);
      }
      for (const response of responses) assert.equal(String(await readAll(response)), 'ok');
      assert.equal(sockets.length, 1);
    });

    test('and not after any other', async t => {
      const texts = [
        'HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok',
        'HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok',
        `${OK}HTTP/1.1 200 OK\r\n`,
        'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok',
      ];
      const { url, sockets } = await startRaw(t, (socket, _, count) => socket.write(texts[count - 1] ?? OK), { tls });
      const { get, text } = open(t);
      for (let i = 0; i < 3; i++) assert.equal(await text(url), 'ok');
      (await get(url)).body.abandon();
      assert.equal(await text(url), 'ok');
      assert.equal(sockets.length, 5);
    });

    test('what comes on a connection that nobody uses closes it', async t => {
      const { url, sockets } = await startRaw(t, socket => socket.write(OK), { tls });
      const { text } = open(t);
      await text(url);
      sockets[0]?.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil');
      await until(() => sockets[0]?.destroyed);
      assert.equal(await text(url), 'ok');
    });

    test('a connection that is closed between two requests, or at the second, costs nothing', async t => {
      const { url, sockets } = await startRaw(
        t,
        (socket, _, count) => void (count === 2 ? socket.destroy() : socket.write(OK)),
        { tls },
      );
      const { text } = open(t);
      assert.equal(await text(url), 'ok');
      assert.equal(await text(url), 'ok');
      sockets[1]?.end();
      await until(() => sockets[1]?.destroyed);
      assert.equal(await text(url), 'ok');
      assert.equal(sockets.length, 3);
    });

    test('a request is repeated once, and not when there was a byte of the response', async t => {
      let isBroken = false;
      let part = '';
      const { url, requests } = await startRaw(t, socket => void (isBroken ? socket.end(part) : socket.write(OK)), {
        tls,
      });
      const { text } = open(t);
      await text(url);
      isBroken = true;
      await assert.rejects(text(url), /closed before there was a response/);
      assert.equal(requests.length, 3);
      isBroken = false;
      await text(url);
      isBroken = true;
      part = 'H';
      await assert.rejects(text(url), /closed within a head/);
      assert.equal(requests.length, 5);
    });

    test('a body that ends early says so, and none of it is lost', async t => {
      const { url } = await startRaw(
        t,
        socket => {
          socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n');
          socket.end('x'.repeat(300_000));
        },
        { tls },
      );
      const { get } = open(t);
      for (const pause of [undefined, () => turns(1)]) {
        let length = 0;
        const broken = await (await get(url)).body.read(chunk => {
          length += chunk.length;
          return pause?.();
        });
        assert.match(String(broken), /closed after 300000 of 1000000 bytes/);
        assert.equal(length, 300_000);
      }
    });

    test('responses that announce one are passed over, and one of unknown length is left to others', async t => {
      const texts = [`HTTP/1.1 103 Early Hints\r\n\r\n${OK}`, 'HTTP/1.1 200 OK\r\n\r\nx', 'HTTP/1.1 200\nx'];
      const { url, sockets: connections } = await startRaw(
        t,
        (socket, _, count) => socket.write(texts[count - 1] ?? ''),
        { tls },
      );
      const { sockets, text } = open(t);
      assert.equal(await text(url), 'ok');
      assert.equal(await sockets.get(url, {}), undefined);
      await until(() => connections[0]?.destroyed);
      await assert.rejects(sockets.get(url, {}), /LF alone/);
    });

    test('a reader who pauses holds up the sender', async t => {
      const { url, sockets } = await startRaw(
        t,
        socket => {
          socket.write('HTTP/1.1 200 OK\r\ncontent-length: 30000000\r\n\r\n');
          socket.write(Buffer.alloc(30_000_000));
        },
        { tls },
      );
      const { get } = open(t);
      const { body } = await get(url);
      const resuming = Promise.withResolvers<void>();
      let length = 0;
      const reading = body.read(chunk => {
        length += chunk.length;
        return length < 1_000_000 ? undefined : resuming.promise;
      });
      await until(() => length >= 1_000_000);
      for (let before = -1; before !== sockets[0]?.writableLength; ) {
        before = sockets[0]?.writableLength ?? 0;
        await turns(500);
      }
      assert(length < 2_000_000, `${length} bytes`);
      assert((sockets[0]?.writableLength ?? 0) > 10_000_000);
      resuming.resolve();
      assert.equal(await reading, undefined);
      assert.equal(length, 30_000_000);
    });
  });
}

test('an abort ends it at any stage, with its reason', async t => {
  const texts = ['', 'HTTP/1.1 ', 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx'];
  const { url, sockets, requests } = await startRaw(t, (socket, _, count) => socket.write(texts[count - 1] ?? OK));
  const reason = new Error('shutting down');
  const { get } = open(t);
  await assert.rejects(get(url, AbortSignal.abort(reason)), reason);

  const connecting = new AbortController();
  const unconnected = get(url, connecting.signal);
  connecting.abort(reason);
  await assert.rejects(unconnected, reason);

  for (let count = 1; count <= 2; count++) {
    const waiting = new AbortController();
    const asking = get(url, waiting.signal);
    await until(() => requests.length === count);
    await turns(5);
    waiting.abort(reason);
    await assert.rejects(asking, reason);
  }

  const reading = new AbortController();
  const { body } = await get(url, reading.signal);
  const broken = body.read(() => {
    reading.abort(reason);
    return undefined;
  });
  assert.equal(((await broken) as Error).cause, reason);
  await until(() => sockets.every(socket => socket.destroyed));
});

describe('connections to one host', () => {
  test('are 256 at most; who waits for one is served in order, and may give up', async t => {
    const { url, sockets, requests } = await startRaw(t, () => {});
    const { get, sockets: pool } = open(t);
    const first = Array.from({ length: 256 }, (_, i) => get(new URL(`/${i}`, url)));
    const giving = new AbortController();
    const given = get(new URL('/given', url), giving.signal);
    const last = [1, 2].map(i => get(new URL(`/last-${i}`, url)));
    const stopped = Promise.allSettled([...first, ...last]);
    await until(() => requests.length === 256);
    await turns(50);
    assert.equal(sockets.length, 256);
    giving.abort(new Error('given up'));
    await assert.rejects(given, /given up/);
    sockets[0]?.write(OK);
    await readAll((await Promise.race(first)) ?? assert.fail());
    await until(() => requests.length === 257);
    assert.match(requests[256] ?? '', /last-1/);
    sockets[1]?.destroy();
    await until(() => requests.length === 258);
    assert.match(requests[257] ?? '', /last-2/);
    pool.close();
    await stopped;
  });

  test('wait for a request for 30 s, and no more than 64 of them', async t => {
    const { url, sockets, requests } = await startRaw(t, () => {});
    const { get, clock } = open(t);
    const responses = Array.from({ length: 66 }, () => get(url));
    await until(() => requests.length === 66);
    for (const socket of sockets) socket.write(OK);
    for (const response of responses) await readAll(await response);
    await until(() => sockets.filter(socket => socket.destroyed).length === 2);
    clock.advance(29_000);
    await turns(50);
    assert.equal(sockets.filter(socket => socket.destroyed).length, 2);
    clock.advance(1_000);
    await until(() => sockets.every(socket => socket.destroyed));
  });

  test('are closed when they can be spared, and only those', async t => {
    const { url, sockets: connections } = await startRaw(t, (socket, request) => {
      if (request.includes('/body')) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no');
      else socket.write(OK);
    });
    const { sockets, get, text } = open(t);
    const body = await get(new URL('/body', url));
    await text(url);
    assert.equal(connections.length, 2);
    sockets.shrink();
    assert.equal(await text(url), 'ok');
    await until(() => connections[1]?.destroyed);
    assert.equal(connections.length, 3);
    connections[0]?.write('k');
    assert.equal(String(await readAll(body)), 'ok');
  });

  test('end with it', async t => {
    const { url, requests } = await startRaw(t, (socket, request) => {
      if (request.includes('/body')) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n');
      if (request.includes('/idle')) socket.write(OK);
    });
    const { sockets, get, text } = open(t);
    const [idle, head, body] = ['/idle', '/head', '/body'].map(path => new URL(path, url)) as [URL, URL, URL];
    await text(idle);
    const reading = (await get(body)).body.read(() => undefined);
    const asking = Array.from({ length: 300 }, () => get(head));
    const asked = Promise.allSettled(asking);
    await until(() => requests.length === 257);
    sockets.close();
    assert((await reading) instanceof errors.ClientDestroyedError);
    assert(
      (await asked).every(each => each.status === 'rejected' && each.reason instanceof errors.ClientDestroyedError),
    );
    await assert.rejects(get(idle), errors.ClientDestroyedError);
    assert.equal(requests.length, 257);
  });
});

describe('what takes too long', () => {
  test('is a connection, with its lookup and its TLS', async t => {
    const { url, sockets } = await startRaw(t, () => {});
    const { get, clock } = open(t, { lookup: () => {} });
    const unresolved = get(new URL('http://localhost/'));
    await turns(5);
    clock.advance(9_999);
    assert.equal(await stateOf(unresolved), 'pending');
    clock.advance(1_000);
    await assert.rejects(unresolved, errors.ConnectTimeoutError);
    const silent = get(new URL(url.href.replace('http:', 'https:')));
    await until(() => sockets.length === 1);
    clock.advance(10_500);
    await assert.rejects(silent, errors.ConnectTimeoutError);
    await until(() => sockets[0]?.destroyed);
  });

  test('is a head, whatever announces it, also on a connection that was kept', async t => {
    const { url, sockets, requests } = await startRaw(t, (socket, _, count) => void (count === 2 && socket.write(OK)));
    const { get, text, clock } = open(t);
    const first = get(url);
    await until(() => requests.length === 1);
    clock.advance(19_000);
    sockets[0]?.write('HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n');
    await turns(50);
    clock.advance(1_000);
    await assert.rejects(first, errors.HeadersTimeoutError);
    await text(url);
    const second = get(url);
    await until(() => requests.length === 3);
    clock.advance(20_500);
    await assert.rejects(second, errors.HeadersTimeoutError);
    assert.equal(requests.length, 3);
  });

  test('is a body of which nothing comes, and not one that its reader holds up', async t => {
    const { url, sockets } = await startRaw(t, socket =>
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0'),
    );
    const { get, clock } = open(t);
    const { body } = await get(url);
    clock.advance(100_000);
    await turns(5);
    const taken = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let count = 0;
    const reading = body.read(() => taken[count++]?.promise);
    clock.advance(100_000);
    assert.equal(await stateOf(reading), 'pending');
    taken[0]?.resolve();
    await turns(5);
    clock.advance(29_000);
    sockets[0]?.write('1');
    await until(() => count === 2);
    clock.advance(100_000);
    assert.equal(await stateOf(reading), 'pending');
    taken[1]?.resolve();
    await turns(5);
    clock.advance(29_000);
    sockets[0]?.write('2');
    await until(() => count === 3);
    clock.advance(29_999);
    assert.equal(await stateOf(reading), 'pending');
    clock.advance(501);
    assert((await reading) instanceof errors.BodyTimeoutError);

    const resumed = (await get(url)).body.read(() => turns(2));
    await turns(5);
    clock.advance(29_999);
    assert.equal(await stateOf(resumed), 'pending');
    clock.advance(501);
    assert((await resumed) instanceof errors.BodyTimeoutError);
  });
});

test('a proxy in the environment is noticed', () => {
  assert.equal(hasProxy({ PATH: '/bin', http_proxy: '', NO_PROXY: 'x' }), false);
  for (const name of ['http_proxy', 'HTTP_PROXY', 'https_proxy', 'HTTPS_PROXY']) {
    assert.equal(hasProxy({ [name]: 'http://127.0.0.1:3128' }), true);
  }
});
