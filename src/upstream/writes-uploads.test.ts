// The requests of an upload: exactly what goes over the wire, and what comes of it at the fake ghcr.io.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import { bytesOf, makeImage, randomContent } from '../../test/support/images.ts';
import { type ScriptedReply, startScripted } from '../../test/support/scripted-server.ts';
import {
  APP,
  bytesToSend,
  connectTo,
  connectToGhcr,
  fails,
  never,
  scopesIn,
} from '../../test/support/upstream-clients.ts';
import { digestOf } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import type { WriteClient } from './writes.ts';

describe('the requests of an upload', () => {
  const bytes = bytesOf(randomContent(1_000_000, 'sent'));
  const digest = digestOf(bytes);

  test('begin with a POST without a body', async t => {
    const { origin, seen } = await startScripted(t, () => ({ status: 202, headers: { location: '/1' } }));
    await connectTo(t, origin).writes.startUpload(APP);
    const [{ method, url, headers } = assert.fail()] = seen;
    assert.equal(`${method} ${url.pathname}${url.search}`, 'POST /v2/owner/app/blobs/uploads/');
    assert.equal(headers['content-length'], '0');
    for (const absent of ['transfer-encoding', 'content-type']) assert.equal(headers[absent], undefined);
  });

  test('are one PATCH that says neither its length nor a range, for what may still be growing', async t => {
    const { origin, seen } = await startScripted(t, () => ({ status: 202 }));
    await connectTo(t, origin).writes.streamUpload(APP, new URL('/1?a=%2B&b', origin), bytesToSend(bytes).send, never);
    const [{ method, url, headers, body } = assert.fail(), ...others] = seen;
    assert.equal(`${method} ${url.pathname}${url.search}`, 'PATCH /1?a=%2B&b');
    assert.equal(headers['content-type'], 'application/octet-stream');
    assert.equal(headers['transfer-encoding'], 'chunked');
    for (const absent of ['content-length', 'content-range']) assert.equal(headers[absent], undefined);
    assert.deepEqual(body, bytes);
    assert.deepEqual(others, []);
  });

  test('end with a PUT of nothing, which adds the digest to the query that the upstream gave', async t => {
    const { origin, seen } = await startScripted(t, () => ({ status: 201 }));
    const { writes } = connectTo(t, origin);
    const location = new URL('/1?_state=a%2Bb%2Fc%3D%26d&x=1&x=2&flag&digest=old', origin);
    const before = location.href;
    await writes.finishUpload(APP, location, digest, never);
    assert.equal(location.href, before, 'the address may be needed again');
    const [{ method, url, headers, body } = assert.fail()] = seen;
    assert.equal(`${method} ${url.pathname}`, 'PUT /1');
    assert.deepEqual(
      [...url.searchParams],
      [
        ['_state', 'a+b/c=&d'],
        ['x', '1'],
        ['x', '2'],
        ['flag', ''],
        ['digest', digest],
      ],
    );
    assert.equal(headers['content-length'], '0');
    assert.equal(body.length, 0);
  });

  test('are one PUT of a length that it says, for what is complete', async t => {
    const { origin, seen } = await startScripted(t, () => ({ status: 201 }));
    const { send, asked } = bytesToSend(bytes);
    const whole = { sizeBytes: bytes.length, bytes: send };
    await connectTo(t, origin).writes.finishUpload(APP, new URL('/1', origin), digest, never, whole);
    const [{ method, url, headers, body } = assert.fail()] = seen;
    assert.equal(`${method} ${url.pathname}`, 'PUT /1');
    assert.equal(url.searchParams.get('digest'), digest);
    assert.equal(headers['content-length'], `${bytes.length}`);
    assert.equal(headers['transfer-encoding'], undefined);
    assert.equal(headers['content-type'], 'application/octet-stream');
    assert.deepEqual(body, bytes);
    assert.equal(asked.times, 1);
  });

  test('are one PUT of nothing, for what is nothing', async t => {
    const { origin, seen } = await startScripted(t, () => ({ status: 201 }));
    const whole = { sizeBytes: 0, bytes: bytesToSend(Buffer.alloc(0)).send };
    const nothing = digestOf(Buffer.alloc(0));
    await connectTo(t, origin).writes.finishUpload(APP, new URL('/1', origin), nothing, never, whole);
    assert.equal(seen[0]?.headers['content-length'], '0');
  });

  for (const status of [500, 503, undefined]) {
    const how = status ?? 'hung up on';
    test(`with bytes are not repeated when they are ${how}: the caller starts over`, async t => {
      const { origin, seen } = await startScripted(t, () => (status === undefined ? undefined : { status }));
      const { writes, clock } = connectTo(t, origin);
      const { send } = bytesToSend(bytes);
      const location = new URL('/1', origin);
      const unavailable = fails('UPSTREAM_UNAVAILABLE');
      await assert.rejects(writes.streamUpload(APP, location, send, never), unavailable);
      clock.advance(60_000);
      await assert.rejects(writes.finishUpload(APP, location, digest, never), unavailable);
      clock.advance(60_000);
      const whole = { sizeBytes: bytes.length, bytes: send };
      await assert.rejects(writes.finishUpload(APP, location, digest, never, whole), unavailable);
      assert.deepEqual(
        seen.map(({ method }) => method),
        ['PATCH', 'PUT', 'PUT'],
      );
      assert.deepEqual(clock.sleptMs, []);
    });

    test(`are sent again when the POST is ${how}`, async t => {
      let left = 2;
      const { origin, seen } = await startScripted(t, () => {
        if (left-- === 0) return { status: 202, headers: { location: '/1' } };
        return status === undefined ? undefined : { status };
      });
      const { writes, clock } = connectTo(t, origin);
      assert.equal((await writes.startUpload(APP)).pathname, '/1');
      assert.equal(seen.length, 3);
      assert.deepEqual(clock.sleptMs, [100, 200]);
    });
  }

  const rejections: [status: number, code: string, expected: ErrorCode][] = [
    [404, 'BLOB_UPLOAD_UNKNOWN', 'BLOB_UPLOAD_UNKNOWN'],
    [404, 'BLOB_UPLOAD_INVALID', 'BLOB_UPLOAD_INVALID'],
    [404, 'UNKNOWN', 'BLOB_UPLOAD_UNKNOWN'],
    [400, 'DIGEST_INVALID', 'DIGEST_INVALID'],
    [400, 'SIZE_INVALID', 'SIZE_INVALID'],
    [416, 'BLOB_UPLOAD_INVALID', 'BLOB_UPLOAD_INVALID'],
    [413, 'SIZE_INVALID', 'TOO_LARGE'],
    [405, 'UNSUPPORTED', 'UNSUPPORTED'],
    [403, 'DENIED', 'DENIED'],
    [401, 'UNAUTHORIZED', 'DENIED'],
    [307, 'X', 'UPSTREAM_INVALID'],
  ];
  for (const [status, code, expected] of rejections) {
    test(`that are rejected with ${status} ${code} fail with ${expected}`, async t => {
      const body = JSON.stringify({ errors: [{ code, message: 'why' }] });
      const { origin, seen } = await startScripted(t, () => ({
        status,
        body,
        headers: { location: '/elsewhere' },
      }));
      const { writes } = connectTo(t, origin);
      const location = new URL('/1', origin);
      const { send } = bytesToSend(Buffer.from('x'));
      const rejected = fails(expected, /why/);
      await assert.rejects(writes.streamUpload(APP, location, send, never), rejected);
      await assert.rejects(writes.finishUpload(APP, location, digest, never), rejected);
      assert.deepEqual([...new Set(seen.map(({ url }) => url.pathname))], ['/1']);
    });
  }

  test('end with their signal, whichever it is that is under way', async t => {
    let reached = Promise.withResolvers<void>();
    // Answers nothing but /v2/.
    const server = createServer(({ url }, response) => {
      if (url === '/v2/') response.end();
      else reached.resolve();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    const location = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/1`);
    const reason = new Error('all clients have disconnected');
    const { promise: more } = Promise.withResolvers<void>();
    async function* growing() {
      yield Buffer.from('x');
      await more;
    }
    const ways: ((writes: WriteClient, signal: AbortSignal) => Promise<unknown>)[] = [
      (writes, signal) => writes.streamUpload(APP, location, growing, signal),
      (writes, signal) => writes.finishUpload(APP, location, digest, signal),
      (writes, signal) => writes.finishUpload(APP, location, digest, signal, { sizeBytes: 2, bytes: growing }),
    ];
    for (const way of ways) {
      const stopping = new AbortController();
      reached = Promise.withResolvers();
      const { writes } = connectTo(t, location.origin);
      const working = way(writes, stopping.signal);
      working.catch(() => {});
      await reached.promise;
      stopping.abort(reason);
      await assert.rejects(working, reason);
    }
  });

  test('fail with the error of bytes that cannot be read, and do not blame the upstream', async t => {
    const { origin } = await startScripted(t, () => ({ status: 202, headers: { location: '/1' } }));
    const { writes } = connectTo(t, origin);
    const broken = new Error('our disk is broken');
    async function* bytes() {
      yield Buffer.from('x');
      throw broken;
    }
    for (let times = 0; times < 4; times++) {
      await assert.rejects(writes.streamUpload(APP, new URL('/1', origin), bytes, never), broken);
    }
    assert.equal((await writes.startUpload(APP)).pathname, '/1', 'the upstream is asked as before');
  });

  test('are cancelled by a DELETE, whatever comes of it', async t => {
    const replies: (ScriptedReply | undefined)[] = [{ status: 204 }, { status: 404 }, { status: 503 }, undefined];
    const { origin, seen } = await startScripted(t, () => replies.shift());
    const { writes } = connectTo(t, origin);
    for (let times = 0; times < 4; times++) await writes.cancelUpload(APP, new URL('/1?a=b', origin));
    assert.deepEqual(
      seen.map(({ method, url }) => `${method} ${url.pathname}${url.search}`),
      Array(4).fill('DELETE /1?a=b'),
    );
    await connectTo(t, 'http://127.0.0.1:1').writes.cancelUpload(APP, new URL('http://127.0.0.1:1/1'));
  });
});

test('what is pushed to the fake ghcr.io is there, streamed or whole, with a state in its address', async t => {
  for (const uploadLocation of ['relative', 'absolute'] as const) {
    const { ghcr, writes, reads } = await connectToGhcr(t);
    Object.assign(ghcr.switches, { uploadState: true, uploadLocation });
    const image = makeImage({ layers: [300_000] });
    const [layer = assert.fail()] = image.layers;
    const location = await writes.startUpload(APP);
    const last = await writes.streamUpload(APP, location, bytesToSend(bytesOf(layer)).send, never);
    assert.notEqual(last.href, location.href);
    await writes.finishUpload(APP, last, layer.digest, never);
    const whole = { sizeBytes: image.config.sizeBytes, bytes: bytesToSend(bytesOf(image.config)).send };
    await writes.finishUpload(APP, await writes.startUpload(APP), image.config.digest, never, whole);
    assert.deepEqual(await writes.putManifest(APP, { tag: 'v1' }, image.manifest), { notedSubject: false });
    assert.deepEqual((await reads.getManifest(APP, { tag: 'v1' })).bytes, image.manifest.bytes);
    for (const { digest } of [layer, image.config]) assert.equal(await writes.holdsBlob(APP, digest), true);
    // One token for all that is written.
    const tokens = ghcr.requests.filter(({ endpoint }) => endpoint === 'token');
    const scopes = tokens.map(({ path }) => scopesIn(path).join());
    assert.deepEqual(scopes.sort(), ['repository:owner/app:pull', 'repository:owner/app:pull,push']);
  }
});

describe('a token that has expired when a stream begins', () => {
  const bytes = bytesOf(randomContent(300_000, 'expired'));

  test('is renewed, and the bytes are asked for again from the first on', async t => {
    const { ghcr, writes } = await connectToGhcr(t);
    const location = await writes.startUpload(APP);
    ghcr.expireTokens();
    const { send, asked } = bytesToSend(bytes);
    const last = await writes.streamUpload(APP, location, send, never);
    await writes.finishUpload(APP, last, digestOf(bytes), never);
    assert.equal(asked.times, 2);
    assert.equal(await writes.holdsBlob(APP, digestOf(bytes)), true);
  });

  test('fails it when its bytes can be had only once', async t => {
    const { ghcr, writes } = await connectToGhcr(t);
    const location = await writes.startUpload(APP);
    ghcr.expireTokens();
    const { send, asked } = bytesToSend(bytes);
    await assert.rejects(writes.streamUpload(APP, location, send, never, true), RegistryError);
    assert.equal(asked.times, 1);
    assert.equal(ghcr.count({ endpoint: 'upload', method: 'PATCH' }), 1);
  });
});
