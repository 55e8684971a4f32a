// Blobs, pulled through redirects to the blob host and without, and what the blob host accepts.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Asking, ask, bearer } from './ask.ts';
import { BLOB, layer, layerBytes, NAME, pullLayer, startFilled } from './fixture.ts';

describe('blobs', () => {
  test('GET redirects to a signed URL on the other origin, HEAD is answered directly', async () => {
    await using ghcr = await startFilled();
    const head = await ask(ghcr.url + BLOB, { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(head.headers['content-length'], String(layer.sizeBytes));
    assert.equal(head.headers['docker-content-digest'], layer.digest);
    const redirect = await ask(ghcr.url + BLOB);
    assert.equal(redirect.status, 307);
    assert.equal(redirect.headers['content-length'], '0');
    assert.ok(redirect.headers.location?.startsWith(`${ghcr.blobUrl}/ghcr1/blobs/${layer.digest}?se=`));
    const got = await ask(redirect.headers.location ?? '');
    assert.equal(got.status, 200);
    assert.deepEqual(got.body, layerBytes);
    assert.equal(ghcr.bytes({ endpoint: 'blobhost', repository: NAME, digest: layer.digest }), layer.sizeBytes);
    ghcr.switches.blobHead = 'redirect';
    assert.equal((await ask(ghcr.url + BLOB, { method: 'HEAD' })).status, 307);
  });

  test('the blob host', async t => {
    await using ghcr = await startFilled();
    const { location = '' } = (await ask(ghcr.url + BLOB)).headers;
    const range = (value: string) => ({ headers: { range: value } });
    const rows: [string, Asking, number, string?][] = [
      ['one range', range('bytes=10-19'), 206, 'bytes 10-19/100000'],
      ['the rest', range('bytes=99990-'), 206, 'bytes 99990-99999/100000'],
      ['a range past the end', range('bytes=100000-'), 416, 'bytes */100000'],
      ['several ranges', range('bytes=0-1,4-5'), 501],
      ['Authorization', { headers: bearer('x') }, 400],
      ['HEAD', { method: 'HEAD', ...range('bytes=10-19') }, 200],
      ['an unsupported method', { method: 'PUT' }, 405],
    ];
    for (const [name, asking, status, contentRange] of rows) {
      await t.test(name, async () => {
        const got = await ask(location, asking);
        assert.equal(got.status, status);
        assert.equal(got.headers['content-range'], contentRange);
        if (status === 206) assert.equal(got.body.length, 10);
        if (status >= 400) assert.match(got.body.toString(), /<\?xml .*<Error><Code>\w+<\/Code>/);
      });
    }
    assert.deepEqual((await ask(location, range('bytes=10-19'))).body, layerBytes.subarray(10, 20));
    assert.equal((await ask(location.replace('sig=', 'sig=x'))).status, 403);
    ghcr.switches.severalRanges = 200;
    assert.equal((await ask(location, range('bytes=0-1,4-5'))).status, 200);
  });

  test('signed URLs expire', async () => {
    let now = 0;
    await using ghcr = await startFilled({ signedUrlTtlMs: 1000 }, { now: () => now });
    const { location = '' } = (await ask(ghcr.url + BLOB)).headers;
    now = 999;
    assert.equal((await ask(location)).status, 200);
    now = 1000;
    const expired = await ask(location);
    assert.equal(expired.status, 403);
    assert.match(expired.body.toString(), /AuthenticationFailed/);
  });

  test('redirects can lead anywhere', async () => {
    await using ghcr = await startFilled({ redirectHops: 3 });
    assert.deepEqual((await pullLayer(ghcr)).body, layerBytes);
    assert.equal(ghcr.count({ endpoint: 'hop', digest: layer.digest }), 3);

    ghcr.switches.redirectHops = Number.POSITIVE_INFINITY;
    const { location = '' } = (await ask(ghcr.url + BLOB)).headers;
    assert.equal(new URL((await ask(location)).headers.location ?? '', location).href, location);

    ghcr.switches.redirectHops = 0;
    ghcr.switches.redirectStatus = 302;
    ghcr.switches.redirectTo = signed => signed.slice(ghcr.blobUrl.length);
    assert.deepEqual((await pullLayer(ghcr)).body, layerBytes);
    ghcr.switches.redirectTo = () => undefined;
    const missing = await ask(ghcr.url + BLOB);
    assert.deepEqual([missing.status, missing.headers.location], [302, undefined]);
  });

  test('without redirects the registry sends blobs itself', async () => {
    await using ghcr = await startFilled({ redirects: false });
    assert.deepEqual((await ask(ghcr.url + BLOB)).body, layerBytes);
    const part = await ask(ghcr.url + BLOB, { headers: { range: 'bytes=5-9' } });
    assert.deepEqual([part.status, part.body], [206, layerBytes.subarray(5, 10)]);
    assert.equal(ghcr.count({ endpoint: 'blobhost' }), 0);
  });
});
