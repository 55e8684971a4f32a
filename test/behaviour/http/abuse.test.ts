// Hostile input: each gets the right 4xx and OCI code, reaches no upstream, and costs next to nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { startBoth, type TestCache } from '../../support/cache.ts';
import { makeImage } from '../../support/images.ts';
import { lines, raw } from '../../support/raw.ts';

const digest = digestOf(Buffer.from('x'));
const hex = digest.slice(7);

test('bad names, tags, digests and paths', async t => {
  const { ghcr, cache } = await startBoth(t);
  const cases: [string, number, string][] = [
    ['/v2/Owner/App/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/owner/../etc/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/owner/%2e%2e/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/owner%2fapp/manifests/v1%00', 404, 'MANIFEST_UNKNOWN'],
    ['/v2/owner//app/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/-owner/app/manifests/v1', 400, 'NAME_INVALID'],
    [`/v2/${'a/'.repeat(200)}a/manifests/v1`, 400, 'NAME_INVALID'],
    [`/v2/${'a'.repeat(5000)}/manifests/v1`, 400, 'NAME_INVALID'],
    ['/v2/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/owner/app/manifests/%ff', 400, 'NAME_INVALID'],
    ['/v2/owner/app/manifests/.hidden', 404, 'MANIFEST_UNKNOWN'],
    [`/v2/owner/app/manifests/${'t'.repeat(129)}`, 404, 'MANIFEST_UNKNOWN'],
    ['/v2/owner/app/manifests/md5:d41d8cd98f00b204e9800998ecf8427e', 400, 'DIGEST_INVALID'],
    [`/v2/owner/app/manifests/sha256:${hex.toUpperCase()}`, 400, 'DIGEST_INVALID'],
    [`/v2/owner/app/blobs/sha256:${hex}0`, 400, 'DIGEST_INVALID'],
    ['/v2/owner/app/blobs/sha256:../../../../etc/passwd', 404, 'NAME_UNKNOWN'],
    ['/v2/owner/app/blobs/sha256:..%2f..%2fmetadata.db', 404, 'NAME_UNKNOWN'],
    ['/v2/owner/app/blobs/latest', 400, 'DIGEST_INVALID'],
    ['/v2/owner/app', 404, 'NAME_UNKNOWN'],
    ['/v2/owner/app/tags', 404, 'NAME_UNKNOWN'],
    ['/v2/owner/app/tags/list?n=-1', 400, 'PAGINATION_NUMBER_INVALID'],
    ['/v2/owner/app/tags/list?n=1e9', 400, 'PAGINATION_NUMBER_INVALID'],
    ['/v2/owner/app/tags/list?n=99999999999999999999', 400, 'PAGINATION_NUMBER_INVALID'],
    ['/v2/owner/app/manifests/v1?ns=169.254.169.254', 404, 'NAME_UNKNOWN'],
    ['/v2/owner/app/manifests/v1?ns=http://127.0.0.1', 404, 'NAME_UNKNOWN'],
    ['/v2/owner/app/manifests/v1?ns=', 404, 'NAME_UNKNOWN'],
    ['/v2/quay.io/owner/app/manifests/v1', 404, 'NAME_UNKNOWN'],
    ['/v2/localhost:5000/owner/app/manifests/v1', 404, 'NAME_UNKNOWN'],
  ];
  for (const [path, status, code] of cases) {
    // As it is: a URL object would tidy it up first.
    const reply = await rawGet(cache, path);
    assert.match(reply, new RegExp(`^HTTP/1\\.1 ${status} `), path.slice(0, 100));
    assert.match(reply, new RegExp(`"code":"${code}"`), path.slice(0, 100));
    assert.match(reply, /x-cache: /i);
    assert(reply.length < 2000, 'the request is not echoed at length');
  }
  assert.equal(ghcr.requests.length, 0);
});

test('bad ranges are ignored or get a 416, and never read too much', async t => {
  const { ghcr, cache } = await startBoth(t);
  const image = makeImage({ layers: [1000] });
  ghcr.push('owner/app', image, 'v1');
  const path = `/v2/owner/app/blobs/${image.layers[0]?.digest}`;
  await cache.get(path);
  const get = (range: string) => cache.get(path, { headers: { range } });
  assert.equal((await get(`bytes=${'0-999,'.repeat(500)}0-1`)).status, 200, 'too many');
  assert.equal((await get('bytes=0-999,0-999')).status, 200, 'more than the whole');
  assert.equal((await get('bytes=99999999999999999999-')).status, 416);
  assert.equal((await get('bytes=-0')).status, 416);
  assert.equal((await get('bytes=0-99999999999999999999')).headers['content-length'], '1000');
  assert.equal((await get('bytes=\u00e9-5')).status, 200);
});

test('heads that are too large, malformed or slow are rejected by the server itself', async t => {
  const { ghcr, cache } = await startBoth(t);
  const send = (text: string) => raw(cache.url, text);
  assert.match(await send(`GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(70_000)}\r\n\r\n`), /^HTTP\/1\.1 431 /);
  assert.match(
    await send('GET /v2/ HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n'),
    /^HTTP\/1\.1 400 /,
  );
  assert.match(await send('rubbish\r\n\r\n'), /^HTTP\/1\.1 400 /);
  assert.match(await send('TRACE /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'), /^HTTP\/1\.1 405 /);
  assert.equal(ghcr.requests.length, 0);
  assert.equal((await cache.get('/v2/')).status, 200);
});

test('a body that is not accepted is not waited for', async t => {
  const { cache } = await startBoth(t);
  const reply = await raw(
    cache.url,
    'PUT /v2/owner/app/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n{',
  );
  assert.match(reply, /^HTTP\/1\.1 413 /);
});

test('a client cannot get line breaks or quotes into headers through error messages', async t => {
  const { cache, ghcr } = await startBoth(t);
  await ghcr.stop();
  const reply = await rawGet(cache, '/v2/owner/app/manifests/a');
  const head = reply.slice(0, reply.indexOf('\r\n\r\n'));
  assert.match(head, /^HTTP\/1\.1 502 [\x20-\x7e]+\r\n/);
});

function rawGet(cache: TestCache, path: string): Promise<string> {
  return raw(cache.url, lines(`GET ${path} HTTP/1.1`, 'Host: localhost'));
}
