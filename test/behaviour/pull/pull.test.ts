// Pulls as a client sees them, and what they cost upstream: manifests, blobs, tags, ranges, conditions,
// several upstreams.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { startBoth, startTestCache } from '../../support/cache.ts';
import { startGhcr } from '../../support/ghcr/ghcr.ts';
import { errorOf } from '../../support/http-client.ts';
import { bytesOf, type Content, type Index, makeImage, makeIndex } from '../../support/images.ts';

const blobPath = (digest: string) => `/v2/owner/app/blobs/${digest}`;
const manifestPath = (reference: string) => `/v2/owner/app/manifests/${reference}`;
const SIZES = [0, 1, 1000, 64 * 1024, 64 * 1024 + 1, 3_000_000];

test('the base endpoint says that this is a registry, with and without the slash', async t => {
  const cache = await startTestCache();
  t.after(() => cache.stop());
  for (const path of ['/v2/', '/v2', '/v2/?ns=ghcr.io']) {
    const reply = await cache.get(path);
    assert.equal(reply.status, 200, path);
    assert.equal(reply.headers['docker-distribution-api-version'], 'registry/2.0');
    assert.equal(reply.headers['x-cache'], 'hit');
  }
});

test('a cold image comes byte for byte, a hot one does too and without the upstream', async t => {
  const { ghcr, cache } = await startBoth(t);
  const images = (['oci', 'docker'] as const).map(type =>
    makeIndex(
      ['amd64', 'arm64'].map(architecture =>
        makeImage({ type, layers: SIZES, seed: type, platform: { os: 'linux', architecture } }),
      ),
      { type },
    ),
  );
  const [oci, docker] = images;
  assert(oci && docker);
  const published: [tag: string, Index][] = [
    ['v1', oci],
    ['docker', docker],
  ];
  for (const [tag, index] of published) ghcr.push('owner/app', index, tag);
  for (const [expected, upstreamUsed] of [
    ['miss', true],
    ['hit', false],
  ] as const) {
    ghcr.resetCounters();
    for (const [tag, index] of published) {
      const byTag = await cache.get(manifestPath(tag));
      assert.equal(byTag.headers['x-cache'], expected);
      assert.equal(byTag.headers['content-type'], index.manifest.mediaType);
      assert.equal(byTag.headers['docker-content-digest'], index.manifest.digest);
      assert.equal(byTag.headers.etag, `"${index.manifest.digest}"`);
      assert.deepEqual(byTag.body, Buffer.from(index.manifest.bytes));
      for (const image of index.images) {
        assert('layers' in image);
        const manifest = await cache.get(manifestPath(image.manifest.digest));
        assert.equal(manifest.headers['x-cache'], expected);
        assert.deepEqual(manifest.body, Buffer.from(image.manifest.bytes));
        for (const blob of new Map([image.config, ...image.layers].map(b => [b.digest, b])).values()) {
          const reply = await cache.get(blobPath(blob.digest));
          assert.equal(reply.status, 200);
          assert(reply.body.equals(bytesOf(blob)), `${blob.sizeBytes} bytes`);
          assert.equal(reply.headers['content-length'], String(blob.sizeBytes));
          assert.equal(reply.headers['docker-content-digest'], blob.digest);
          assert.equal(reply.headers['content-type'], 'application/octet-stream');
        }
      }
    }
    assert.equal(ghcr.requests.length > 0, upstreamUsed);
  }
});

test('sha512 content is pulled and served like any other', async t => {
  const { ghcr, cache } = await startBoth(t);
  const image = makeImage({ layers: [1000, 200_000], algorithm: 'sha512' });
  ghcr.push('owner/app', image, 'v1');
  for (const outcome of ['miss', 'hit']) {
    const manifest = await cache.get(manifestPath(image.manifest.digest));
    assert.equal(manifest.headers['x-cache'], outcome);
    assert.equal(manifest.headers['docker-content-digest'], image.manifest.digest);
    for (const layer of image.layers) {
      const reply = await cache.get(blobPath(layer.digest));
      assert.equal(reply.headers['x-cache'], outcome);
      assert(reply.body.equals(bytesOf(layer)));
    }
  }
});

test('HEAD has the headers of GET, fetches no blob, and is answered from here when hot', async t => {
  for (const blobHead of ['ok', 'redirect'] as const) {
    const { ghcr, cache } = await startBoth(t, { fake: { switches: { blobHead } } });
    const image = makeImage({ layers: [500_000] });
    ghcr.push('owner/app', image, 'v1');
    const [layer] = image.layers;
    assert(layer);
    const cold = await cache.head(blobPath(layer.digest));
    assert.equal(cold.status, 200);
    assert.equal(cold.headers['content-length'], '500000');
    assert(ghcr.bytes({ endpoint: 'blobhost' }) <= 1);
    const full = await cache.get(blobPath(layer.digest));
    ghcr.resetCounters();
    const hot = await cache.head(blobPath(layer.digest));
    assert.equal(hot.headers['x-cache'], 'hit');
    for (const name of ['content-length', 'content-type', 'docker-content-digest', 'etag', 'accept-ranges']) {
      assert.equal(hot.headers[name], full.headers[name], name);
      assert.equal(cold.headers[name], full.headers[name], name);
    }
    assert.equal(hot.body.length, 0);
    assert.equal(ghcr.requests.length, 0);
    const head = await cache.head(manifestPath('v1'));
    const get = await cache.get(manifestPath('v1'));
    assert.equal(head.headers['content-length'], String(get.body.length));
    assert.equal(head.headers['docker-content-digest'], get.headers['docker-content-digest']);
  }
});

test('ranges: first-last, open, suffix, several, beyond the end, on hot and on cold blobs', async t => {
  const { ghcr, cache } = await startBoth(t);
  const [seedHot, seedCold] = ['hot', 'cold'].map(seed => makeImage({ layers: [300_000], seed }));
  assert(seedHot && seedCold);
  const hot = seedHot.layers[0];
  assert(hot);
  ghcr.push('owner/app', seedHot, 'hot');
  await cache.get(blobPath(hot.digest));
  const cases: [range: string, start: number, end: number][] = [
    ['bytes=0-0', 0, 1],
    ['bytes=10-99999', 10, 100_000],
    ['bytes=299999-', 299_999, 300_000],
    ['bytes=100000-', 100_000, 300_000],
    ['bytes=-5', 299_995, 300_000],
    ['bytes=-900000', 0, 300_000],
    ['bytes=0-', 0, 300_000],
    ['bytes=290000-400000', 290_000, 300_000],
  ];
  for (const [range, start, end] of cases) {
    for (const isHot of [true, false]) {
      const blob: Content | undefined = isHot ? hot : makeImage({ layers: [300_000], seed: range }).layers[0];
      assert(blob);
      if (!isHot) ghcr.addBlob('owner/app', blob);
      const reply = await cache.get(blobPath(blob.digest), { headers: { range } });
      assert.equal(reply.status, 206, range);
      assert.equal(reply.headers['content-range'], `bytes ${start}-${end - 1}/300000`);
      assert.equal(reply.headers['content-length'], String(end - start));
      assert(reply.body.equals(bytesOf(blob, start, end)), `${range} ${isHot}`);
      if (!isHot) assert.equal(ghcr.count({ endpoint: 'blobhost', digest: blob.digest }), 1);
    }
  }

  const several = await cache.get(blobPath(hot.digest), { headers: { range: 'bytes=0-9, 1000-1009,-4' } });
  assert.equal(several.status, 206);
  const boundary = /^multipart\/byteranges; boundary=(.+)$/.exec(several.headers['content-type'] ?? '')?.[1];
  const part = (start: number, end: number) =>
    `\r\n--${boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes ${start}-${end - 1}/300000\r\n\r\n${bytesOf(hot, start, end).toString('latin1')}`;
  const expected = `${part(0, 10)}${part(1000, 1010)}${part(299_996, 300_000)}\r\n--${boundary}--\r\n`;
  assert.equal(several.body.toString('latin1'), expected);

  const beyond = await cache.get(blobPath(hot.digest), { headers: { range: 'bytes=300000-' } });
  assert.equal(beyond.status, 416);
  assert.equal(beyond.headers['content-range'], 'bytes */300000');
  for (const range of ['lines=0-5', 'bytes=a-b', 'bytes']) {
    assert.equal((await cache.get(blobPath(hot.digest), { headers: { range } })).status, 200, range);
  }
});

test('If-None-Match and If-Range are compared with the digest', async t => {
  const { ghcr, cache } = await startBoth(t);
  const image = makeImage({ layers: [1000] });
  ghcr.push('owner/app', image, 'v1');
  const [layer] = image.layers;
  assert(layer);
  await cache.get(blobPath(layer.digest));
  for (const [path, digest] of [
    [manifestPath('v1'), image.manifest.digest],
    [manifestPath(image.manifest.digest), image.manifest.digest],
    [blobPath(layer.digest), layer.digest],
  ] as const) {
    for (const tag of [`"${digest}"`, `W/"${digest}"`, '*', `"other", "${digest}"`]) {
      const reply = await cache.get(path, { headers: { 'if-none-match': tag } });
      assert.equal(reply.status, 304, `${path} ${tag}`);
      assert.equal(reply.body.length, 0);
      assert.equal(reply.headers.etag, `"${digest}"`);
    }
    assert.equal((await cache.get(path, { headers: { 'if-none-match': '"other"' } })).status, 200);
  }
  const range = 'bytes=0-9';
  const same = await cache.get(blobPath(layer.digest), {
    headers: { range, 'if-range': `"${layer.digest}"` },
  });
  const other = await cache.get(blobPath(layer.digest), { headers: { range, 'if-range': '"other"' } });
  assert.deepEqual([same.status, other.status], [206, 200]);
});

test('a tag is fresh for its time, then costs one conditional question and no blob', async t => {
  for (const ifNoneMatch of [true, false]) {
    const { ghcr, cache, clock } = await startBoth(t, { fake: { switches: { ifNoneMatch } } });
    const image = makeImage({ layers: [1000] });
    ghcr.push('owner/app', image, 'v1');
    await cache.get(manifestPath('v1'));
    ghcr.resetCounters();
    clock.advance(59_000);
    assert.equal((await cache.get(manifestPath('v1'))).headers['x-cache'], 'hit');
    assert.equal(ghcr.requests.length, 0);
    clock.advance(2_000);
    // The token is a minute old by then too.
    assert.equal((await cache.get(manifestPath('v1'))).headers['x-cache'], 'revalidated');
    const [question, ...others] = ghcr.requests.filter(({ endpoint }) => endpoint !== 'token');
    assert.equal(others.length, 0);
    assert.equal(question?.headers['if-none-match'], `"${image.manifest.digest}"`);
    assert.equal(question?.status, ifNoneMatch ? 304 : 200);
    assert.equal((await cache.get(manifestPath('v1'))).headers['x-cache'], 'hit');
  }
});

test('a tag that moved is followed, and back again', async t => {
  const { ghcr, cache, clock } = await startBoth(t);
  const [one, two] = ['one', 'two'].map(seed => makeImage({ layers: [1000], seed }));
  assert(one && two);
  ghcr.push('owner/app', one, 'v1');
  assert.equal((await cache.get(manifestPath('v1'))).headers['docker-content-digest'], one.manifest.digest);
  ghcr.push('owner/app', two, 'v1');
  clock.advance(61_000);
  const moved = await cache.get(manifestPath('v1'));
  assert.equal(moved.headers['docker-content-digest'], two.manifest.digest);
  assert.equal(moved.headers['x-cache'], 'miss');
  ghcr.setTag('owner/app', 'v1', one.manifest.digest);
  clock.advance(61_000);
  const back = await cache.get(manifestPath('v1'));
  assert.equal(back.headers['docker-content-digest'], one.manifest.digest);
});

test('tag rules: the first that matches wins, by tag and image; immutable is never asked again', async t => {
  const { ghcr, cache, clock } = await startBoth(t, {
    config: {
      tags: [
        { match: 'v*', images: 'owner/other', fresh: '1s' },
        { match: 'v*', fresh: 'immutable' },
        { match: '*', fresh: '10s' },
      ],
    },
  });
  const image = makeImage({ layers: [1000] });
  ghcr.push('owner/app', image, 'v1', 'latest');
  ghcr.push('owner/other', image, 'v1');
  const paths = [manifestPath('v1'), manifestPath('latest'), '/v2/owner/other/manifests/v1'];
  for (const path of paths) await cache.get(path);
  const outcomes = async () => {
    const replies = [];
    for (const path of paths) replies.push((await cache.get(path)).headers['x-cache']);
    return replies;
  };
  clock.advance(5_000);
  assert.deepEqual(await outcomes(), ['hit', 'hit', 'revalidated']);
  clock.advance(365 * 24 * 3600_000);
  assert.deepEqual(await outcomes(), ['hit', 'revalidated', 'revalidated']);
});

test('50 clients that ask for a stale tag at once cost one request', async t => {
  const { ghcr, cache, clock } = await startBoth(t);
  ghcr.push('owner/app', makeImage({ layers: [1000] }), 'v1');
  await cache.get(manifestPath('v1'));
  clock.advance(61_000);
  ghcr.resetCounters();
  const replies = await Promise.all(Array.from({ length: 50 }, () => cache.get(manifestPath('v1'))));
  assert(replies.every(({ status }) => status === 200));
  assert.equal(ghcr.count({ endpoint: 'manifest' }), 1);
});

test('a deleted tag is 404 and forgotten, its content is not; keepDeleted keeps it', async t => {
  const { ghcr, cache, clock } = await startBoth(t, {
    config: {
      tags: [
        { match: 'kept', fresh: '60s', keepDeleted: true },
        { match: '*', fresh: '60s' },
      ],
    },
  });
  const image = makeImage({ layers: [1000] });
  ghcr.push('owner/app', image, 'v1', 'kept');
  for (const tag of ['v1', 'kept']) await cache.get(manifestPath(tag));
  ghcr.deleteTag('owner/app', 'v1');
  ghcr.deleteTag('owner/app', 'kept');
  clock.advance(61_000);
  const gone = await cache.get(manifestPath('v1'));
  assert.equal(gone.status, 404);
  assert.equal(errorOf(gone).code, 'MANIFEST_UNKNOWN');
  assert.equal((await cache.get(manifestPath(image.manifest.digest))).headers['x-cache'], 'hit');
  const kept = await cache.get(manifestPath('kept'));
  assert.equal(kept.status, 200);
  assert.equal(kept.headers['x-cache'], 'stale');
  await ghcr.stop();
  assert.equal((await cache.get(manifestPath('v1'))).status, 404);
});

test('a 404 is remembered briefly, so a loop does not hammer the upstream', async t => {
  const { ghcr, cache, clock } = await startBoth(t);
  const image = makeImage({ layers: [1000] });
  ghcr.push('owner/app', image, 'v1');
  const absent = digestOf(Buffer.from('absent'));
  const paths = [manifestPath('nope'), manifestPath(absent), blobPath(absent)];
  for (const path of paths) {
    ghcr.resetCounters();
    for (let i = 0; i < 5; i++) assert.equal((await cache.get(path)).status, 404, path);
    assert.equal(ghcr.requests.filter(({ status }) => status === 404).length, 1, path);
  }
  ghcr.setTag('owner/app', 'nope', image.manifest.digest);
  clock.advance(11_000);
  assert.equal((await cache.get(manifestPath('nope'))).status, 200);
});

test('content of another repository is linked after a question upstream, not downloaded again', async t => {
  const { ghcr, cache } = await startBoth(t);
  const image = makeImage({ layers: [400_000] });
  ghcr.push('owner/app', image, 'v1');
  ghcr.push('other/app', image, 'v1');
  const [layer] = image.layers;
  assert(layer);
  await cache.get(blobPath(layer.digest));
  await cache.get(manifestPath(image.manifest.digest));
  // While it is being published, a client of another repository joins the flight.
  await cache.settled();
  ghcr.resetCounters();
  const blob = await cache.get(`/v2/other/app/blobs/${layer.digest}`);
  assert.equal(blob.headers['x-cache'], 'revalidated');
  assert(blob.body.equals(bytesOf(layer)));
  const manifest = await cache.get(`/v2/other/app/manifests/${image.manifest.digest}`);
  assert.equal(manifest.headers['x-cache'], 'revalidated');
  assert.equal(ghcr.bytes({ endpoint: 'blobhost' }), 0);
  assert.equal(ghcr.count({ method: 'GET', endpoint: 'manifest' }), 0);
  assert.equal((await cache.get(`/v2/other/app/blobs/${layer.digest}`)).headers['x-cache'], 'hit');
  // A repository that does not hold it gets nothing, although the bytes are here.
  ghcr.addPackage('third/app', { visibility: 'public' });
  assert.equal((await cache.get(`/v2/third/app/blobs/${layer.digest}`)).status, 404);
  assert.equal((await cache.get(`/v2/third/app/manifests/${image.manifest.digest}`)).status, 404);
});

test('several upstreams: by ns, by the first part of the path, by default', async t => {
  const quay = await startGhcr();
  t.after(() => quay.close());
  const { ghcr, cache } = await startBoth(t, { config: { upstreams: { 'quay.io': { url: quay.url } } } });
  const [ours, theirs] = ['ghcr', 'quay'].map(seed => makeImage({ layers: [1000], seed }));
  assert(ours && theirs);
  ghcr.push('owner/app', ours, 'v1');
  quay.push('owner/app', theirs, 'v1');
  const digestAt = async (path: string) => (await cache.get(path)).headers['docker-content-digest'];
  assert.equal(await digestAt('/v2/owner/app/manifests/v1'), ours.manifest.digest);
  assert.equal(await digestAt('/v2/ghcr.io/owner/app/manifests/v1'), ours.manifest.digest);
  assert.equal(await digestAt('/v2/quay.io/owner/app/manifests/v1'), theirs.manifest.digest);
  assert.equal(await digestAt('/v2/owner/app/manifests/v1?ns=quay.io'), theirs.manifest.digest);
  const named = await cache.get('/v2/owner/app/manifests/v1?ns=quay.io');
  assert.equal(named.headers['oci-namespace'], 'quay.io');
  assert.equal((await cache.get('/v2/owner/app/manifests/v1')).headers['oci-namespace'], undefined);
  const unknown = await cache.get('/v2/owner/app/manifests/v1?ns=docker.io');
  assert.equal(unknown.status, 404);
  assert.equal(errorOf(unknown).code, 'NAME_UNKNOWN');
  assert.match(errorOf(unknown).message, /docker\.io/);
});

test('tags/list is whole, in lexical order, in pages, remembered, and there without the upstream', async t => {
  const { ghcr, cache, clock } = await startBoth(t);
  const image = makeImage({ layers: [1000] });
  const tags = Array.from({ length: 250 }, (_, i) => `t${i}`);
  ghcr.push('owner/app', image, ...tags);
  const sorted = [...tags].sort();
  const list = async (query: string) => {
    const reply = await cache.get(`/v2/owner/app/tags/list${query}`);
    return {
      ...JSON.parse(reply.body.toString()),
      link: reply.headers.link,
      outcome: reply.headers['x-cache'],
    };
  };
  assert.deepEqual(await list(''), { name: 'owner/app', tags: sorted, link: undefined, outcome: 'miss' });
  ghcr.resetCounters();
  const walked: string[] = [];
  for (let query: string | undefined = '?n=100'; query !== undefined; ) {
    const page = await list(query);
    walked.push(...page.tags);
    query = /<\/v2\/owner\/app\/tags\/list(\?[^>]*)>; rel="next"/.exec(page.link ?? '')?.[1];
  }
  assert.deepEqual(walked, sorted);
  assert.deepEqual((await list('?n=2&last=t10')).tags, ['t100', 't101']);
  assert.deepEqual(await list('?n=0'), { name: 'owner/app', tags: [], link: undefined, outcome: 'hit' });
  assert.equal(ghcr.requests.length, 0);
  assert.equal((await cache.get('/v2/owner/app/tags/list?n=x')).status, 400);
  await ghcr.stop();
  clock.advance(3600_000);
  const stale = await cache.get('/v2/owner/app/tags/list');
  assert.equal(stale.headers['x-cache'], 'stale');
  assert.equal(stale.headers.age, '3600');
  assert.match(String(stale.headers.warning), /^299 - "ghcr\.io|^299 - "127/);
});

test('without a list, the tags that were pulled are listed when the upstream is away', async t => {
  const { ghcr, cache } = await startBoth(t);
  ghcr.push('owner/app', makeImage({ layers: [1000] }), 'b', 'a', 'never-pulled');
  for (const tag of ['b', 'a']) await cache.get(manifestPath(tag));
  await ghcr.stop();
  const reply = await cache.get('/v2/owner/app/tags/list');
  assert.deepEqual(JSON.parse(reply.body.toString()).tags, ['a', 'b']);
  assert.equal((await cache.get('/v2/owner/unknown/tags/list')).status, 502);
});

test('Accept: all types are asked for upstream, and a client gets none that it does not take', async t => {
  const { ghcr, cache } = await startBoth(t);
  const index = makeIndex([makeImage({ layers: [1000] })]);
  ghcr.push('owner/app', index, 'v1');
  const accept = 'application/vnd.oci.image.manifest.v1+json';
  const refused = await cache.get(manifestPath('v1'), { headers: { accept } });
  assert.equal(refused.status, 404);
  assert.match(errorOf(refused).message, /index\.v1\+json.*Accept/);
  for (const headers of [{}, { accept: '*/*' }, { accept: `${accept}, application/vnd.oci.image.index.v1+json` }]) {
    assert.equal((await cache.get(manifestPath('v1'), { headers })).status, 200);
  }
  const asked = ghcr.requests.find(
    ({ endpoint, method, status }) => endpoint === 'manifest' && method === 'GET' && status === 200,
  );
  assert.equal(asked?.headers.accept?.split(',').length, 4);
});

test('a method that the distribution API does not define is UNSUPPORTED, and Allow names those that it does', async t => {
  const cache = await startTestCache();
  t.after(() => cache.stop());
  const digest = digestOf(Buffer.from('x'));
  for (const [method, path, allow] of [
    ['POST', '/v2/owner/app/manifests/v1', 'GET, HEAD, PUT, DELETE'],
    ['PUT', `/v2/owner/app/blobs/${digest}`, 'GET, HEAD, DELETE'],
    ['DELETE', '/v2/owner/app/tags/list', 'GET, HEAD'],
    ['POST', '/v2/', 'GET, HEAD'],
    ['PATCH', '/v2/owner/app/blobs/uploads/', 'POST'],
    ['POST', '/v2/owner/app/blobs/uploads/some-id', 'GET, HEAD, PATCH, PUT, DELETE'],
  ] as const) {
    const reply = await cache.get(path, { method });
    assert.equal(reply.status, 405, `${method} ${path}`);
    assert.equal(errorOf(reply).code, 'UNSUPPORTED');
    assert.equal(reply.headers.allow, allow);
  }
});

test('health and readiness', async t => {
  const cache = await startTestCache();
  t.after(() => cache.stop());
  assert.equal((await cache.get('/healthz')).status, 200);
  assert.equal((await cache.get('/readyz')).status, 200);
  assert.equal((await cache.get('/nothing')).status, 404);
});
