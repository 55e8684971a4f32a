// The rest of an image, which a client has begun to pull.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { turns, until } from '../../support/async.ts';
import { startBoth, type TestCacheOptions } from '../../support/cache.ts';
import { bytesOf, makeImage, makeIndex } from '../../support/images.ts';

const MIB = 1024 * 1024;
const image = makeImage({ layers: [100_000, 200_000, 2 * MIB, 300_000], seed: 'ahead' });
const { config, layers, manifest } = image;
const [first] = layers;
assert.ok(first);
const BLOBS = [config, ...layers];
const pathOf = ({ digest }: { digest: string }) => `/v2/owner/app/blobs/${digest}`;
const MANIFEST = `/v2/owner/app/manifests/${manifest.digest}`;
const ACCEPT = { accept: manifest.mediaType };

async function setUp(t: TestContext, options: Omit<TestCacheOptions, 'ghcr'> = {}) {
  const both = await startBoth(t, { config: { readAhead: true }, ...options });
  const { ghcr, cache } = both;
  ghcr.push('owner/app', image, 'v1');
  /** A large one comes by several requests. */
  const fetched = () => [
    ...new Set(ghcr.requests.filter(({ endpoint }) => endpoint === 'blobhost').map(({ digest }) => digest)),
  ];
  const settled = async () => {
    await turns(50);
    await cache.settled();
  };
  return { ...both, fetched, settled };
}

describe('a client that asks for a blob of the manifest that it was given', () => {
  for (const [what, asked] of [
    ['config', config],
    ['layer', first],
  ] as const) {
    test(`brings the rest with a ${what}, each once`, async t => {
      const { cache, fetched, ghcr } = await setUp(t);
      await cache.get('/v2/owner/app/manifests/v1', { headers: ACCEPT });
      await turns(50);
      assert.deepEqual(fetched(), []);
      await cache.get(pathOf(asked));
      await until(() => fetched().length === BLOBS.length);
      await cache.settled();
      assert.deepEqual(new Set(fetched()), new Set(BLOBS.map(({ digest }) => digest)));
      for (const blob of BLOBS) {
        const { headers, body } = await cache.get(pathOf(blob));
        assert.equal(headers['x-cache'], 'hit');
        assert.ok(body.equals(bytesOf(blob)));
      }
      assert.equal(ghcr.count({ endpoint: 'blobhost' }), BLOBS.length);
    });
  }

  test('brings that of its platform, of an index', async t => {
    const { cache, ghcr, fetched } = await setUp(t);
    const platforms = ['amd64', 'arm64'].map(architecture =>
      makeImage({ layers: [1_000, 2_000], seed: architecture, platform: { os: 'linux', architecture } }),
    );
    const index = makeIndex(platforms);
    ghcr.push('owner/app', index, 'multi');
    const [amd64] = platforms;
    assert.ok(amd64);
    await cache.get('/v2/owner/app/manifests/multi', { headers: { accept: index.manifest.mediaType } });
    await cache.get(`/v2/owner/app/manifests/${amd64.manifest.digest}`, { headers: ACCEPT });
    await cache.get(pathOf(amd64.config));
    await until(() => fetched().length === 3);
    assert.deepEqual(new Set(fetched()), new Set([amd64.config, ...amd64.layers].map(({ digest }) => digest)));
  });

  test('may ask for the others meanwhile, which come once all the same', async t => {
    const { cache, ghcr } = await setUp(t);
    await cache.get(MANIFEST, { headers: ACCEPT });
    const replies = await Promise.all(BLOBS.map(blob => cache.get(pathOf(blob))));
    for (const [i, { body }] of replies.entries()) assert.ok(body.equals(bytesOf(BLOBS[i] ?? assert.fail())));
    assert.equal(ghcr.count({ endpoint: 'blobhost' }), BLOBS.length);
  });

  test('brings nothing else when the others are here', async t => {
    const { cache, fetched, settled, ghcr } = await setUp(t);
    for (const blob of BLOBS) await cache.get(pathOf(blob));
    await settled();
    ghcr.resetCounters();
    await cache.get(MANIFEST, { headers: ACCEPT });
    for (const blob of BLOBS) await cache.get(pathOf(blob));
    await settled();
    assert.deepEqual(fetched(), []);
    assert.equal(ghcr.count({ endpoint: 'blob' }), 0);
  });

  test('has what it waits for first: there is nothing ahead while others wait for permits', async t => {
    const { cache, ghcr, fetched } = await setUp(t);
    const busy = makeImage({ layers: Array.from({ length: 70 }, () => 2 * MIB), seed: 'busy' });
    ghcr.push('owner/busy', busy, 'v1');
    const held = ghcr.fault({ endpoint: 'blobhost', repository: 'owner/busy', stallAfter: 1_000 });
    const pulls = busy.layers.map(({ digest }) => cache.get(`/v2/owner/busy/blobs/${digest}`));
    await held.reached(32);
    await turns(50);
    await cache.get(MANIFEST, { headers: ACCEPT });
    await cache.get(pathOf(first));
    await turns(50);
    assert.deepEqual(
      fetched().filter(digest => BLOBS.some(blob => blob.digest === digest)),
      [first.digest],
    );
    held.remove();
    await Promise.all(pulls);
    cache.clock.advance(250);
    await until(() => BLOBS.every(({ digest }) => fetched().includes(digest)));
  });
});

describe('nothing is read ahead', () => {
  const cases: [
    who: string,
    options: Omit<TestCacheOptions, 'ghcr'>,
    pull: (get: Get, head: Get) => Promise<unknown>,
  ][] = [
    ['for who asks for manifests alone', {}, get => get(MANIFEST, { headers: ACCEPT })],
    [
      'for who asks by HEAD',
      {},
      async (get, head) => {
        await get(MANIFEST, { headers: ACCEPT });
        for (const blob of BLOBS) await head(pathOf(blob));
      },
    ],
    [
      'for who was not given the manifest, but asked whether it is there',
      {},
      async (get, head) => {
        await head(MANIFEST, { headers: ACCEPT });
        await get(pathOf(first));
      },
    ],
    ['for who asks for a blob without its manifest', {}, get => get(pathOf(first))],
    [
      'for who pulls lazily, range by range',
      {},
      async get => {
        await get(MANIFEST, { headers: ACCEPT });
        await get(pathOf(first), { headers: { range: 'bytes=10-20' } });
      },
    ],
    [
      'with `readAhead: false`',
      { config: { readAhead: false } },
      async get => {
        await get(MANIFEST, { headers: ACCEPT });
        await get(pathOf(first));
      },
    ],
    [
      'of another repository, for the same blob',
      {},
      async get => {
        await get(MANIFEST, { headers: ACCEPT });
        await get(`/v2/owner/other/blobs/${first.digest}`);
      },
    ],
  ];
  for (const [who, options, pull] of cases) {
    test(who, async t => {
      const { cache, ghcr, fetched, settled } = await setUp(t, options);
      ghcr.push('owner/other', image, 'v1');
      await pull(cache.get, cache.head);
      await settled();
      assert.ok(
        fetched().every(digest => digest === first.digest),
        `${fetched()}`,
      );
    });
  }

  test('of an image of which two blobs in a row cannot be had', async t => {
    const { cache, ghcr, fetched, settled } = await setUp(t);
    const broken = makeImage({ layers: Array.from({ length: 30 }, (_, i) => 1_000 + i), seed: 'broken' });
    ghcr.push('owner/app', broken, 'broken');
    for (const { digest } of broken.layers.slice(1)) ghcr.deleteBlob('owner/app', digest);
    await cache.get('/v2/owner/app/manifests/broken', { headers: ACCEPT });
    await cache.get(pathOf(broken.layers[0] ?? assert.fail()));
    await settled();
    assert.ok(ghcr.count({ endpoint: 'blob' }) < 20, `${ghcr.count({ endpoint: 'blob' })} were asked for`);
    assert.ok(fetched().length <= 2);
  });

  test('of a repository where that was wasted', async t => {
    const { cache, ghcr, fetched, settled, clock } = await setUp(t);
    const large = makeImage({ layers: [1_000, 40 * MIB], seed: 'large' });
    ghcr.push('owner/app', large, 'large');
    await cache.get('/v2/owner/app/manifests/large', { headers: ACCEPT });
    await cache.get(pathOf(large.config));
    await until(() => fetched().length === 3);
    await cache.settled();
    clock.advance(11 * 60_000);
    assert.match(cache.log(), /was read ahead, and no client has asked for it/);
    assert.match(cache.log(), /owner\/app is not read ahead for a day/);
    await cache.get(MANIFEST, { headers: ACCEPT });
    await cache.get(pathOf(first));
    await settled();
    assert.equal(fetched().length, 4);
  });
});

type Get = Awaited<ReturnType<typeof startBoth>>['cache']['get'];
