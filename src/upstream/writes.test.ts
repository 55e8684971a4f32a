// Pushing and deleting, against a scripted server where it matters what exactly goes over the wire, and against
// the stand-in where it matters what comes of it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { errorAnswer } from '../../test/support/ghcr/faults.ts';
import { type Answer, answers, type Ghcr, startGhcr } from '../../test/support/ghcr/ghcr.ts';
import { bytesOf, contentOf, makeImage, randomContent } from '../../test/support/images.ts';
import { LOOPBACK_TLS } from '../../test/support/tls.ts';
import { credentialsOf, type OwnedCredential } from '../credentials/credential.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import type { Repository } from '../oci/reference.ts';
import { UpstreamClient } from './client.ts';
import { Packages } from './github/packages.ts';
import { Requests } from './requests.ts';
import { WriteClient } from './writes.ts';

const APP: Repository = { upstream: 'ghcr.io', name: 'owner/app' };
const TIMEOUTS = { connectMs: 2_000, headersMs: 2_000, stallMs: 2_000, uploadMs: 2_000 };
const CREDENTIAL: OwnedCredential = {
  name: 'ci',
  owner: '*',
  read: async () => ({ username: 'octocat', secret: 'ghp_secret' }),
};
const never = new AbortController().signal;

interface Seen {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

type Reply = { status: number; headers?: Record<string, string>; body?: string };

/** A server that notes each request, /v2/ alone excepted, and answers it by the test's word, or hangs up. */
async function serverOf(
  t: TestContext,
  reply: (seen: Seen) => Reply | undefined,
  { tls = false, challenge }: { tls?: boolean; challenge?: string } = {},
) {
  const seen: Seen[] = [];
  const listener = async (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '', origin);
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return;
    }
    if (url.pathname === '/v2/') {
      return response
        .writeHead(challenge ? 401 : 200, challenge ? { 'www-authenticate': challenge } : {})
        .end();
    }
    const one = { method: request.method ?? '', url, headers: request.headers, body: Buffer.concat(chunks) };
    seen.push(one);
    const answer = reply(one);
    if (answer === undefined) return response.destroy();
    response.writeHead(answer.status, answer.headers).end(answer.body);
  };
  const server = tls ? createTlsServer(LOOPBACK_TLS, listener) : createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const origin = `${tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { origin, seen };
}

function connect(
  t: TestContext,
  url: string,
  options: { name?: string; credentials?: OwnedCredential[]; api?: string; clock?: TestClock } = {},
) {
  const { name = 'ghcr.io', clock = new TestClock() } = options;
  const credentials = credentialsOf(options.credentials ?? []);
  const requests = new Requests({
    ...{ name, url: new URL(url), offline: false, realms: [], credentials, clock, timeouts: TIMEOUTS },
    ca: LOOPBACK_TLS.cert,
    random: () => 0.5,
    onRefused: () => {},
  });
  t.after(() => requests.close());
  const api = options.api && new URL(options.api);
  const packages = api ? new Packages({ api, credentials, dialer: requests.dialer, clock }) : undefined;
  const reads = new UpstreamClient(requests);
  return { writes: new WriteClient(requests, reads, packages), reads, clock };
}

/** Time passes while somebody sleeps. */
class PassingClock extends TestClock {
  override async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.advance(ms);
    await super.sleep(ms, signal);
  }
}

const fails =
  (code: ErrorCode, said: RegExp = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof RegistryError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, said);
    return true;
  };

/** Bytes to be sent, in chunks, and how often they were asked for. */
function bytesToSend(bytes: Uint8Array, chunkBytes = 100_000) {
  const asked = { times: 0 };
  async function* send() {
    asked.times++;
    for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
  }
  return { send, asked };
}

describe('where the bytes of an upload go', () => {
  // `%` stands for the host and port of the upstream.
  const overTls: [what: string, location: string, url: string | RegExp][] = [
    ['a path', '/v2/owner/app/blobs/upload/1', 'https://%/v2/owner/app/blobs/upload/1'],
    ['a path beside the request', '1?state=2', 'https://%/v2/owner/app/blobs/uploads/1?state=2'],
    ['an address of its own', 'https://%/upload/1', 'https://%/upload/1'],
    ['an address without a scheme', '//%/upload/1', 'https://%/upload/1'],
    ['its own address on plain HTTP', 'http://%/upload/1?state=2', 'https://%/upload/1?state=2'],
    ['another host', 'https://uploads.example/1?state=2', 'https://uploads.example/1?state=2'],
    ['another port', 'https://127.0.0.1:9/1', 'https://127.0.0.1:9/1'],
    ['another host without a scheme', '//uploads.example/1', 'https://uploads.example/1'],
    [
      'another host on plain HTTP',
      'http://uploads.example/1',
      /to http:\/\/uploads\.example, which is not safe/,
    ],
    ['another port on plain HTTP', 'http://127.0.0.1:9/1', /to http:\/\/127\.0\.0\.1:9, which is not safe/],
    ['another scheme', 'ftp://uploads.example/1', /which is not safe/],
    ['a script', 'javascript:alert(1)', /which is not safe/],
    ['a file', 'file:///etc/passwd', /which is not safe/],
    ['nothing', '', /does not say where an upload to ghcr\.io\/owner\/app should go/],
    ['what is no address', 'https://[', /does not say where/],
  ];
  const plain: typeof overTls = [
    ['a path', '/upload/1', 'http://%/upload/1'],
    ['its own address over TLS', 'https://%/upload/1', 'http://%/upload/1'],
    ['another host over TLS', 'https://uploads.example/1', 'https://uploads.example/1'],
    ['another host on plain HTTP', 'http://uploads.example/1', /which is not safe/],
  ];
  for (const [tls, table] of [
    [true, overTls],
    [false, plain],
  ] as const) {
    for (const [what, location, expected] of table) {
      test(`${what}, says an upstream ${tls ? 'over TLS' : 'on plain HTTP'} by ${JSON.stringify(location)}`, async t => {
        const { origin } = await serverOf(
          t,
          ({ url }) => ({ status: 202, headers: { location: location.replace('%', url.host) } }),
          { tls },
        );
        const starting = connect(t, origin).writes.startUpload(APP);
        if (expected instanceof RegExp) await assert.rejects(starting, fails('UPSTREAM_INVALID', expected));
        else assert.equal((await starting).href, expected.replace('%', new URL(origin).host));
      });
    }
  }

  test('nowhere, if an upstream says nothing of it', async t => {
    const { origin } = await serverOf(t, () => ({ status: 202 }));
    await assert.rejects(
      connect(t, origin).writes.startUpload(APP),
      fails('UPSTREAM_INVALID', /does not say where/),
    );
  });

  test('after a stream, where its answer says by the same rules, else where they went', async t => {
    let location: string | undefined;
    const { origin } = await serverOf(t, () => ({ status: 202, headers: location ? { location } : {} }));
    const { writes } = connect(t, origin);
    const stream = () =>
      writes.streamUpload(APP, new URL('/first?state=1', origin), bytesToSend(Buffer.from('x')).send, never);
    assert.equal((await stream()).href, `${origin}/first?state=1`);
    location = 'second?state=2';
    assert.equal((await stream()).href, `${origin}/second?state=2`);
    location = origin.replace('http:', 'https:');
    assert.equal((await stream()).href, `${origin}/`);
    location = 'http://uploads.example/';
    await assert.rejects(stream(), fails('UPSTREAM_INVALID', /not safe/));
  });

  test('to another host without our Authorization, which the upstream itself gets', async t => {
    const other = await serverOf(t, () => ({ status: 201 }), { tls: true });
    const upstream = await serverOf(
      t,
      () => ({ status: 202, headers: { location: `${other.origin}/1?sig=2` } }),
      {
        challenge: 'Basic realm="r"',
      },
    );
    const { writes } = connect(t, upstream.origin, { credentials: [CREDENTIAL] });
    const location = await writes.startUpload(APP);
    const { send } = bytesToSend(Buffer.from('bytes'));
    assert.equal((await writes.streamUpload(APP, location, send, never)).href, location.href);
    await writes.finishUpload(APP, location, digestOf(Buffer.from('bytes')), never);
    await writes.finishUpload(APP, location, digestOf(Buffer.from('bytes')), never, {
      sizeBytes: 5,
      bytes: send,
    });
    await writes.cancelUpload(APP, location);
    assert.deepEqual(
      other.seen.map(({ method, headers }) => [method, headers.authorization]),
      [
        ['PATCH', undefined],
        ['PUT', undefined],
        ['PUT', undefined],
        ['DELETE', undefined],
      ],
    );
    assert.deepEqual(
      upstream.seen.map(({ method, headers }) => [method, headers.authorization?.split(' ')[0]]),
      [['POST', 'Basic']],
    );
  });

  test('to another host, which does not speak for the upstream when it refuses them', async t => {
    const other = await serverOf(t, () => ({ status: 403, body: 'expired' }), { tls: true });
    const upstream = await serverOf(t, () => ({ status: 202, headers: { location: `${other.origin}/1` } }));
    const { writes } = connect(t, upstream.origin);
    const location = await writes.startUpload(APP);
    const { send } = bytesToSend(Buffer.from('bytes'));
    const said = new RegExp(`^${location.host} does not serve .*403 expired$`);
    await assert.rejects(
      writes.streamUpload(APP, location, send, never),
      fails('UPSTREAM_UNAVAILABLE', said),
    );
    assert.equal(other.seen.length, 1);
  });
});

describe('the requests of an upload', () => {
  const bytes = bytesOf(randomContent(1_000_000, 'sent'));
  const digest = digestOf(bytes);

  test('begin with a POST without a body', async t => {
    const { origin, seen } = await serverOf(t, () => ({ status: 202, headers: { location: '/1' } }));
    await connect(t, origin).writes.startUpload(APP);
    const [{ method, url, headers } = assert.fail()] = seen;
    assert.equal(`${method} ${url.pathname}${url.search}`, 'POST /v2/owner/app/blobs/uploads/');
    assert.equal(headers['content-length'], '0');
    for (const absent of ['transfer-encoding', 'content-type']) assert.equal(headers[absent], undefined);
  });

  test('are one PATCH that says neither its length nor a range, for what may still be growing', async t => {
    const { origin, seen } = await serverOf(t, () => ({ status: 202 }));
    await connect(t, origin).writes.streamUpload(
      APP,
      new URL('/1?a=%2B&b', origin),
      bytesToSend(bytes).send,
      never,
    );
    const [{ method, url, headers, body } = assert.fail(), ...others] = seen;
    assert.equal(`${method} ${url.pathname}${url.search}`, 'PATCH /1?a=%2B&b');
    assert.equal(headers['content-type'], 'application/octet-stream');
    assert.equal(headers['transfer-encoding'], 'chunked');
    for (const absent of ['content-length', 'content-range']) assert.equal(headers[absent], undefined);
    assert.deepEqual(body, bytes);
    assert.deepEqual(others, []);
  });

  test('end with a PUT of nothing, which adds the digest to the query that the upstream gave', async t => {
    const { origin, seen } = await serverOf(t, () => ({ status: 201 }));
    const { writes } = connect(t, origin);
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

  test('are one PUT of a length that it says, for what is there as a whole', async t => {
    const { origin, seen } = await serverOf(t, () => ({ status: 201 }));
    const { send, asked } = bytesToSend(bytes);
    const whole = { sizeBytes: bytes.length, bytes: send };
    await connect(t, origin).writes.finishUpload(APP, new URL('/1', origin), digest, never, whole);
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
    const { origin, seen } = await serverOf(t, () => ({ status: 201 }));
    const whole = { sizeBytes: 0, bytes: bytesToSend(Buffer.alloc(0)).send };
    const nothing = digestOf(Buffer.alloc(0));
    await connect(t, origin).writes.finishUpload(APP, new URL('/1', origin), nothing, never, whole);
    assert.equal(seen[0]?.headers['content-length'], '0');
  });

  for (const status of [500, 503, undefined]) {
    const how = status ?? 'hung up on';
    test(`with bytes are not repeated when they are ${how}: who has the bytes begins anew`, async t => {
      const { origin, seen } = await serverOf(t, () => (status === undefined ? undefined : { status }));
      const { writes, clock } = connect(t, origin);
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

    test(`begin anew when the POST is ${how}`, async t => {
      let left = 2;
      const { origin, seen } = await serverOf(t, () => {
        if (left-- === 0) return { status: 202, headers: { location: '/1' } };
        return status === undefined ? undefined : { status };
      });
      const { writes, clock } = connect(t, origin);
      assert.equal((await writes.startUpload(APP)).pathname, '/1');
      assert.equal(seen.length, 3);
      assert.deepEqual(clock.sleptMs, [100, 200]);
    });
  }

  const refusals: [status: number, code: string, expected: ErrorCode][] = [
    [404, 'BLOB_UPLOAD_UNKNOWN', 'BLOB_UPLOAD_UNKNOWN'],
    [404, 'BLOB_UPLOAD_INVALID', 'BLOB_UPLOAD_INVALID'],
    [404, 'UNKNOWN', 'BLOB_UPLOAD_UNKNOWN'],
    [400, 'DIGEST_INVALID', 'DIGEST_INVALID'],
    [400, 'SIZE_INVALID', 'SIZE_INVALID'],
    [416, 'BLOB_UPLOAD_INVALID', 'BLOB_UPLOAD_INVALID'],
    [413, 'SIZE_INVALID', 'TOO_LARGE'],
    [405, 'UNSUPPORTED', 'UNSUPPORTED'],
    [403, 'DENIED', 'DENIED'],
    [401, 'UNAUTHORIZED', 'UNAUTHORIZED'],
    [307, 'X', 'UPSTREAM_INVALID'],
  ];
  for (const [status, code, expected] of refusals) {
    test(`that are refused with ${status} ${code} fail with ${expected}`, async t => {
      const body = JSON.stringify({ errors: [{ code, message: 'why' }] });
      const { origin, seen } = await serverOf(t, () => ({
        status,
        body,
        headers: { location: '/elsewhere' },
      }));
      const { writes } = connect(t, origin);
      const location = new URL('/1', origin);
      const { send } = bytesToSend(Buffer.from('x'));
      const refused = fails(expected, /why/);
      await assert.rejects(writes.streamUpload(APP, location, send, never), refused);
      await assert.rejects(writes.finishUpload(APP, location, digest, never), refused);
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
    const reason = new Error('all have left');
    const { promise: more } = Promise.withResolvers<void>();
    async function* growing() {
      yield Buffer.from('x');
      await more;
    }
    const ways: ((writes: WriteClient, signal: AbortSignal) => Promise<unknown>)[] = [
      (writes, signal) => writes.streamUpload(APP, location, growing, signal),
      (writes, signal) => writes.finishUpload(APP, location, digest, signal),
      (writes, signal) =>
        writes.finishUpload(APP, location, digest, signal, { sizeBytes: 2, bytes: growing }),
    ];
    for (const way of ways) {
      const leaving = new AbortController();
      reached = Promise.withResolvers();
      const { writes } = connect(t, location.origin);
      const working = way(writes, leaving.signal);
      working.catch(() => {});
      await reached.promise;
      leaving.abort(reason);
      await assert.rejects(working, reason);
    }
  });

  test('suffer from bytes that cannot be read, and do not blame the upstream for it', async t => {
    const { origin } = await serverOf(t, () => ({ status: 202, headers: { location: '/1' } }));
    const { writes } = connect(t, origin);
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
    const replies: (Reply | undefined)[] = [{ status: 204 }, { status: 404 }, { status: 503 }, undefined];
    const { origin, seen } = await serverOf(t, () => replies.shift());
    const { writes } = connect(t, origin);
    for (let times = 0; times < 4; times++) await writes.cancelUpload(APP, new URL('/1?a=b', origin));
    assert.deepEqual(
      seen.map(({ method, url }) => `${method} ${url.pathname}${url.search}`),
      Array(4).fill('DELETE /1?a=b'),
    );
    await connect(t, 'http://127.0.0.1:1').writes.cancelUpload(APP, new URL('http://127.0.0.1:1/1'));
  });

  test('have 32 places', async t => {
    const { writes } = connect(t, 'http://127.0.0.1:1');
    const leave = await Promise.all(Array.from({ length: 32 }, () => writes.acquireUpload(APP, never)));
    let hasPlace = false;
    const waiting = writes.acquireUpload(APP, never).then(() => {
      hasPlace = true;
    });
    await new Promise(resolve => setImmediate(resolve));
    assert.equal(hasPlace, false);
    leave[0]?.();
    await waiting;
  });
});

describe('a mount', () => {
  const blob = contentOf('blob');
  const from: Repository = { upstream: 'ghcr.io', name: 'owner/from' };

  test('that is granted is one request', async t => {
    const { origin, seen } = await serverOf(t, () => ({ status: 201, headers: { location: '/v2/x' } }));
    assert.equal(await connect(t, origin).writes.mountBlob(APP, blob.digest, from), true);
    const [{ method, url, headers } = assert.fail(), ...others] = seen;
    assert.equal(`${method} ${url.pathname}`, 'POST /v2/owner/app/blobs/uploads/');
    assert.deepEqual(
      [...url.searchParams],
      [
        ['mount', blob.digest],
        ['from', 'owner/from'],
      ],
    );
    assert.equal(headers['content-length'], '0');
    assert.deepEqual(others, []);
  });

  test('that is not granted leaves no upload behind', async t => {
    const cancelled = Promise.withResolvers<Seen>();
    const { origin } = await serverOf(t, seen => {
      if (seen.method === 'DELETE') cancelled.resolve(seen);
      return { status: 202, headers: { location: '/v2/owner/app/blobs/upload/1?state=2' } };
    });
    assert.equal(await connect(t, origin).writes.mountBlob(APP, blob.digest, from), false);
    const { url } = await cancelled.promise;
    assert.equal(url.pathname + url.search, '/v2/owner/app/blobs/upload/1?state=2');
  });

  test('that is not granted, nor answered with an upload, deletes nothing', async t => {
    const { origin, seen } = await serverOf(t, () => ({ status: 202 }));
    const { writes } = connect(t, origin);
    assert.equal(await writes.mountBlob(APP, blob.digest, from), false);
    await writes.holdsBlob(APP, blob.digest);
    assert.deepEqual(
      seen.map(({ method }) => method),
      ['POST', 'HEAD'],
    );
  });

  test('that is refused throws, and is not tried as an upload', async t => {
    const { origin } = await serverOf(t, () => ({ status: 403 }));
    await assert.rejects(connect(t, origin).writes.mountBlob(APP, blob.digest, from), fails('DENIED'));
  });

  test('asks the stand-in for the right to both repositories, and brings the blob there', async t => {
    const { ghcr, writes } = await standIn(t);
    ghcr.addPackage('owner/from', { visibility: 'private' });
    ghcr.addBlob('owner/from', blob);
    assert.equal(await writes.mountBlob(APP, blob.digest, from), true);
    const [token] = ghcr.requests.filter(({ endpoint }) => endpoint === 'token');
    assert.deepEqual(scopesOf(token?.path), ['repository:owner/app:pull,push', 'repository:owner/from:pull']);
    assert.equal(await writes.holdsBlob(APP, blob.digest), true);
    assert.equal(await writes.mountBlob(APP, contentOf('another').digest, from), false);
    await ghcr.until({ endpoint: 'upload', method: 'DELETE', status: 204 });
  });
});

describe('whether a blob is there', () => {
  const { digest } = contentOf('blob');
  const table: [what: string, reply: Reply, holds: boolean][] = [
    ['is said by a 200', { status: 200 }, true],
    ['is said by a redirect, which is not followed', { status: 307, headers: { location: '/x' } }, true],
    ['is denied by a 404', { status: 404 }, false],
    ['is not told to who is not allowed in', { status: 403 }, false],
    ['is not told to who is not known', { status: 401 }, false],
  ];
  for (const [what, reply, holds] of table) {
    test(what, async t => {
      const { origin, seen } = await serverOf(t, () => reply);
      assert.equal(await connect(t, origin).writes.holdsBlob(APP, digest), holds);
      assert.deepEqual(
        new Set(seen.map(({ method, url }) => `${method} ${url.pathname}`)),
        new Set([`HEAD /v2/owner/app/blobs/${digest}`]),
      );
    });
  }

  test('is not known when the upstream is away', async t => {
    const { origin, seen } = await serverOf(t, () => ({ status: 503 }));
    await assert.rejects(connect(t, origin).writes.holdsBlob(APP, digest), fails('UPSTREAM_UNAVAILABLE'));
    assert.equal(seen.length, 3);
  });
});

describe('a manifest that is pushed', () => {
  const { manifest } = makeImage({ layers: [] });

  for (const [reference, last] of [
    [{ tag: 'v1' }, 'v1'],
    [{ digest: manifest.digest }, manifest.digest],
  ] as const) {
    test(`goes as it is under its ${reference.tag ? 'tag' : 'digest'}`, async t => {
      const { origin, seen } = await serverOf(t, () => ({ status: 201 }));
      const { writes } = connect(t, origin);
      assert.deepEqual(await writes.putManifest(APP, reference, manifest), { notedSubject: false });
      const [{ method, url, headers, body } = assert.fail()] = seen;
      assert.equal(`${method} ${url.pathname}`, `PUT /v2/owner/app/manifests/${last}`);
      assert.equal(headers['content-type'], manifest.mediaType);
      assert.equal(headers['content-length'], `${manifest.bytes.length}`);
      assert.deepEqual(body, manifest.bytes);
    });
  }

  test('comes back with whether its subject was noted', async t => {
    const { origin } = await serverOf(t, () => ({
      status: 201,
      headers: { 'oci-subject': manifest.digest },
    }));
    assert.deepEqual(await connect(t, origin).writes.putManifest(APP, { tag: 'v1' }, manifest), {
      notedSubject: true,
    });
  });

  test('goes again, whole, when the upstream failed', async t => {
    const replies: (Reply | undefined)[] = [{ status: 503 }, undefined, { status: 201 }];
    const { origin, seen } = await serverOf(t, () => replies.shift());
    await connect(t, origin).writes.putManifest(APP, { tag: 'v1' }, manifest);
    assert.deepEqual(
      seen.map(({ body }) => body),
      Array(3).fill(manifest.bytes),
    );
  });

  const refusals: [status: number, code: string, expected: ErrorCode][] = [
    [400, 'MANIFEST_INVALID', 'MANIFEST_INVALID'],
    [400, 'MANIFEST_UNVERIFIED', 'MANIFEST_INVALID'],
    [400, 'TAG_INVALID', 'TAG_INVALID'],
    [404, 'MANIFEST_BLOB_UNKNOWN', 'MANIFEST_BLOB_UNKNOWN'],
    [404, 'NAME_UNKNOWN', 'NAME_UNKNOWN'],
    [404, 'BLOB_UNKNOWN', 'NAME_UNKNOWN'],
    [413, 'MANIFEST_INVALID', 'TOO_LARGE'],
  ];
  for (const [status, code, expected] of refusals) {
    test(`and refused with ${status} ${code} fails with ${expected}, at once`, async t => {
      const body = JSON.stringify({ errors: [{ code, message: 'why' }] });
      const { origin, seen } = await serverOf(t, () => ({ status, body }));
      const putting = connect(t, origin).writes.putManifest(APP, { tag: 'v1' }, manifest);
      await assert.rejects(putting, fails(expected, /ghcr\.io\/owner\/app:v1.*why/));
      assert.equal(seen.length, 1);
    });
  }
});

const USER = {
  username: 'octocat',
  token: 'ghp_secret',
  scopes: ['write:packages', 'delete:packages'],
  packages: ['owner/*'],
};

/** The stand-in, with somebody who may do anything, and who speaks to it. */
async function standIn(t: TestContext, options: { withApi?: boolean; allowDelete?: boolean } = {}) {
  const clock = new PassingClock();
  const { allowDelete = false } = options;
  const ghcr: Ghcr = await startGhcr({ now: clock.now, switches: { allowDelete } });
  t.after(() => ghcr.close());
  ghcr.addUser(USER);
  const api = options.withApi ? { api: ghcr.apiUrl } : {};
  return { ghcr, ...connect(t, ghcr.url, { credentials: [CREDENTIAL], clock, ...api }) };
}

function scopesOf(path: string | undefined): string[] {
  return new URL(path ?? assert.fail('no such request'), 'http://x').searchParams.getAll('scope');
}

function tagsIn(ghcr: Ghcr): Record<string, Digest> {
  return Object.fromEntries(ghcr.packages().find(({ name }) => name === APP.name)?.tags ?? []);
}

function manifestsIn(ghcr: Ghcr): string[] {
  return [
    ...(ghcr
      .packages()
      .find(({ name }) => name === APP.name)
      ?.manifests.keys() ?? []),
  ];
}

test('what is pushed to the stand-in is there, streamed or whole, with a state in its address', async t => {
  for (const uploadLocation of ['relative', 'absolute'] as const) {
    const { ghcr, writes, reads } = await standIn(t);
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
    const scopes = tokens.map(({ path }) => scopesOf(path).join());
    assert.deepEqual(scopes.sort(), ['repository:owner/app:pull', 'repository:owner/app:pull,push']);
  }
});

describe('a token that has expired when a stream begins', () => {
  const bytes = bytesOf(randomContent(300_000, 'expired'));

  test('is renewed, and the bytes are asked for again from the first on', async t => {
    const { ghcr, writes } = await standIn(t);
    const location = await writes.startUpload(APP);
    ghcr.expireTokens();
    const { send, asked } = bytesToSend(bytes);
    const last = await writes.streamUpload(APP, location, send, never);
    await writes.finishUpload(APP, last, digestOf(bytes), never);
    assert.equal(asked.times, 2);
    assert.equal(await writes.holdsBlob(APP, digestOf(bytes)), true);
  });

  test('fails it when its bytes can be had only once', async t => {
    const { ghcr, writes } = await standIn(t);
    const location = await writes.startUpload(APP);
    ghcr.expireTokens();
    const { send, asked } = bytesToSend(bytes);
    await assert.rejects(writes.streamUpload(APP, location, send, never, true), RegistryError);
    assert.equal(asked.times, 1);
    assert.equal(ghcr.count({ endpoint: 'upload', method: 'PATCH' }), 1);
  });
});

describe('a delete', () => {
  const [one, two] = [makeImage({ layers: [], seed: 'one' }), makeImage({ layers: [], seed: 'two' })];
  const push = (ghcr: Ghcr) => {
    ghcr.push(APP.name, one, 'v1', 'latest');
    ghcr.push(APP.name, two, 'v2');
  };

  test('of a digest takes the manifest with its tags, and asks for the right to it', async t => {
    const { ghcr, writes } = await standIn(t, { allowDelete: true });
    push(ghcr);
    assert.equal(await writes.deleteManifest(APP, { digest: one.manifest.digest }), 'manifest');
    assert.deepEqual(tagsIn(ghcr), { v2: two.manifest.digest });
    const [token] = ghcr.requests.filter(({ endpoint }) => endpoint === 'token');
    assert.deepEqual(scopesOf(token?.path), ['repository:owner/app:*']);
    assert.equal(ghcr.count({ endpoint: 'api' }), 0);
  });

  test('of a tag takes the tag alone where the registry does that', async t => {
    const { ghcr, writes } = await standIn(t, { allowDelete: true });
    push(ghcr);
    assert.equal(await writes.deleteManifest(APP, { tag: 'v1' }), 'tag');
    assert.deepEqual(tagsIn(ghcr), { latest: one.manifest.digest, v2: two.manifest.digest });
    assert.equal(ghcr.count({ endpoint: 'manifest' }), 1);
  });

  test('of a blob', async t => {
    const { ghcr, writes } = await standIn(t, { allowDelete: true });
    push(ghcr);
    const { digest } = one.config;
    await writes.deleteBlob(APP, digest);
    assert.equal(await writes.holdsBlob(APP, digest), false);
    await assert.rejects(writes.deleteBlob(APP, digest), fails('BLOB_UNKNOWN'));
  });

  test('of what is not there says so', async t => {
    const { writes } = await standIn(t, { allowDelete: true });
    const unknown = fails('MANIFEST_UNKNOWN');
    await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), unknown);
    await assert.rejects(writes.deleteManifest(APP, { digest: one.manifest.digest }), unknown);
  });

  test("goes to GitHub's package interface where the registry answers 405", async t => {
    const { ghcr, writes } = await standIn(t, { withApi: true });
    push(ghcr);
    assert.equal(await writes.deleteManifest(APP, { digest: one.manifest.digest }), 'manifest');
    assert.deepEqual(manifestsIn(ghcr), [two.manifest.digest]);
    push(ghcr);
    assert.equal(await writes.deleteManifest(APP, { tag: 'v2' }), 'manifest');
    assert.deepEqual(manifestsIn(ghcr), [one.manifest.digest]);
    assert.equal(ghcr.count({ endpoint: 'manifest', method: 'PUT' }), 0, 'no tag was moved');
  });

  test('of a tag that shares its version is not done there', async t => {
    const { ghcr, writes } = await standIn(t, { withApi: true });
    push(ghcr);
    await assert.rejects(
      writes.deleteManifest(APP, { tag: 'v1' }),
      fails('UNSUPPORTED', /latest would go too/),
    );
    assert.deepEqual(Object.keys(tagsIn(ghcr)), ['v1', 'latest', 'v2']);
  });

  test('that no interface for packages is there for is UNSUPPORTED', async t => {
    const { ghcr, writes } = await standIn(t);
    push(ghcr);
    await assert.rejects(writes.deleteManifest(APP, { digest: one.manifest.digest }), fails('UNSUPPORTED'));
    await assert.rejects(writes.deleteBlob(APP, one.config.digest), fails('UNSUPPORTED'));
    assert.equal(manifestsIn(ghcr).length, 2);
  });
});

describe('the delete of a tag at a registry that deletes by digest alone', () => {
  const image = makeImage({ layers: [], seed: 'tagged' });

  async function byDigestAlone(t: TestContext, answer: Answer) {
    const stand = await standIn(t, { allowDelete: true });
    stand.ghcr.push(APP.name, image, 'v1', 'latest');
    stand.ghcr.fault({ endpoint: 'manifest', method: 'DELETE', reference: 'v1', answer });
    return stand;
  }

  for (const [how, answer] of [
    ['a 405', answers.unsupported],
    ['DIGEST_INVALID', answers.digestInvalid],
    ['TAG_INVALID', errorAnswer(400, 'TAG_INVALID', 'no')],
    ['a 400 without a code', { status: 400 }],
  ] as const) {
    test(`takes the tag alone, when it is refused with ${how}`, async t => {
      const { ghcr, writes, reads } = await byDigestAlone(t, answer);
      assert.equal(await writes.deleteManifest(APP, { tag: 'v1' }), 'tag');
      assert.deepEqual(tagsIn(ghcr), { latest: image.manifest.digest });
      assert.deepEqual(manifestsIn(ghcr), [image.manifest.digest], 'what the tag was moved to is gone too');
      assert.deepEqual((await reads.getManifest(APP, { tag: 'latest' })).bytes, image.manifest.bytes);
    });
  }

  test('works twice, though the blob that it takes is then there', async t => {
    const { ghcr, writes } = await byDigestAlone(t, answers.unsupported);
    ghcr.setTag(APP.name, 'v2', image.manifest.digest);
    ghcr.fault({ endpoint: 'manifest', method: 'DELETE', reference: 'v2', answer: answers.unsupported });
    for (const tag of ['v1', 'v2']) assert.equal(await writes.deleteManifest(APP, { tag }), 'tag');
    assert.deepEqual(tagsIn(ghcr), { latest: image.manifest.digest });
    assert.equal(ghcr.count({ endpoint: 'upload', method: 'PUT' }), 1);
  });

  test('of an unknown tag says so, and makes nothing', async t => {
    const { ghcr, writes } = await byDigestAlone(t, answers.unsupported);
    ghcr.deleteTag(APP.name, 'v1');
    await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), fails('MANIFEST_UNKNOWN'));
    assert.deepEqual(tagsIn(ghcr), { latest: image.manifest.digest });
    assert.equal(ghcr.count({ method: 'PUT' }), 0);
  });

  for (const [how, answer, code] of [
    ['refused', answers.unsupported, 'UNSUPPORTED'],
    ['denied', answers.denied, 'DENIED'],
    ['answered 503', answers.serverError(503), 'UPSTREAM_UNAVAILABLE'],
  ] as const) {
    test(`puts the tag back where it was when the manifest that it was moved to is not deleted (${how})`, async t => {
      const { ghcr, writes } = await byDigestAlone(t, answers.unsupported);
      ghcr.fault({ endpoint: 'manifest', method: 'DELETE', answer });
      await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), fails(code));
      assert.deepEqual(tagsIn(ghcr), { v1: image.manifest.digest, latest: image.manifest.digest });
    });
  }

  test('puts the tag back as soon as an upstream that fails for a while takes it', async t => {
    const { ghcr, writes } = await byDigestAlone(t, answers.unsupported);
    ghcr.fault({ endpoint: 'manifest', method: 'DELETE', answer: answers.serverError(503) });
    ghcr.fault({ endpoint: 'manifest', method: 'PUT', skip: 1, times: 5, answer: answers.serverError(502) });
    await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), fails('UPSTREAM_UNAVAILABLE', /503/));
    assert.deepEqual(tagsIn(ghcr), { v1: image.manifest.digest, latest: image.manifest.digest });
  });

  for (const [how, answer] of [
    ['is failing for long', answers.serverError(503)],
    ['refuses it', answers.denied],
  ] as const) {
    test(`says what to push when the tag cannot be put back, because the upstream ${how}`, async t => {
      const { ghcr, writes } = await byDigestAlone(t, answers.unsupported);
      ghcr.fault({ endpoint: 'manifest', method: 'DELETE', answer: answers.denied });
      ghcr.fault({ endpoint: 'manifest', method: 'PUT', skip: 1, answer });
      const said = new RegExp(
        `owner/app:v1 could not be deleted, and now points to .*push ${image.manifest.digest} to it`,
      );
      await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), fails('UPSTREAM_UNAVAILABLE', said));
      assert.notEqual(tagsIn(ghcr).v1, image.manifest.digest);
      const puts = ghcr.count({ endpoint: 'manifest', method: 'PUT' });
      // Once more with another token, as always.
      if (answer === answers.denied) assert.ok(puts <= 3, `who refuses was asked ${puts} times`);
      else assert.ok(puts < 40, 'it is given up');
    });
  }

  for (const code of ['DENIED', 'MANIFEST_UNKNOWN'] as const) {
    test(`is not tried when it is ${code}`, async t => {
      const { ghcr, writes } = await byDigestAlone(
        t,
        code === 'DENIED' ? answers.denied : answers.manifestUnknown,
      );
      await assert.rejects(writes.deleteManifest(APP, { tag: 'v1' }), fails(code));
      assert.equal(ghcr.count({ method: 'PUT' }), 0);
      assert.equal(ghcr.count({ method: 'GET', endpoint: 'manifest' }), 0);
    });
  }
});

test('images of ghcr.io are packages of GitHub, and others where an interface for packages is configured', t => {
  const url = 'http://127.0.0.1:1';
  assert.equal(connect(t, url).writes.isGitHub, true);
  assert.equal(connect(t, url, { name: 'quay.io' }).writes.isGitHub, false);
  assert.equal(
    connect(t, url, { name: 'ghe.example', api: 'http://127.0.0.1:1/api/v3' }).writes.isGitHub,
    true,
  );
});
