// Bodies that are buffered whole, from clients that send them slowly, not at all, or to the wrong place: memory stays
// bounded, and honest clients are served meanwhile.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { turns, until } from '../../support/async.ts';
import { errorOf } from '../../support/http-client.ts';
import { image, MIB, startWithParts } from '../../support/push-client.ts';
import { openRaw, type RawClient } from '../../support/raw.ts';

const LIMIT = { timeout: 60_000 };
const LARGE = 3.9 * MIB;
const head = (path: string, length: number) =>
  `PUT ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${Math.floor(length)}\r\n\r\n`;

function put(url: string, length: number, body: Buffer): Promise<RawClient> {
  return openRaw(url).then(client => {
    client.socket.write(head('/v2/owner/app/manifests/bomb', length));
    client.socket.write(body);
    return client;
  });
}

test('60 manifests that stall before their last byte leave memory bounded and others served', LIMIT, async t => {
  const { cache, client, clock } = await startWithParts(t);
  const body = Buffer.alloc(Math.floor(LARGE) - 1, ' ');
  const before = process.memoryUsage().arrayBuffers;
  const clients: RawClient[] = [];
  for (let n = 0; n < 60; n++) clients.push(await put(cache.url, LARGE, body));
  t.after(() => {
    for (const { socket } of clients) socket.destroy();
  });
  const refused = () => clients.filter(each => /^HTTP\/1\.1 429 .*retry-after: 1\r\n/is.test(each.got())).length;
  await until(() => refused() >= 54);
  assert.equal(refused(), 54, 'there is memory for six');
  const added = process.memoryUsage().arrayBuffers - before;
  assert(added < 150 * MIB, `${added / MIB} MiB`);

  // Small ones have memory of their own, and a large one gets that of one that has stalled.
  assert.equal((await client.manifest(image.manifest, 'small')).status, 201);
  clock.advance(3_000);
  const honest = await put(cache.url, LARGE, Buffer.concat([body, Buffer.from(' ')]));
  assert.match(await untilAnswered(honest), /^HTTP\/1\.1 400 .*MANIFEST_INVALID/s, 'it was read to its end');
  const cut = () => clients.filter(each => each.got().startsWith('HTTP/1.1 408 '));
  await until(() => cut().length === 1);
  assert.match(cut()[0]?.got() ?? '', /connection: close\r\n.*needed its place/is);

  clock.advance(28_000);
  await until(() => cut().length === 6);
  await Promise.all(clients.map(({ closed }) => closed));
});

test('a manifest that comes too slowly is a 408 that says so, and ends the connection', LIMIT, async t => {
  const { cache, clock } = await startWithParts(t);
  const slow = await put(cache.url, 10_000, Buffer.from('{'));
  await turns(50);
  clock.advance(5_000);
  await turns(50);
  assert.equal(slow.got(), '');
  clock.advance(1_000);
  const reply = await slow.closed;
  assert.match(reply, /^HTTP\/1\.1 408 Request Timeout\r\n/);
  assert.match(reply, /"code":"REQUEST_TIMEOUT","message":"the request came too slowly: 1 bytes in 6 s"/);
});

test('a body whose request is refused is hardly read', LIMIT, async t => {
  const { cache } = await startWithParts(t, { config: { push: 'through' } });
  const chunk = Buffer.alloc(64 * 1024);
  for (const path of [
    '/v2/OWNER/app/manifests/v1',
    '/v2/owner/app/manifests/v1',
    '/v2/owner/app/blobs/uploads/none',
    '/v2/owner/app',
    '/healthz',
    '/nothing',
  ]) {
    const client = await openRaw(cache.url, head(path, 100 * MIB));
    let sent = 0;
    const more = () => {
      while (!client.socket.destroyed && sent < 100 * MIB && client.socket.write(chunk)) sent += chunk.length;
    };
    client.socket.on('drain', more);
    more();
    assert.match(await client.closed, /^(?:HTTP\/1\.1 4\d\d .*|)$/s, path);
    assert(client.socket.bytesWritten < 20 * MIB, `${path}: ${client.socket.bytesWritten / MIB} MiB`);
  }
  assert.equal(errorOf(await cache.get('/v2/owner/none/manifests/v1')).code, 'MANIFEST_UNKNOWN');
});

async function untilAnswered(client: RawClient): Promise<string> {
  await until(() => client.got().includes('\r\n\r\n'));
  return client.got();
}
