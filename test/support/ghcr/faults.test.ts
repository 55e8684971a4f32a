// Faults: each spoils exactly what it says, on the requests that it matches, and ends when it is removed.
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import net from 'node:net';
import { describe, test } from 'node:test';
import { bytesOf, randomContent } from '../images.ts';
import { type Asking, ask, errorOf, type Got } from './ask.ts';
import {
  ACCEPT,
  BLOB,
  image,
  layer,
  layerBytes,
  MANIFEST,
  MIB,
  NAME,
  Pusher,
  pullLayer,
  slowly,
  startFilled,
  startOpen,
} from './fixture.ts';
import { answers, type FaultAction, type FaultMatch } from './ghcr.ts';

describe('faults', () => {
  const rows: [string, Partial<FaultMatch> & FaultAction, Partial<Got>, Asking?][] = [
    ['429 as ghcr.io sends it', { answer: answers.tooManyRequests() }, { status: 429, complete: true }],
    ['503 ServerBusy', { answer: answers.serverBusy }, { status: 503 }],
    ['HTML in place of a blob', { answer: answers.htmlPage }, { status: 200 }],
    ['no response', { refuse: true }, { status: undefined, code: 'ECONNRESET' }],
    ['a reset', { refuse: 'reset' }, { status: undefined, code: 'ECONNRESET' }],
    ['cut', { cutAfter: 1000 }, { body: layerBytes.subarray(0, 1000), complete: false, code: 'ECONNRESET' }],
    ['cut before the first byte', { cutAfter: 0 }, { status: 200, body: Buffer.alloc(0), complete: false }],
    ['cut by a reset', { cutAfter: 1000, reset: true }, { complete: false, code: 'ECONNRESET' }],
    ['short', { short: 1 }, { body: layerBytes.subarray(0, -1), complete: true }],
    ['short, chunked', { short: 1, chunked: true }, { body: layerBytes.subarray(0, -1), complete: true }],
    ['less than Content-Length', { shortClaimed: 10 }, { body: layerBytes.subarray(0, -10), complete: false }],
    [
      'more than the blob, chunked',
      { tooLong: 3, chunked: true },
      { body: Buffer.concat([layerBytes, Buffer.from('+++')]), complete: true },
    ],
    [
      'a wrong Content-Range',
      { contentRange: ({ start }, size) => `bytes ${start + 1}-${size - 1}/${size}` },
      { status: 206, body: layerBytes.subarray(99_990) },
      { headers: { range: 'bytes=99990-' } },
    ],
    [
      'an ignored Range',
      { ignoreRange: true, range: true },
      { status: 200, body: layerBytes },
      { headers: { range: 'bytes=99990-' } },
    ],
    ['slow', { throttle: 2_000_000 }, { body: layerBytes, complete: true }],
  ];
  for (const [name, action, expected, asking] of rows) {
    test(name, async () => {
      await using ghcr = await startFilled();
      const fault = ghcr.fault({ endpoint: 'blobhost', ...action });
      const got = await pullLayer(ghcr, asking);
      for (const key of Object.keys(expected) as (keyof Got)[]) assert.deepEqual(got[key], expected[key], key);
      assert.equal(fault.hits, 1);
      await ghcr.until({ endpoint: 'blobhost', state: got.complete ? 'finished' : 'aborted' });
      fault.remove();
      assert.deepEqual((await pullLayer(ghcr)).body, layerBytes);
      assert.equal(fault.hits, 1);
    });
  }

  test('corrupt: one byte of the content, in ranges too', async () => {
    await using ghcr = await startFilled();
    ghcr.fault({ endpoint: 'blobhost', corruptAt: 50_000 });
    const { body } = await pullLayer(ghcr);
    const wrong = [...body.keys()].filter(at => body[at] !== layerBytes[at]);
    assert.deepEqual(wrong, [50_000]);
    const part = await pullLayer(ghcr, { headers: { range: 'bytes=49999-50001' } });
    assert.notEqual(part.body[1], layerBytes[50_000]);
    assert.equal(part.body[2], layerBytes[50_001]);
  });

  test('more bytes on the wire than Content-Length', async () => {
    await using ghcr = await startFilled({ redirects: false });
    ghcr.fault({ endpoint: 'blob', tooLong: 7 });
    const socket = net.connect(Number(new URL(ghcr.url).port), '127.0.0.1');
    socket.end(`GET ${BLOB} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk);
    const wire = Buffer.concat(chunks);
    assert.match(wire.subarray(0, 500).toString('latin1'), /Content-Length: 100000\r\n/i);
    const body = wire.subarray(wire.indexOf('\r\n\r\n') + 4);
    assert.deepEqual(body, Buffer.concat([layerBytes, Buffer.from('+++++++')]));
  });

  test('a stall lasts until the fault is removed', async () => {
    await using ghcr = await startFilled();
    const fault = ghcr.fault({ endpoint: 'blobhost', stallAfter: 60_000 });
    const got = pullLayer(ghcr);
    await fault.reached();
    assert.equal(ghcr.bytes({ endpoint: 'blobhost' }), 60_000);
    assert.equal(ghcr.count({ endpoint: 'blobhost', state: 'open' }), 1);
    fault.remove();
    assert.deepEqual((await got).body, layerBytes);
  });

  test('gates and hangs delay the headers', async () => {
    await using ghcr = await startFilled();
    const { promise, resolve } = Promise.withResolvers<void>();
    const gated = ghcr.fault({ endpoint: 'blobhost', gate: promise, answer: answers.serverError(502) });
    const got = pullLayer(ghcr);
    await gated.reached();
    assert.equal(ghcr.count({ endpoint: 'blobhost', status: 502 }), 0);
    resolve();
    assert.equal((await got).status, 502);
    gated.remove();

    const hanging = ghcr.fault({ endpoint: 'blobhost', hang: true });
    const second = pullLayer(ghcr);
    await hanging.reached();
    hanging.remove();
    assert.deepEqual((await second).body, layerBytes);
  });

  test('a fault applies only to the requests that it matches, as often as it says', async () => {
    await using ghcr = await startFilled();
    const answer = answers.denied;
    const match = { endpoint: 'manifest', repository: NAME, reference: 'latest', method: 'GET' } as const;
    const fault = ghcr.fault({ ...match, skip: 1, times: 2, answer });
    const statusOf = async (path: string, method = 'GET') =>
      (await ask(ghcr.url + path, { method, headers: ACCEPT })).status;
    assert.equal(await statusOf(MANIFEST, 'HEAD'), 200);
    assert.equal(await statusOf(`/v2/${NAME}/manifests/${image.manifest.digest}`), 200);
    const statuses: unknown[] = [];
    for (let i = 0; i < 4; i++) statuses.push(await statusOf(MANIFEST));
    assert.deepEqual(statuses, [200, 403, 403, 200]);
    assert.equal(fault.hits, 2);
    ghcr.fault({ endpoint: 'ping', answer });
    ghcr.clearFaults();
    assert.equal(await statusOf('/v2/'), 200);
  });

  test('a client that disconnects ends a body of any size', async () => {
    await using ghcr = await startOpen({ redirects: false });
    const big = randomContent(64 * 1024 * 1024);
    ghcr.addBlob(NAME, big);
    await ask(`${ghcr.url}/v2/${NAME}/blobs/${big.digest}`, {
      onHeaders: response => response.once('data', () => response.destroy()),
    });
    await ghcr.until({ endpoint: 'blob', state: 'aborted' });
    assert.ok(ghcr.bytes() < big.sizeBytes);
    ghcr.resetCounters();
    assert.equal(ghcr.count(), 0);
  });
});

describe('faults of requests with bodies', () => {
  const upload = { endpoint: 'upload', method: 'PATCH' } as const;

  for (const reset of [undefined, true] as const) {
    test(`cut${reset ? ' by a reset' : ''} after some of the body`, async () => {
      await using ghcr = await startOpen();
      const pusher = new Pusher(ghcr);
      const location = await pusher.location();
      const fault = ghcr.fault({ ...upload, cutRequestAfter: 70_001, times: 1, ...(reset && { reset }) });
      const got = await pusher.patch(location, layerBytes);
      assert.equal(got.status, undefined);
      assert.match(got.code ?? '', /ECONNRESET|EPIPE/);
      await fault.reached();
      await ghcr.until({ ...upload, state: 'aborted' });
      assert.equal(ghcr.received(upload), 70_001);
      assert.equal((await pusher.ask('GET', location)).headers.range, '0-70000');
      const rest = await pusher.patch(location, layerBytes.subarray(70_001), '70001-99999');
      assert.equal(rest.status, 202);
      assert.equal((await pusher.finish(location, layer.digest)).status, 201);
    });
  }

  test('an upload that breaks off can be lost', async () => {
    await using ghcr = await startOpen({ brokenUpload: 'lost' });
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    ghcr.fault({ ...upload, cutRequestAfter: 0 });
    assert.equal((await pusher.patch(location, layerBytes)).status, undefined);
    assert.equal((await pusher.ask('GET', location)).status, 404);
  });

  test('a client that disconnects leaves what it sent', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    const fault = ghcr.fault({ ...upload, stallRequestAfter: 1000 });
    async function* disconnecting(): AsyncGenerator<Uint8Array> {
      yield layerBytes.subarray(0, 1000);
      await fault.reached();
      throw new Error('disconnects');
    }
    assert.equal((await pusher.patch(location, disconnecting())).status, undefined);
    fault.remove();
    await ghcr.until({ ...upload, state: 'aborted' });
    assert.equal((await pusher.ask('GET', location)).headers.range, '0-999');
  });

  test('a stop ends a stalled request', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    const fault = ghcr.fault({ ...upload, stallRequestAfter: 1000 });
    const got = pusher.patch(location, layerBytes);
    await fault.reached();
    await ghcr.stop('registry');
    assert.equal((await got).status, undefined);
    await ghcr.restart();
    assert.equal((await pusher.ask('GET', location)).headers.range, '0-999');
  });

  test('a stalled request body is not read until the fault is removed', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const big = randomContent(20 * MIB, 'stall');
    const location = await pusher.location();
    const fault = ghcr.fault({
      endpoint: 'upload',
      method: 'PUT',
      digest: big.digest,
      stallRequestAfter: MIB,
    });
    const got = pusher.finish(location, big.digest, slowly(bytesOf(big), MIB));
    await fault.reached();
    assert.equal(ghcr.received({ endpoint: 'upload' }), MIB);
    assert.equal(ghcr.count({ endpoint: 'upload', state: 'open' }), 1);
    fault.remove();
    assert.equal((await got).status, 201);
    assert.equal(ghcr.received({ upload: location.split('/').at(-1) ?? '' }), big.sizeBytes);
  });

  test('a response before the body, after it, or in place of the true one', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    const answer = answers.serverError();
    const stall = randomContent(8 * MIB, 'before');

    ghcr.fault({ ...upload, answer, times: 1 });
    // The body is sent only after the response has arrived.
    const { promise: headersHere, resolve } = Promise.withResolvers<IncomingMessage>();
    async function* waiting(): AsyncGenerator<Uint8Array> {
      yield Buffer.of(0);
      await headersHere;
      yield* stall.chunks();
    }
    const before = await pusher.ask('PATCH', location, { body: waiting(), onHeaders: resolve });
    assert.equal(before.status, 500);
    assert.equal((await pusher.ask('GET', location)).headers.range, '0-0');

    const after = ghcr.fault({ ...upload, answer, at: 'body', times: 1 });
    ghcr.resetCounters();
    assert.equal((await pusher.patch(location, layerBytes)).status, 500);
    assert.equal(after.hits, 1);
    assert.equal(ghcr.received(upload), layer.sizeBytes);
    assert.equal((await pusher.ask('GET', location)).headers.range, '0-0');

    ghcr.fault({ ...upload, answer, at: 'done', times: 1 });
    assert.equal((await pusher.patch(location, layerBytes)).status, 500);
    assert.equal((await pusher.ask('GET', location)).headers.range, '0-99999');

    const lost = { endpoint: 'upload', method: 'PUT', refuse: true, at: 'done', times: 1 } as const;
    ghcr.fault(lost);
    assert.equal((await pusher.finish(location, layer.digest)).status, undefined);
    assert.equal((await pusher.finish(location, layer.digest)).status, 404);
    assert.equal((await pusher.ask('HEAD', `blobs/${layer.digest}`)).status, 200);
  });

  test('gates before the body, after it, and before the response', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    for (const [at, received, seen] of [
      ['headers', 0, 404],
      ['body', layer.sizeBytes, 404],
      ['done', layer.sizeBytes, 200],
    ] as const) {
      const location = await pusher.location();
      ghcr.resetCounters();
      const { promise, resolve } = Promise.withResolvers<void>();
      const fault = ghcr.fault({ endpoint: 'upload', gate: promise, at });
      const got = pusher.finish(location, layer.digest, layerBytes);
      await fault.reached();
      assert.equal(ghcr.received(), received, at);
      assert.equal((await pusher.ask('HEAD', `blobs/${layer.digest}`)).status, seen, at);
      resolve();
      assert.equal((await got).status, 201);
      fault.remove();
      ghcr.deleteBlob(NAME, layer.digest);
    }
  });

  test('429 for pushes, and a manifest that is rejected once', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    ghcr.fault({ endpoint: 'upload-start', times: 1, answer: answers.tooManyRequests('1.5s', 2000) });
    const limited = await pusher.start();
    assert.equal(errorOf(limited).message, 'retry-after: 1.5s, allowed: 2000/minute');
    ghcr.fault({
      endpoint: 'manifest',
      method: 'PUT',
      reference: 'v1',
      times: 1,
      answer: answers.serverError(502),
    });
    assert.equal((await pusher.image(image, 'v1')).status, 502);
    assert.equal((await pusher.image(image, 'v1')).status, 201);
  });
});
