// Where the bytes of an upload go, and what goes with them there.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { startScripted } from '../../test/support/scripted-server.ts';
import { APP, bytesToSend, CREDENTIAL, connectTo, fails, never } from '../../test/support/upstream-clients.ts';
import { digestOf } from '../oci/digest.ts';

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
    ['another host on plain HTTP', 'http://uploads.example/1', /to http:\/\/uploads\.example, which is not safe/],
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
        const { origin } = await startScripted(
          t,
          ({ url }) => ({ status: 202, headers: { location: location.replace('%', url.host) } }),
          { tls },
        );
        const starting = connectTo(t, origin).writes.startUpload(APP);
        if (expected instanceof RegExp) await assert.rejects(starting, fails('UPSTREAM_INVALID', expected));
        else assert.equal((await starting).href, expected.replace('%', new URL(origin).host));
      });
    }
  }

  test('nowhere, if an upstream says nothing of it', async t => {
    const { origin } = await startScripted(t, () => ({ status: 202 }));
    await assert.rejects(connectTo(t, origin).writes.startUpload(APP), fails('UPSTREAM_INVALID', /does not say where/));
  });

  test('after a stream, where its answer says by the same rules, else where they went', async t => {
    let location: string | undefined;
    const { origin } = await startScripted(t, () => ({ status: 202, headers: location ? { location } : {} }));
    const { writes } = connectTo(t, origin);
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
    const other = await startScripted(t, () => ({ status: 201 }), { tls: true });
    const upstream = await startScripted(t, () => ({ status: 202, headers: { location: `${other.origin}/1?sig=2` } }), {
      challenge: 'Basic realm="r"',
    });
    const { writes } = connectTo(t, upstream.origin, { credentials: [CREDENTIAL] });
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

  test('to another host, which does not speak for the upstream when it denies them', async t => {
    const other = await startScripted(t, () => ({ status: 403, body: 'expired' }), { tls: true });
    const upstream = await startScripted(t, () => ({
      status: 202,
      headers: { location: `${other.origin}/1` },
    }));
    const { writes } = connectTo(t, upstream.origin);
    const location = await writes.startUpload(APP);
    const { send } = bytesToSend(Buffer.from('bytes'));
    const said = new RegExp(`^${location.host} does not serve .*403 expired$`);
    await assert.rejects(writes.streamUpload(APP, location, send, never), fails('UPSTREAM_UNAVAILABLE', said));
    assert.equal(other.seen.length, 1);
  });
});
