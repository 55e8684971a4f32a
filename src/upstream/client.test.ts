// What reads send, and what they make of the responses.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { makeImage, randomContent } from '../../test/support/images.ts';
import { type ScriptedReply, type Seen, startScripted } from '../../test/support/scripted-server.ts';
import { APP, connectTo, fails, never } from '../../test/support/upstream-clients.ts';

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

/** A list in pages by the `last` of the query: the page, and the Link to the next. */
async function pagesOf(
  t: TestContext,
  pages: Record<string, { body: unknown; link?: string }>,
  headers: Record<string, string> = {},
) {
  return setUp(t, ({ url }) => {
    const { body, link } = pages[url.searchParams.get('last') ?? ''] ?? assert.fail(`no page ${url}`);
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    return { status: 200, headers: { ...headers, ...(link && { link }) }, body: text };
  });
}

describe('the tags of a repository', () => {
  const next = (last: string) => `</v2/owner/app/tags/list?last=${last}&n=0>; rel="next"`;

  test('are those of all pages, in the order of the upstream', async t => {
    const { reads, seen } = await pagesOf(t, {
      '': { body: { tags: ['b', 'a'] }, link: next('a') },
      a: { body: { tags: ['c'] }, link: '<?last=c>; rel=next' },
      c: { body: { tags: ['d'] } },
    });
    assert.deepEqual(await reads.listTags(APP), ['b', 'a', 'c', 'd']);
    assert.equal(seen[0]?.url.search, '?n=1000');
  });

  const ends: [what: string, link: string][] = [
    ['leads to another host', '<http://127.0.0.1:9/v2/owner/app/tags/list?last=x>; rel="next"'],
    ['leads to another repository', '</v2/other/app/tags/list?last=x>; rel="next"'],
    ['is not for the next page', '</v2/owner/app/tags/list?last=x>; rel="prev"'],
    ['is no address', '<http://[>; rel="next"'],
  ];
  for (const [what, link] of ends) {
    test(`end where a Link ${what}`, async t => {
      const { reads, seen } = await pagesOf(t, { '': { body: { tags: ['a'] }, link } });
      assert.deepEqual(await reads.listTags(APP), ['a']);
      assert.equal(seen.length, 1);
    });
  }

  test('end with an empty page, which could lead to itself forever', async t => {
    const { reads } = await pagesOf(t, {
      '': { body: { tags: ['a'] }, link: next('a') },
      a: { body: { tags: [] }, link: next('a') },
    });
    assert.deepEqual(await reads.listTags(APP), ['a']);
  });

  test('may be none, as Go writes that', async t => {
    const { reads } = await pagesOf(t, { '': { body: { tags: null } } });
    assert.deepEqual(await reads.listTags(APP), []);
  });

  test('may be 100,000', async t => {
    const tags = Array(100_000).fill('a');
    const { reads } = await pagesOf(t, { '': { body: { tags } } });
    assert.equal((await reads.listTags(APP)).length, tags.length);
  });

  for (const body of ['', '<html>', '{}', '{"tags":"a"}', '{"tags":[1]}', 'null', ' '.repeat(9_000_000)]) {
    test(`are not ${body.trim() || (body === '' ? 'nothing' : 'more than a page can be')}`, async t => {
      const { reads } = await pagesOf(t, { '': { body } });
      await assert.rejects(reads.listTags(APP), fails('UPSTREAM_INVALID', /it is not a list of tags/));
    });
  }
});

describe('the referrers of a manifest', () => {
  const index = { 'content-type': 'application/vnd.oci.image.index.v1+json' };
  const path = `/v2/owner/app/referrers/${digest}`;

  test('are those of all pages', async t => {
    const { reads, seen } = await pagesOf(
      t,
      {
        '': { body: { manifests: [{ a: 1 }] }, link: `<${path}?last=a>; rel="next"` },
        a: { body: { manifests: [{ b: 2 }] } },
      },
      index,
    );
    assert.deepEqual(await reads.listReferrers(APP, digest), [{ a: 1 }, { b: 2 }]);
    assert.equal(seen[0]?.url.pathname, path);
  });

  const without: [what: string, reply: ScriptedReply][] = [
    ['404', { status: 404 }],
    ['405', { status: 405 }],
    ['a redirect to a web page, which is not followed', { status: 303, headers: { location: '/page' } }],
    ['a page', { status: 200, headers: { 'content-type': 'text/html' }, body: '<html>' }],
    ['JSON of another type', { status: 200, headers: { 'content-type': 'application/json' }, body: '{}' }],
  ];
  for (const [what, reply] of without) {
    test(`are undefined where the upstream has no such API: ${what}`, async t => {
      const { reads, seen } = await setUp(t, () => reply);
      assert.equal(await reads.listReferrers(APP, digest), undefined);
      assert.equal(seen.length, 1);
    });
  }

  test('are not known when the upstream is unavailable, or sends what is no index', async t => {
    const failing = await setUp(t, () => ({ status: 503 }));
    await assert.rejects(failing.reads.listReferrers(APP, digest), fails('UPSTREAM_UNAVAILABLE'));
    const wrong = await pagesOf(t, { '': { body: 'nonsense' } }, index);
    await assert.rejects(wrong.reads.listReferrers(APP, digest), fails('UPSTREAM_INVALID', /it is not an image index/));
  });
});
