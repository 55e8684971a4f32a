// What the cache sends over the wire, compared with what a real registry sends for the same request: headers of
// manifests and blobs, ranges, conditional requests, and errors.
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { Cache } from './support/cache.ts';
import { assertSameAnswer, assertSameImage } from './support/compare.ts';
import { type Answer, errorBody, get, head } from './support/http.ts';
import { image, nativeVariant } from './support/images.ts';
import { Upstream } from './support/upstream.ts';

suite('the cache responds as the registry does', () => {
  let upstream: Upstream;
  let cache: Cache;
  const layers = image('layers');
  const layer = nativeVariant(layers).layers[1];
  if (!layer) throw new Error('the image has no second layer');
  const blob = `/v2/${layers.repository}/blobs/${layer.digest}`;
  const tag = `/v2/${layers.repository}/manifests/${layers.tag}`;

  before(async () => {
    upstream = await Upstream.start();
    cache = await Cache.start({ upstream: upstream.proxy.url, fresh: '1h' });
  });
  after(async () => {
    await cache?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
  });

  const both = async (
    method: typeof get,
    path: string,
    headers: Record<string, string> = {},
  ): Promise<{ actual: Answer; expected: Answer }> => ({
    actual: await method(cache.url + path, headers),
    expected: await method(upstream.registry.url + path, headers),
  });

  for (const name of ['layers', 'multiarch', 'schema2', 'schema2-list'] as const) {
    test(`manifests and blobs of ${name}`, async () => {
      // Misses first, then hits.
      await assertSameImage(cache.url, upstream.registry.url, image(name));
      await assertSameImage(cache.url, upstream.registry.url, image(name));
    });
  }

  test('HEAD before anything is cached', async () => {
    const medium = image('medium');
    const config = nativeVariant(medium).config.digest;
    for (const path of [`manifests/${medium.tag}`, `manifests/${medium.root.digest}`, `blobs/${config}`]) {
      const { actual, expected } = await both(head, `/v2/${medium.repository}/${path}`);
      assert.equal(actual.status, 200);
      for (const name of ['docker-content-digest', 'content-length', 'content-type']) {
        assert.equal(actual.headers[name], expected.headers[name], `${name} of ${path}`);
      }
    }
  });

  test('the API root, and every way to name the upstream', async () => {
    const root = await get(`${cache.url}/v2/`);
    assert.equal(root.status, 200);
    assert.equal(root.headers['docker-distribution-api-version'], 'registry/2.0');
    const expected = await get(upstream.registry.url + tag);
    const byQuery = await get(`${cache.url}${tag}?ns=ghcr.io`);
    assertSameAnswer(byQuery, expected, '?ns=ghcr.io');
    assert.equal(byQuery.headers['oci-namespace'], 'ghcr.io');
    assertSameAnswer(await get(cache.url + tag.replace('/v2/', '/v2/ghcr.io/')), expected, '/v2/ghcr.io/…');
    const foreign = await get(`${cache.url}${tag}?ns=registry.example`);
    assert.equal(foreign.status, 404);
    assert.equal(errorBody(foreign).errors[0]?.code, 'NAME_UNKNOWN');
  });

  for (const range of [
    'bytes=0-99',
    'bytes=100-',
    'bytes=-50',
    'bytes=0-0',
    'bytes=1000-1999',
    'bytes=0-99999999999',
  ]) {
    test(`Range: ${range}`, async () => {
      const { actual, expected } = await both(get, blob, { range });
      assert.equal(expected.status, 206);
      assertSameAnswer(actual, expected, range);
      assert.equal(actual.headers['content-range'], expected.headers['content-range']);
      assert.equal(actual.headers['accept-ranges'], 'bytes');
    });
  }

  test('several ranges', async () => {
    const { actual, expected } = await both(get, blob, { range: 'bytes=0-9, 500000-500099, -7' });
    assert.equal(actual.status, 206);
    assert.equal(Number(actual.headers['content-length']), actual.body.length);
    assert.equal(partsOf(actual).length, 3);
    assert.deepEqual(partsOf(actual), partsOf(expected));
  });

  test('ranges that cannot be satisfied or understood', async () => {
    // Not compared with the registry, which announces the length of the blob and then sends an error message.
    const beyond = await get(cache.url + blob, { range: `bytes=${layer.size}-` });
    assert.equal(beyond.status, 416);
    assert.equal(beyond.headers['content-range'], `bytes */${layer.size}`);
    const unknown = await get(cache.url + blob, { range: 'lines=1-2' });
    assert.equal(unknown.status, 200);
    assert.equal(unknown.body.length, layer.size);
  });

  test('conditional requests', async () => {
    for (const path of [tag, `/v2/${layers.repository}/manifests/${layers.root.digest}`, blob]) {
      const etag = (await head(upstream.registry.url + path)).headers.etag ?? '';
      const { actual, expected } = await both(get, path, { 'if-none-match': etag });
      assert.equal(expected.status, 304, `the registry's status for ${path}`);
      assert.equal(actual.status, 304, `status of ${path}`);
      assert.equal(actual.body.length, 0);
      assert.equal((await get(cache.url + path, { 'if-none-match': '"another"' })).status, 200);
    }
  });

  test('a conditional range', async () => {
    const etag = (await head(upstream.registry.url + blob)).headers.etag ?? '';
    const same = await get(cache.url + blob, { range: 'bytes=0-9', 'if-range': etag });
    assert.equal(same.status, 206);
    const other = await get(cache.url + blob, { range: 'bytes=0-9', 'if-range': '"another"' });
    assert.equal(other.status, 200);
    assert.equal(other.body.length, layer.size);
  });

  test('not found, and malformed', async () => {
    const nothing = `sha256:${'0'.repeat(64)}`;
    const cases: readonly (readonly [string, string])[] = [
      [`/v2/${layers.repository}/manifests/no-such-tag`, 'MANIFEST_UNKNOWN'],
      [`/v2/${layers.repository}/manifests/${nothing}`, 'MANIFEST_UNKNOWN'],
      [`/v2/${layers.repository}/blobs/${nothing}`, 'BLOB_UNKNOWN'],
      ['/v2/e2e/no-such-image/manifests/v1', 'MANIFEST_UNKNOWN'],
    ];
    for (const [path, code] of cases) {
      const { actual, expected } = await both(get, path);
      assert.equal(actual.status, expected.status, path);
      assert.equal(errorBody(actual).errors[0]?.code, code, path);
      assert.equal((await head(cache.url + path)).status, expected.status, `HEAD ${path}`);
    }
    for (const path of [`/v2/${layers.repository}/blobs/sha256:123`, `/v2/${layers.repository}/blobs/md5:123`]) {
      const invalid = await get(cache.url + path);
      assert.ok([400, 404].includes(invalid.status), `${path}: ${invalid.status}`);
      errorBody(invalid);
    }
  });

  test('the tags of an image', async () => {
    const { actual, expected } = await both(get, `/v2/${layers.repository}/tags/list`);
    assert.equal(actual.status, 200);
    assert.deepEqual(JSON.parse(actual.body.toString()), JSON.parse(expected.body.toString()));
  });
});

interface Part {
  readonly range: string | undefined;
  readonly hex: string;
}

/** The parts of a multipart/byteranges body, read as Latin-1, in which every byte is one character. */
function partsOf({ headers, body }: Answer): Part[] {
  const boundary = /^multipart\/byteranges; *boundary="?([^";]+)/.exec(headers['content-type'] ?? '')?.[1];
  assert.ok(boundary, `Content-Type: ${headers['content-type']}`);
  const pieces = `\r\n${body.toString('latin1')}`.split(`\r\n--${boundary}`);
  assert.match(pieces.at(-1) ?? '', /^--\r\n/, 'the closing boundary');
  return pieces.slice(1, -1).map(piece => {
    const gap = piece.indexOf('\r\n\r\n');
    return {
      range: /content-range: *([^\r]+)/i.exec(piece.slice(0, gap))?.[1],
      hex: Buffer.from(piece.slice(gap + 4), 'latin1').toString('hex'),
    };
  });
}
