// What reads send, and what they make of the responses.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { makeImage, randomContent } from '../../test/support/images.ts';
import { type ScriptedReply, type Seen, startScripted } from '../../test/support/scripted-server.ts';
import { APP, connectTo, fails, never } from '../../test/support/upstream-clients.ts';
import { SPEC_CAPABILITIES } from './upstream.ts';

const { manifest } = makeImage({ layers: [] });
const { digest } = randomContent(1_000);
const other = makeImage({ layers: [], seed: 'other' }).manifest;

async function setUp(t: TestContext, reply: (seen: Seen) => ScriptedReply) {
  const { origin, seen } = await startScripted(t, reply);
  return { ...connectTo(t, origin), origin, seen };
}

const ofManifest = (headers: Record<string, string> = {}): ScriptedReply => ({
  status: 200,
  headers: { 'content-type': manifest.mediaType, ...headers },
  body: manifest.bytes,
});

describe('a manifest', () => {
  test('is asked for in every type that there is, and comes with what the upstream says of it', async t => {
    const { reads, seen } = await setUp(t, () => ofManifest({ 'docker-content-digest': other.digest }));
    assert.deepEqual(await reads.getManifest(APP, { tag: 'v1' }), {
      ...{ bytes: manifest.bytes, contentType: manifest.mediaType, digest: other.digest },
    });
    assert.equal(seen[0]?.url.pathname, '/v2/owner/app/manifests/v1');
    assert.equal(seen[0].headers.accept?.split(', ').length, 4);
  });

  test('of more than a manifest may have is UPSTREAM_INVALID', async t => {
    const { reads } = await setUp(t, () => ({ status: 200, body: ' '.repeat(5_000_000) }));
    await assert.rejects(reads.getManifest(APP, { tag: 'v1' }), fails('UPSTREAM_INVALID', /larger than 4 MiB/));
  });

  test('that has not changed is undefined, whether the upstream honours If-None-Match or not', async t => {
    const replies = [{ status: 304 }, ofManifest({ 'docker-content-digest': manifest.digest })];
    const { reads, seen } = await setUp(t, () => replies.shift() ?? assert.fail());
    for (let times = 0; times < 2; times++) {
      assert.equal(await reads.getIfChanged(APP, 'v1', manifest.digest), undefined);
    }
    assert.deepEqual(
      seen.map(({ method, headers }) => [method, headers['if-none-match']]),
      Array(2).fill(['GET', `"${manifest.digest}"`]),
    );
  });

  test('that has changed is the new one, also where the upstream does not say its digest', async t => {
    for (const headers of [{}, { 'docker-content-digest': manifest.digest }]) {
      const { reads } = await setUp(t, () => ofManifest(headers));
      assert.deepEqual((await reads.getIfChanged(APP, 'v1', other.digest))?.bytes, manifest.bytes);
    }
  });

  test('by tag is confirmed by HEAD where GETs are counted, and asked for only when it has changed', async t => {
    const { origin, seen } = await startScripted(t, () => ofManifest({ 'docker-content-digest': manifest.digest }));
    const capabilities = { ...SPEC_CAPABILITIES, countsManifestGets: true };
    const { reads } = connectTo(t, origin, { capabilities });
    assert.equal(await reads.getIfChanged(APP, 'v1', manifest.digest), undefined);
    assert.deepEqual((await reads.getIfChanged(APP, 'v1', other.digest))?.bytes, manifest.bytes);
    assert.deepEqual(
      seen.map(({ method }) => method),
      ['HEAD', 'HEAD', 'GET'],
    );
  });

  test('whose HEAD is not found is asked for by GET all the same', async t => {
    const { origin } = await startScripted(t, ({ method }) => (method === 'HEAD' ? { status: 404 } : ofManifest()));
    const { reads } = connectTo(t, origin, { capabilities: { ...SPEC_CAPABILITIES, countsManifestGets: true } });
    assert.deepEqual((await reads.getIfChanged(APP, 'v1', other.digest))?.bytes, manifest.bytes);
  });

  test('is confirmed by HEAD', async t => {
    const { reads, seen } = await setUp(t, ({ url }) => ({
      status: url.pathname.endsWith(manifest.digest) ? 200 : 404,
    }));
    await reads.confirmManifest(APP, manifest.digest);
    await assert.rejects(reads.confirmManifest(APP, other.digest), fails('MANIFEST_UNKNOWN'));
    assert.deepEqual(new Set(seen.map(({ method }) => method)), new Set(['HEAD']));
  });
});

describe('the size of a blob', () => {
  const range = { 'content-range': 'bytes 0-0/12345' };
  const table: [what: string, replies: ScriptedReply[], size: number | undefined][] = [
    ['is that of HEAD', [{ status: 200, headers: { 'content-length': '12345' } }], 12345],
    [
      'is that of a range where HEAD is redirected',
      [
        { status: 307, headers: { location: '/x' } },
        { status: 206, headers: range, body: 'x' },
      ],
      12345,
    ],
    [
      'is that of a range where HEAD does not say',
      [{ status: 200 }, { status: 206, headers: range, body: 'x' }],
      12345,
    ],
    [
      'is that of the whole where ranges are not honoured',
      [{ status: 200 }, { status: 200, headers: { 'content-length': '3' }, body: 'abc' }],
      3,
    ],
    [
      'is unknown where a range does not say',
      [{ status: 200 }, { status: 206, headers: { 'content-range': 'bytes 0-0/*' }, body: 'x' }],
      undefined,
    ],
  ];
  for (const [what, replies, size] of table) {
    test(what, async t => {
      const left = [...replies];
      const { reads, seen } = await setUp(t, () => {
        const reply = left.shift() ?? assert.fail();
        // Node says a length of its own for HEAD unless it is told not to.
        return reply.headers === undefined ? { ...reply, headers: { 'transfer-encoding': 'chunked' } } : reply;
      });
      const asking = reads.statBlob(APP, digest);
      if (size === undefined) await assert.rejects(asking, fails('UPSTREAM_INVALID', /does not tell the size/));
      else assert.equal(await asking, size);
      assert.deepEqual(
        seen.map(({ method, headers }) => `${method} ${headers.range ?? ''}`.trim()),
        ['HEAD', 'GET bytes=0-0'].slice(0, replies.length),
      );
    });
  }
});

test('a blob is confirmed by HEAD, by a redirect too, which is not followed', async t => {
  const replies = [{ status: 200 }, { status: 307, headers: { location: '/x' } }];
  const { reads, seen } = await setUp(t, () => replies.shift() ?? assert.fail());
  await reads.confirmBlob(APP, digest);
  await reads.confirmBlob(APP, digest);
  assert.deepEqual(
    new Set(seen.map(({ method, url }) => `${method} ${url.pathname}`)),
    new Set([`HEAD /v2/owner/app/blobs/${digest}`]),
  );
});

test('a blob that HEAD does not find is confirmed by one byte of it', async t => {
  const replies = [
    ...[{ status: 404 }, { status: 206, headers: { 'content-range': 'bytes 0-0/5' }, body: 'a' }],
    ...[{ status: 404 }, { status: 307, headers: { location: '/x' } }],
    ...[{ status: 404 }, { status: 404 }],
  ];
  const { reads, seen } = await setUp(t, () => replies.shift() ?? assert.fail());
  await reads.confirmBlob(APP, digest);
  await reads.confirmBlob(APP, digest);
  await assert.rejects(reads.confirmBlob(APP, digest), fails('BLOB_UNKNOWN'));
  assert.deepEqual(
    seen.map(({ method, headers }) => `${method} ${headers.range ?? 'whole'}`),
    ['HEAD whole', 'GET bytes=0-0', 'HEAD whole', 'GET bytes=0-0', 'HEAD whole', 'GET bytes=0-0'],
  );
});

describe('the bytes of a blob', () => {
  const partial = (contentRange: string): ScriptedReply => ({
    ...{ status: 206, headers: { 'content-range': contentRange }, body: 'efghij' },
  });
  const table: [what: string, start: number, reply: ScriptedReply, from: number, size: number | undefined][] = [
    [
      'begin at the first where they are all asked for',
      0,
      { status: 200, headers: { 'content-length': '3' }, body: 'abc' },
      0,
      3,
    ],
    ['begin where they are asked for', 4, partial('bytes 4-9/10'), 4, 10],
    ['may not tell how many there are', 4, partial('bytes 4-9/*'), 4, undefined],
    [
      'begin at the first where a range is not honoured',
      4,
      { status: 200, headers: { 'content-length': '10' }, body: 'abcdefghij' },
      0,
      10,
    ],
  ];
  for (const [what, start, reply, from, size] of table) {
    test(what, async t => {
      const { reads, seen } = await setUp(t, () => reply);
      const body = await reads.openBlob(APP, digest, { start }, never);
      assert.deepEqual([body.start, body.sizeBytes], [from, size]);
      const chunks: Buffer[] = [];
      assert.equal(
        await body.read(chunk => {
          chunks.push(chunk);
          return undefined;
        }),
        undefined,
      );
      assert.equal(Buffer.concat(chunks).toString(), reply.body);
      body.close();
      assert.equal(seen[0]?.headers.range, start === 0 ? undefined : `bytes=${start}-`);
    });
  }

  for (const contentRange of ['bytes 3-8/10', 'bytes 4-8/10', 'bytes 0-9/10', 'nonsense']) {
    test(`are not those of another range (${contentRange})`, async t => {
      const { reads } = await setUp(t, () => partial(contentRange));
      await assert.rejects(
        reads.openBlob(APP, digest, { start: 4 }, never),
        fails('UPSTREAM_INVALID', /bytes from 4 were asked for and others came/),
      );
    });
  }
});
