// Connections as clients and load balancers really use them: HTTP/1.0 without a Host, absolute request targets, long
// Range headers, closing their side early, waiting for us as long as it takes, or vanishing.
import assert from 'node:assert/strict';
import diagnostics from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { turns, until } from '../../support/async.ts';
import { startBoth, type TestCache } from '../../support/cache.ts';
import { bytesOf, makeImage } from '../../support/images.ts';
import { PATIENT, small, startPushing } from '../../support/push-client.ts';
import { lines, openRaw, raw } from '../../support/raw.ts';

const image = makeImage({ layers: [1000] });
const LAYER = `/v2/owner/app/blobs/${image.layers[0]?.digest}`;
const LIMIT = { timeout: 20_000 };

async function start(t: TestContext) {
  const both = await startBoth(t, { timeouts: PATIENT });
  both.ghcr.push('owner/app', image, 'v1');
  return both;
}

test('a health check in HTTP/1.0, without a Host, is answered, and so is everything else', LIMIT, async t => {
  const { cache } = await start(t);
  for (const [line, status] of [
    ['GET /healthz HTTP/1.0', 200],
    ['HEAD /healthz HTTP/1.0', 200],
    ['OPTIONS /healthz HTTP/1.0', 404],
    ['GET /readyz HTTP/1.0', 200],
    ['GET /v2/ HTTP/1.0', 200],
    ['GET /v2/owner/app/manifests/v1 HTTP/1.0', 200],
    ['GET / HTTP/1.0', 404],
  ] as const) {
    for (const headers of ['', 'User-Agent: HAProxy\r\n']) {
      const reply = await raw(cache.url, `${line}\r\n${headers}\r\n`);
      assert.match(reply, new RegExp(`^HTTP/1\\.1 ${status} `), line);
    }
  }
  const layer = await raw(cache.url, `GET ${LAYER} HTTP/1.0\r\n\r\n`);
  assert.match(layer, /^HTTP\/1\.1 200 .*content-length: 1000\r\n.*connection: close/is);
  assert.match(await raw(cache.url, 'GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n'), /^HTTP\/1\.1 400 /);
});

test('a target in absolute-form is handled as its path', LIMIT, async t => {
  const { cache } = await start(t);
  const { host } = new URL(cache.url);
  for (const [path, status] of [
    ['/v2/', 200],
    ['', 404],
    ['?a=/v2/', 404],
    ['/healthz', 200],
    ['/v2/owner/app/manifests/v1?ns=ghcr.io', 200],
    [LAYER, 200],
    ['/v2/a/../b/tags/list', 400],
  ] as const) {
    for (const target of [`http://${host}${path}`, `HTTPS://localhost${path}`, `http://user:s3cret@${host}${path}`]) {
      const reply = await raw(cache.url, lines(`GET ${target} HTTP/1.1`, `Host: ${host}`));
      assert.match(reply, new RegExp(`^HTTP/1\\.1 ${status} `), target);
      assert.doesNotMatch(reply, /s3cret/);
    }
  }
  const upload = await raw(
    cache.url,
    lines(`POST http://${host}/v2/owner/app/blobs/uploads/ HTTP/1.1`, `Host: ${host}`, 'Content-Length: 0'),
  );
  assert.match(upload, /^HTTP\/1\.1 (?:403|401|202) /, 'it is a push like any other');
  assert.doesNotMatch(cache.log(), /s3cret/);
});

test(
  'a Range header of 18 KB is ignored for the number of its ranges, and a long one that is not is answered',
  LIMIT,
  async t => {
    const { cache } = await start(t);
    for (const [range, status, length] of [
      [`bytes=${Array.from({ length: 3000 }, (_, n) => `${n}-${n}`).join(',')}`.slice(0, 18_000), 200, 1000],
      [`bytes=${' '.repeat(30_000)}0-9`, 206, 10],
      [`bytes=${'0-0,'.repeat(63)}1-1`, 206, undefined],
    ] as const) {
      const reply = await raw(cache.url, lines(`GET ${LAYER} HTTP/1.1`, 'Host: localhost', `Range: ${range}`));
      assert.match(reply, new RegExp(`^HTTP/1\\.1 ${status} `));
      if (length !== undefined) assert.match(reply, new RegExp(`content-length: ${length}\r\n`, 'i'));
    }
  },
);

const GET_MANIFEST = 'GET /v2/owner/app/manifests/v1 HTTP/1.1\r\nHost: localhost\r\n\r\n';
const GET_LAYER = `GET ${LAYER} HTTP/1.1\r\nHost: localhost\r\n\r\n`;

describe('a client that closes its side when its request is out', () => {
  test('gets its response, also when that takes its time', LIMIT, async t => {
    const { ghcr, cache } = await start(t);
    const held = ghcr.fault({ endpoint: 'manifest', hang: true });
    const client = await openRaw(cache.url);
    client.socket.end(GET_MANIFEST);
    await held.reached();
    await turns(20);
    held.remove();
    assert.match(await client.closed, /^HTTP\/1\.1 200 .*\}$/s);
  });

  test('gets a layer whose end comes late', LIMIT, async t => {
    const { ghcr, cache } = await start(t);
    const stalled = ghcr.fault({ endpoint: 'blobhost', stallAfter: 500 });
    const client = await openRaw(cache.url);
    client.socket.end(GET_LAYER);
    await stalled.reached();
    await turns(20);
    stalled.remove();
    const reply = await client.closed;
    assert.equal(reply.length - reply.indexOf('\r\n\r\n') - 4, 1000);
  });

  test('gets every response of requests in a row', LIMIT, async t => {
    const { ghcr, cache } = await start(t);
    const held = ghcr.fault({ endpoint: 'manifest', hang: true });
    const client = await openRaw(cache.url);
    client.socket.end(`${GET_MANIFEST}${GET_LAYER}GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    await held.reached();
    await turns(20);
    held.remove();
    assert.equal((await client.closed).match(/HTTP\/1\.1 200 /g)?.length, 3);
  });

  test('but not if it does so in the middle of its body', LIMIT, async t => {
    const { cache } = await start(t);
    const client = await openRaw(cache.url);
    client.socket.end('PUT /v2/owner/app/manifests/v1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{');
    assert.doesNotMatch(await client.closed, /^HTTP\/1\.1 2/);
  });
});

describe('when nothing has moved for two minutes', () => {
  /** A client, and the server's end of its connection, which the test lets be idle for so long. */
  async function openWatched(cache: TestCache, text: string) {
    const accepted: Socket[] = [];
    const onSocket = (message: unknown) => accepted.push((message as { socket: Socket }).socket);
    diagnostics.subscribe('net.server.socket', onSocket);
    const client = await openRaw(cache.url, text);
    const ours = () => accepted.find(({ remotePort }) => remotePort === client.socket.localPort);
    await until(() => ours() !== undefined);
    diagnostics.unsubscribe('net.server.socket', onSocket);
    const socket = ours() ?? assert.fail();
    return { ...client, server: socket, idle: () => socket.emit('timeout') };
  }

  test('a client that waits for us is waited with', LIMIT, async t => {
    const { ghcr, cache } = await start(t);
    const stalled = ghcr.fault({ endpoint: 'blobhost', stallAfter: 500 });
    const client = await openWatched(cache, GET_LAYER);
    await stalled.reached();
    await until(() => client.server.writableLength === 0);
    for (let n = 0; n < 5; n++) {
      client.idle();
      assert.equal(client.server.destroyed, false);
      assert.equal(client.server.timeout, 120_000, 'and is asked about again');
    }
    stalled.remove();
    await until(() => client.got().length > 1000);
    await until(() => client.got().split('\r\n\r\n')[1]?.length === 1000);
    client.idle();
    await client.closed;
  });

  test('a client that pushes, and waits for the upstream to agree, is waited with', LIMIT, async t => {
    const { ghcr, cache } = await startPushing(t, { timeouts: PATIENT });
    const held = ghcr.fault({ endpoint: 'upload-start', hang: true });
    const bytes = bytesOf(small);
    const path = `/v2/owner/app/blobs/uploads/?digest=${small.digest}`;
    const head = `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${bytes.length}\r\n\r\n`;
    const client = await openWatched(cache, head);
    client.socket.write(bytes.subarray(0, 100));
    await held.reached();
    client.idle();
    assert.equal(client.server.destroyed, false);
    held.remove();
    client.socket.write(bytes.subarray(100));
    await until(() => client.got().startsWith('HTTP/1.1 201 '));
    client.socket.end();
    await client.closed;
  });

  test('a client whose request has not come is cut off', LIMIT, async t => {
    const { cache } = await start(t);
    for (const request of [
      'PUT /v2/owner/app/manifests/v1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{',
      'GET /v2/ HTTP/1.1\r\nHost: loc',
      '',
    ]) {
      const client = await openWatched(cache, request);
      await until(() => client.server.bytesRead === request.length);
      await turns(10);
      client.idle();
      await client.closed;
    }
  });

  test('a client that does not take its response is cut off', LIMIT, async t => {
    const { ghcr, cache } = await start(t);
    const large = makeImage({ layers: [40_000_000] });
    ghcr.push('owner/large', large, 'v1');
    const path = `/v2/owner/large/blobs/${large.layers[0]?.digest}`;
    assert.equal((await cache.get(path)).status, 200);
    const client = await openWatched(cache, '');
    client.socket.pause();
    client.socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    // Twice the same, when the system takes no more.
    let before = -1;
    await until(async () => {
      const waiting = client.server.writableLength;
      const isStuck = waiting > 0 && waiting === before;
      before = waiting;
      await turns(50);
      return isStuck;
    });
    client.idle();
    assert.equal(client.server.destroyed, true);
    client.socket.resume();
    await client.closed;
  });
});

test('the system asks whether a silent client is still there', { skip: process.platform !== 'linux' }, async t => {
  const { ghcr, cache } = await start(t);
  const held = ghcr.fault({ endpoint: 'manifest', hang: true });
  const client = await openRaw(cache.url, GET_MANIFEST);
  await held.reached();
  const hex = (port: unknown) => Number(port).toString(16).toUpperCase().padStart(4, '0');
  const ends = `:${hex(new URL(cache.url).port)} 0100007F:${hex(client.socket.localPort)} `;
  // Of the timers in /proc/net/tcp, 02 is keepalive's.
  await until(() =>
    readFileSync('/proc/net/tcp', 'latin1')
      .split(ends)[1]
      ?.match(/^\w+ \w+:\w+ 02:/),
  );
  held.remove();
  client.socket.end();
  await client.closed;
});

test('a host in the path and the same in ns are one, as containerd sends them with override_path', LIMIT, async t => {
  const { ghcr, cache } = await start(t);
  const reply = await cache.get('/v2/ghcr.io/owner/app/manifests/v1?ns=ghcr.io');
  assert.equal(reply.status, 200);
  assert.equal(reply.headers['oci-namespace'], 'ghcr.io');
  assert.equal((await cache.get('/v2/owner/app/manifests/v1')).headers['x-cache'], 'hit');
  const list = await cache.get('/v2/ghcr.io/owner/app/tags/list?ns=ghcr.io&n=1');
  assert.deepEqual(JSON.parse(list.body.toString()), { name: 'owner/app', tags: ['v1'] });
  assert(ghcr.requests.every(({ repository }) => repository === undefined || repository === 'owner/app'));
});
