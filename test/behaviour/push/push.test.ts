// Pushing, as it should go: uploads of every kind, what reaches the upstream and when, mounts, manifests and their
// tags, the referrers of a subject, deletes, and the catalog. What goes wrong is in push-failures.test.ts.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import type { TestCache } from '../../support/cache.ts';
import { type Ghcr, type Switches, startGhcr } from '../../support/ghcr/ghcr.ts';
import {
  bytesOf,
  type Content,
  contentOf,
  makeImage,
  makeIndex,
  randomContent,
} from '../../support/images.ts';
import {
  assertCreated,
  assertNowhere,
  assertPushed,
  assertRefused,
  contentOnDisk,
  filesIn,
  inPieces,
  locationOf,
  MIB,
  NAME,
  PushClient,
  packageOf,
  SECRET,
  sentenceOf,
  startPushing,
  upstreamBlob,
  upstreamTag,
  WRITER,
} from '../../support/push-client.ts';
import { LOOPBACK_TLS } from '../../support/tls.ts';

/** For tests in which somebody waits for somebody: what would wait for ever fails. */
const LIMIT = { timeout: 20_000 };
/** Nothing times out while a test holds it up. */
const PATIENT = { connectMs: 2_000, headersMs: 15_000, stallMs: 15_000, uploadMs: 15_000 };
const BOTH: Partial<Switches> = { digests: ['sha256', 'sha512'] };

describe('uploads', () => {
  test('POST opens one, under a relative address that stays the same', async t => {
    const { ghcr, cache, client } = await startPushing(t);
    const opened = await client.start();
    const id = String(opened.headers['docker-upload-uuid']);
    assert.equal(opened.status, 202);
    assert.match(id, /^[0-9a-f-]{36}$/);
    assert.equal(opened.headers.location, `/v2/${NAME}/blobs/uploads/${id}`);
    assert.equal(opened.headers.range, '0-0');
    assert.equal(opened.headers['content-length'], '0');
    assert.equal(opened.headers['docker-distribution-api-version'], 'registry/2.0');
    const location = locationOf(opened);
    assert.equal(locationOf(await client.patch(location, 'some')), location);
    const status = await client.get(location);
    assert.deepEqual([status.status, status.headers.range, status.body.length], [204, '0-3', 0]);
    assert.equal(locationOf(status), location);
    // The upstream was asked, so that who may not push hears of it before the first byte.
    assert.equal(ghcr.count({ endpoint: 'upload-start', status: 202 }), 1);
    assert.deepEqual(filesIn(cache, 'ingest'), [id]);
  });

  const ways: Record<string, (client: PushClient, blob: Content, bytes: Buffer) => Promise<unknown>> = {
    'POST ?digest= with everything': (client, { digest }, bytes) => client.start({ digest }, bytes),
    'POST ?digest= in chunks of HTTP': (client, { digest }, bytes) =>
      client.start({ digest }, inPieces(bytes)),
    'PUT with everything': (client, blob) => client.put(blob),
    'PUT in chunks of HTTP': (client, blob, bytes) => client.put(blob, inPieces(bytes)),
    'one PATCH, then PUT': (client, blob) => client.stream(blob),
    'one PATCH in chunks of HTTP, then PUT': (client, blob, bytes) => client.stream(blob, inPieces(bytes)),
    'several PATCHes without a range': async (client, { digest }, bytes) => {
      const location = await client.open();
      for (const [first, last] of thirds(bytes)) await client.patch(location, bytes.subarray(first, last));
      return client.finish(location, digest);
    },
    'PATCHes with Content-Range': async (client, { digest }, bytes) => {
      let location = await client.open();
      for (const [first, last] of thirds(bytes)) {
        if (first === last) continue;
        const got = await client.patch(location, bytes.subarray(first, last), first);
        assert.deepEqual([got.status, got.headers.range], [202, `0-${last - 1}`], sentenceOf(got));
        location = locationOf(got);
      }
      return client.finish(location, digest, undefined, { 'content-length': '0' });
    },
    'the last chunk in the PUT': async (client, { digest }, bytes) => {
      const location = await client.open();
      const first = bytes.length >> 1;
      if (first > 0) await client.patch(location, bytes.subarray(0, first), 0);
      const range = { 'content-range': `${first}-${bytes.length - 1}` };
      return client.finish(location, digest, bytes.subarray(first), bytes.length > first ? range : {});
    },
    'the digest in a PUT whose length is only announced to be none': (client, { digest }, bytes) =>
      client.open().then(async location => {
        await client.patch(location, bytes);
        return client.finish(location, digest, '', { 'content-type': 'application/octet-stream' });
      }),
  };

  for (const [way, push] of Object.entries(ways)) {
    test(`${way}: 201, accepted by the upstream, and a hit`, async t => {
      const both = await startPushing(t);
      for (const sizeBytes of [0, 1000, MIB + 1]) {
        const blob = randomContent(sizeBytes, way);
        const got = (await push(both.client, blob, bytesOf(blob))) as Awaited<ReturnType<PushClient['put']>>;
        assertCreated(got);
        assert.equal(got.headers.location, `/v2/${NAME}/blobs/${blob.digest}`);
        assert.equal(got.headers['docker-content-digest'], blob.digest);
        assert.equal(got.headers['x-cache'], 'miss');
        await assertPushed(both, blob);
        assert((await contentOnDisk(both.cache)).includes(blob.digest));
      }
    });
  }

  test('an upload tells how far it is, and can be given up', LIMIT, async t => {
    const both = await startPushing(t);
    const { ghcr, cache, client } = both;
    const blob = randomContent(2 * MIB, 'cancelled');
    const location = await client.open();
    assert.equal(await client.offset(location), 0);
    for (const end of [MIB, 2 * MIB]) {
      assert.equal((await client.patch(location, bytesOf(blob, end - MIB, end))).status, 202);
      assert.equal(await client.offset(location), end);
    }
    await ghcr.until({ endpoint: 'upload', method: 'PATCH' });
    const cancelled = await client.cancel(location);
    assert.deepEqual([cancelled.status, cancelled.body.length], [204, 0]);
    for (const got of [
      await client.get(location),
      await client.patch(location, 'more'),
      await client.finish(location, blob.digest),
      await client.cancel(location),
    ]) {
      assertRefused(got, 404, 'BLOB_UPLOAD_UNKNOWN', /begin another/);
    }
    // What had been sent ahead is given up there too.
    await ghcr.until({ endpoint: 'upload', method: 'DELETE', state: 'finished' });
    assert.deepEqual(filesIn(cache, 'ingest'), []);
    await assertNowhere(both, blob);
  });

  test('addresses are relative, and keep how the request named the upstream', async t => {
    const { ghcr, cache } = await startPushing(t, { otherNames: ['registry.example'] });
    const image = makeImage({ layers: [100] });
    const rows: [string, string | undefined][] = [
      ['one/app', undefined],
      ['ghcr.io/two/app', undefined],
      ['registry.example/three/app', undefined],
      ['four/app', 'ghcr.io'],
      ['five/app', 'registry.example'],
    ];
    for (const [name, namespace] of rows) {
      const client = new PushClient(cache.url, name, namespace);
      const query = namespace === undefined ? '' : `?ns=${namespace}`;
      const opened = await client.start();
      const id = opened.headers['docker-upload-uuid'];
      assert.equal(opened.headers.location, `/v2/${name}/blobs/uploads/${id}${query}`);
      assert.equal(opened.headers['oci-namespace'], namespace);
      for (const blob of [image.config, ...image.layers]) {
        const got = await client.stream(blob);
        assert.equal(got.headers.location, `/v2/${name}/blobs/${blob.digest}${query}`);
        assert((await client.get(locationOf(got))).body.equals(bytesOf(blob)));
      }
      const got = await client.manifest(image.manifest, 'v1');
      assert.equal(got.headers.location, `/v2/${name}/manifests/${image.manifest.digest}${query}`);
      assert.equal(got.headers['oci-namespace'], namespace);
      assert.deepEqual((await client.get(locationOf(got))).body, image.manifest.bytes);
      assert.equal(upstreamTag(ghcr, 'v1', name.split('/').slice(-2).join('/')), image.manifest.digest);
    }
    const unknown = await new PushClient(cache.url, NAME, 'unknown.example').start();
    assertRefused(unknown, 404, 'NAME_UNKNOWN', /unknown\.example/);
  });

  test('what goes to another upstream goes there alone', async t => {
    const elsewhere = await startGhcr({ switches: { auth: 'none' } });
    t.after(() => elsewhere.close());
    const { ghcr, cache } = await startPushing(t, {
      config: { upstreams: { 'registry.example': { url: elsewhere.url } } },
    });
    const blob = randomContent(1000, 'elsewhere');
    assertCreated(await new PushClient(cache.url, `registry.example/${NAME}`).stream(blob));
    assert(upstreamBlob(elsewhere, blob)?.equals(bytesOf(blob)));
    assert.equal(ghcr.requests.length, 0);
    assert.equal((await new PushClient(cache.url).head(`blobs/${blob.digest}`)).status, 404);
  });

  test('sha512, whether that was said at the start or is found out at the end', async t => {
    const both = await startPushing(t, { stand: { switches: BOTH } });
    const { client } = both;
    const starts: Record<string, string>[] = [
      { 'digest-algorithm': 'sha512' },
      {},
      { 'digest-algorithm': 'sha256' },
    ];
    for (const [i, query] of starts.entries()) {
      for (const sizeBytes of [0, 1000, 1.5 * MIB]) {
        const blob = randomContent(sizeBytes, `sha512 ${i}`, 'sha512');
        const location = await client.open(query);
        await client.patch(location, bytesOf(blob));
        const got = await client.finish(location, blob.digest);
        assertCreated(got);
        assert.equal(got.headers['docker-content-digest'], blob.digest);
        await assertPushed(both, blob);
        assert.equal(
          (await client.head(`blobs/${blob.digest}`)).headers['docker-content-digest'],
          blob.digest,
        );
      }
    }
    const sha256 = randomContent(1000, 'in spite of it');
    const location = await client.open({ 'digest-algorithm': 'sha512' });
    assertCreated(await client.finish(location, sha256.digest, bytesOf(sha256)));
    const whole = randomContent(1000, 'at once', 'sha512');
    assertCreated(await client.start({ digest: whole.digest }, bytesOf(whole)));
    for (const blob of [sha256, whole]) await assertPushed(both, blob);
    assertRefused(
      await client.start({ 'digest-algorithm': 'md5' }),
      400,
      'DIGEST_INVALID',
      /md5/,
      /sha256, sha512/,
    );
  });

  test('chunks out of order are refused, and the upload goes on from where it stands', async t => {
    const both = await startPushing(t);
    const { client } = both;
    const blob = randomContent(3000, 'ordered');
    const bytes = bytesOf(blob);
    const location = await client.open();
    const assertStands = async (
      got: Awaited<ReturnType<typeof client.patch>>,
      at: number,
      code = 'RANGE_INVALID',
    ) => {
      assertRefused(got, 416, code);
      assert.equal(locationOf(got), location);
      assert.equal(got.headers.range, `0-${Math.max(0, at - 1)}`);
      assert.equal(await client.offset(locationOf(got)), at);
    };
    await assertStands(await client.patch(location, bytes.subarray(1000, 2000), 1000), 0);
    assert.equal((await client.patch(location, bytes.subarray(0, 1000), 0)).status, 202);
    for (const [first, last] of [
      [0, 1000],
      [999, 1999],
      [1001, 2000],
      [2000, 3000],
    ] as const) {
      await assertStands(await client.patch(location, bytes.subarray(first, last), first), 1000);
    }
    for (const range of ['bytes', '5', '2000-1000', '-1-5', 'a-b', '1000-']) {
      const headers = { 'content-range': range };
      await assertStands(
        await client.ask('PATCH', location, { headers, body: bytes.subarray(1000, 2000) }),
        1000,
      );
    }
    const headers = { 'content-range': '1000-1500' };
    const longer = await client.ask('PATCH', location, { headers, body: bytes.subarray(1000, 2000) });
    assertRefused(longer, 400, 'SIZE_INVALID', /501 bytes/);
    // In chunks of HTTP its length is known only when it is all here.
    const unknown = await client.open();
    for (const length of [400, 600]) {
      const body = inPieces(bytes.subarray(1000, 1000 + length));
      const got = await client.ask('PATCH', unknown, { headers: { 'content-range': '0-500' }, body });
      assert([400, 416].includes(got.status ?? 0), sentenceOf(got));
    }
    const early = { 'content-range': '2000-2999' };
    await assertStands(await client.finish(location, blob.digest, bytes.subarray(2000), early), 1000);
    assert.equal((await client.patch(location, bytes.subarray(1000, 2000), 1000)).status, 202);
    const right = { 'content-range': 'bytes 2000-2999/3000' };
    assertCreated(await client.finish(location, blob.digest, bytes.subarray(2000), right));
    await assertPushed(both, blob);
  });

  test('a wrong digest is refused, and nothing is kept anywhere', LIMIT, async t => {
    const both = await startPushing(t);
    const { ghcr, cache, client } = both;
    for (const sizeBytes of [0, 1000, 1.5 * MIB]) {
      const blob = randomContent(sizeBytes, 'came');
      const named = randomContent(sizeBytes, 'named instead', sizeBytes === 1000 ? 'sha512' : 'sha256');
      const wrong = sizeBytes === 0 ? contentOf('not empty') : named;
      const bytes = bytesOf(blob);
      const streamed = await client.open();
      assert.equal((await client.patch(streamed, bytes)).status, 202);
      const chunked = await client.open();
      if (sizeBytes > 0) assert.equal((await client.patch(chunked, bytes, 0)).status, 202);
      const whole = await client.open();
      for (const got of [
        await client.finish(streamed, wrong.digest),
        await client.finish(chunked, wrong.digest),
        await client.finish(whole, wrong.digest, bytes),
        await client.start({ digest: wrong.digest }, bytes),
      ]) {
        assertRefused(got, 400, 'DIGEST_INVALID', new RegExp(`${sizeBytes} bytes`));
        assert(errorText(got).includes(wrong.digest), 'names what was said');
      }
      for (const location of [streamed, chunked, whole]) {
        assertRefused(await client.get(location), 404, 'BLOB_UPLOAD_UNKNOWN');
      }
      for (const each of [blob, wrong]) await assertNowhere(both, each);
    }
    assert.deepEqual(await contentOnDisk(cache), []);
    assert.equal(packageOf(ghcr)?.blobs.size ?? 0, 0);
    // Where a forward had begun, it was given up.
    await ghcr.until({ endpoint: 'upload', method: 'DELETE', state: 'finished' });
  });

  test('a digest that is none leaves the upload as it is', async t => {
    const both = await startPushing(t);
    const blob = randomContent(1000, 'malformed');
    const location = await both.client.open();
    await both.client.patch(location, bytesOf(blob));
    for (const digest of [
      '',
      'sha256:',
      'sha256:abc',
      `md5:${'0'.repeat(32)}`,
      blob.digest.toUpperCase(),
      '../x',
    ]) {
      assertRefused(await both.client.finish(location, digest), 400, 'DIGEST_INVALID');
      assertRefused(await both.client.start({ digest }, bytesOf(blob)), 400, 'DIGEST_INVALID');
    }
    assertRefused(await both.client.ask('PUT', location), 400, 'DIGEST_INVALID');
    assertCreated(await both.client.finish(location, blob.digest));
    await assertPushed(both, blob);
  });

  test('an upload belongs to its repository, and an id that is none is unknown', async t => {
    const { cache, client } = await startPushing(t);
    const location = await client.open();
    const id = location.split('/').at(-1);
    for (const [name, named] of [
      ['owner/other', id],
      [NAME, 'x'],
      [NAME, '..%2F..%2Fmetadata.db'],
      [NAME, '00000000-0000-0000-0000-000000000000'],
    ]) {
      const theirs = new PushClient(cache.url, name);
      const path = `/v2/${name}/blobs/uploads/${named}`;
      for (const got of [
        await theirs.get(path),
        await theirs.patch(path, 'bytes'),
        await theirs.finish(path, contentOf('bytes').digest, 'bytes'),
        await theirs.cancel(path),
      ]) {
        assert.equal(got.status, 404, `${path} ${sentenceOf(got)}`);
      }
    }
    assert.equal(await client.offset(location), 0);
  });

  test(
    'a client that comes back goes on, though the connection that it lost does not look dead',
    LIMIT,
    async t => {
      const both = await startPushing(t);
      const { client } = both;
      const blob = randomContent(300_000, 'comes back');
      let location = await client.open();
      for (const first of [0, 100_000]) {
        const over = Promise.withResolvers<void>();
        const lost = client.patch(location, inPieces(bytesOf(blob, first), [[100_000, () => over.promise]]));
        while ((await client.offset(location)) < first + 100_000);
        const got = await client.patch(location, '');
        assert.deepEqual([got.status, got.headers.range], [202, `0-${first + 99_999}`], sentenceOf(got));
        location = locationOf(got);
        over.resolve();
        assert.equal((await lost).status, undefined);
      }
      assert.equal((await client.patch(location, bytesOf(blob, 200_000), 200_000)).status, 202);
      assertCreated(await client.finish(location, blob.digest));
      await assertPushed(both, blob);
    },
  );

  test('nor does it matter how little of the lost request had been done', LIMIT, async t => {
    const { client } = await startPushing(t);
    for (let between = 0; between < 30; between++) {
      const location = await client.open();
      const over = Promise.withResolvers<void>();
      const lost = client.patch(location, inPieces(Buffer.alloc(100_000), [[50_000, () => over.promise]]));
      for (let i = 0; i < between; i++) await new Promise(setImmediate);
      const got = await client.patch(location, '');
      assert.equal(got.status, 202, `${between}: ${sentenceOf(got)}`);
      over.resolve();
      await lost;
    }
  });

  test('who comes while an upload is being closed is wrong', LIMIT, async t => {
    const both = await startPushing(t, { timeouts: PATIENT });
    const { ghcr, client } = both;
    const blob = randomContent(1000, 'being closed');
    const location = await client.open();
    const hang = ghcr.fault({ endpoint: 'upload', hang: true });
    const closing = client.finish(location, blob.digest, bytesOf(blob));
    await hang.reached();
    for (const got of [
      await client.patch(location, 'others'),
      await client.finish(location, blob.digest),
      await client.cancel(location),
    ]) {
      assertRefused(got, 400, 'BLOB_UPLOAD_INVALID', /under way/);
    }
    hang.remove();
    assertCreated(await closing);
    await assertPushed(both, blob);
  });

  test('a thousand uploads may be open, and no more', async t => {
    const { client } = await startPushing(t);
    const locations: string[] = [];
    while (locations.length < 1000) {
      locations.push(...(await Promise.all(Array.from({ length: 50 }, () => client.open()))));
    }
    const refused = await client.start();
    assertRefused(refused, 429, 'TOOMANYREQUESTS', /1000 uploads are open/);
    assert.equal(refused.headers['retry-after'], '60');
    assert.equal((await client.cancel(locations[0] ?? '')).status, 204);
    assert.equal((await client.start()).status, 202);
    assert.equal((await client.start()).status, 429);
  });

  test('an upload that nobody sends to is given up after an hour', async t => {
    const { cache, clock, client } = await startPushing(t);
    const [abandoned, used] = [await client.open(), await client.open()];
    for (const location of [abandoned, used]) await client.patch(location, 'begun');
    clock.advance(50 * 60_000);
    await client.patch(used, 'and gone on with');
    clock.advance(10 * 60_000 + 1);
    const last = await client.open();
    assertRefused(await client.get(abandoned), 404, 'BLOB_UPLOAD_UNKNOWN', /given up/);
    assert.equal(await client.offset(used), 'begunand gone on with'.length);
    assert.deepEqual(filesIn(cache, 'ingest'), [used, last].map(idOf).sort());
  });
});

describe('restarts', () => {
  function folderOf(t: TestContext): string {
    const folder = mkdtempSync(join(tmpdir(), 'ghcr-cache-push-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    return join(folder, 'data');
  }

  test('an upload goes on where it was, under its address, by either algorithm', async t => {
    const data = folderOf(t);
    const both = await startPushing(t, { data, stand: { switches: BOTH } });
    for (const algorithm of ['sha256', 'sha512'] as const) {
      for (const sizeBytes of algorithm === 'sha512' ? [3000] : [3000, 1.5 * MIB]) {
        const blob = randomContent(sizeBytes, 'restarted', algorithm);
        const bytes = bytesOf(blob);
        let { cache } = both;
        let { client } = both;
        const restart = async () => {
          await cache.stop();
          cache = await both.startCache(data);
          client = new PushClient(cache.url);
        };
        await restart();
        const location = (await client.open({ 'digest-algorithm': algorithm })).replace(cache.url, '');
        const cuts = [0, sizeBytes / 3, (sizeBytes / 3) * 2];
        for (const [i, first] of cuts.entries()) {
          assert.equal(await client.offset(location), first);
          const chunk = bytes.subarray(first, cuts[i + 1]);
          assert.equal((await client.patch(location, chunk, i === 1 ? undefined : first)).status, 202);
          await restart();
        }
        assert.equal(await client.offset(location), sizeBytes);
        assertCreated(await client.finish(location, blob.digest));
        await assertPushed({ ghcr: both.ghcr, cache }, blob);
        assert.deepEqual(filesIn(cache, 'ingest'), []);
        await cache.stop();
      }
    }
  });

  test('what was pushed is there after a restart, with the upstream away', async t => {
    const data = folderOf(t);
    const both = await startPushing(t, { data });
    const image = makeImage({ layers: [1000, 2 * MIB] });
    await both.client.image(image, 'v1');
    await both.cache.stop();
    await both.ghcr.stop();
    const client = new PushClient((await both.startCache(data)).url);
    const got = await client.get('manifests/v1');
    assert.deepEqual([got.headers['x-cache'], got.body], ['hit', image.manifest.bytes]);
    for (const blob of image.layers) {
      const layer = await client.get(`blobs/${blob.digest}`);
      assert(layer.headers['x-cache'] === 'hit' && layer.body.equals(bytesOf(blob)));
    }
  });

  test('what cannot be gone on with is removed at the start', async t => {
    const data = folderOf(t);
    const both = await startPushing(t, { data });
    const [kept, lost] = [await both.client.open(), await both.client.open()];
    for (const location of [kept, lost]) await both.client.patch(location, 'bytes');
    const finished = randomContent(1000, 'finished');
    assertCreated(await both.client.stream(finished));
    await both.cache.stop();
    writeFileSync(join(data, 'ingest', '123-4'), 'what an ingest without a name left');
    writeFileSync(
      join(data, 'ingest', '00000000-0000-0000-0000-000000000000'),
      'an upload that nobody knows',
    );
    rmSync(join(data, 'ingest', idOf(lost)));
    const second = await both.startCache(data);
    assert.deepEqual(filesIn(second, 'ingest'), [idOf(kept)]);
    const client = new PushClient(second.url);
    assert.equal(await client.offset(kept), 5);
    assertRefused(await client.get(lost), 404, 'BLOB_UPLOAD_UNKNOWN');
  });

  test('uploads that an earlier process left are given up, too', async t => {
    const data = folderOf(t);
    const both = await startPushing(t, { data });
    await both.client.patch(await both.client.open(), 'bytes');
    await both.cache.stop();
    const second = await both.startCache(data);
    both.clock.advance(3_600_001);
    const other = await new PushClient(second.url).open();
    assert.deepEqual(filesIn(second, 'ingest'), [idOf(other)]);
    await second.stop();
    both.clock.advance(24 * 3_600_000);
    assert.deepEqual(filesIn(await both.startCache(data), 'ingest'), []);
  });
});

describe('forwarding', () => {
  test('bytes reach the upstream while the client is still sending', LIMIT, async t => {
    const both = await startPushing(t, { timeouts: PATIENT });
    const { ghcr, client } = both;
    const blob = randomContent(4 * MIB, 'while it comes');
    const reached = ghcr.fault({ endpoint: 'upload', method: 'PATCH', stallRequestAfter: 2 * MIB - 1 });
    const location = await client.open();
    const seen: number[] = [];
    const wait = async () => {
      await reached.reached();
      seen.push(ghcr.received({ endpoint: 'upload' }));
      reached.remove();
    };
    assert.equal((await client.patch(location, inPieces(bytesOf(blob), [[2 * MIB, wait]]))).status, 202);
    assert.deepEqual(seen, [2 * MIB - 1]);
    assertCreated(await client.finish(location, blob.digest));
    await assertPushed(both, blob);
  });

  test('a large blob goes up as one streamed PATCH without a range, a small one as one PUT', async t => {
    const { ghcr, client } = await startPushing(t);
    const [large, small] = [randomContent(9 * MIB, 'large'), randomContent(MIB - 1, 'small')];
    const location = await client.open();
    for (let first = 0; first < large.sizeBytes; first += MIB) {
      assert.equal((await client.patch(location, bytesOf(large, first, first + MIB), first)).status, 202);
    }
    assertCreated(await client.finish(location, large.digest));
    const sent = ghcr.requests.filter(({ endpoint }) => endpoint === 'upload');
    assert.deepEqual(
      sent.map(({ method, bytesReceived, headers }) => [method, bytesReceived, headers['content-length']]),
      [
        ['PATCH', 9 * MIB, undefined],
        ['PUT', 0, '0'],
      ],
    );
    assert(sent.every(({ headers }) => headers['content-range'] === undefined));
    ghcr.resetCounters();
    assertCreated(await client.stream(small));
    const [put, ...others] = ghcr.requests.filter(({ endpoint }) => endpoint === 'upload');
    assert.deepEqual([put?.method, put?.headers['content-length'], others], ['PUT', String(MIB - 1), []]);
  });

  test('a client that is faster than the upstream is held back', LIMIT, async t => {
    const { ghcr, client } = await startPushing(t, { timeouts: PATIENT });
    // Beside what may be ahead some MiB are in sockets.
    const blob = randomContent(48 * MIB, 'held back');
    const stall = ghcr.fault({ endpoint: 'upload', method: 'PATCH', stallRequestAfter: MIB });
    const location = await client.open();
    let isDone = false;
    const patching = client.patch(location, inPieces(bytesOf(blob), [], MIB)).finally(() => {
      isDone = true;
    });
    while ((await client.offset(location)) < 16 * MIB);
    for (let i = 0; i < 50; i++) assert((await client.offset(location)) < 40 * MIB && !isDone);
    stall.remove();
    assert.equal((await patching).status, 202);
    assertCreated(await client.finish(location, blob.digest));
    assert.equal(ghcr.received({ endpoint: 'upload' }), blob.sizeBytes);
  });

  const locations: [string, Partial<Switches>][] = [
    ['relative', {}],
    ['absolute', { uploadLocation: 'absolute' }],
    ['relative, with a state that changes', { uploadState: true }],
    ['absolute, with a state that changes', { uploadLocation: 'absolute', uploadState: true }],
    ['with a query of its own', { uploadLocation: path => `${path}?a=b&c=d%20e` }],
  ];
  for (const [name, switches] of locations) {
    test(`the upstream's Location may be ${name}`, async t => {
      const both = await startPushing(t, { stand: { switches } });
      const { ghcr, client } = both;
      const [small, large] = [randomContent(1000, name), randomContent(1.5 * MIB, name)];
      assertCreated(await client.stream(small));
      assertCreated(await client.streamAhead(ghcr, large));
      for (const blob of [small, large]) await assertPushed(both, blob);
      const sent = ghcr.requests.filter(({ endpoint }) => endpoint === 'upload');
      // At the first try.
      assert.deepEqual(
        sent.map(({ method, status }) => [method, status]),
        [
          ['PUT', 201],
          ['PATCH', 202],
          ['PUT', 201],
        ],
      );
      const queries = sent.map(({ path }) => path);
      assert(!name.includes('own') || queries.every(path => /\?a=b&c=d(%20|\+)e/.test(path)), queries.join());
    });
  }

  test('an upstream may ask nobody, or want the credential on every request', async t => {
    for (const auth of ['none', 'basic'] as const) {
      const both = await startPushing(t, { stand: { switches: { auth } } });
      await both.client.image(makeImage({ layers: [1000, 2 * MIB] }), 'v1');
      for (const blob of makeImage({ layers: [1000, 2 * MIB] }).layers) await assertPushed(both, blob);
      const kinds = new Set(both.ghcr.requests.slice(1).map(({ authorization }) => authorization));
      assert.deepEqual([...kinds], [auth]);
    }
  });

  test('what the upstream has is not sent again', async t => {
    const both = await startPushing(t);
    const { ghcr, client } = both;
    for (const sizeBytes of [0, 1000, 1.5 * MIB]) {
      for (const push of [
        (blob: Content) => client.put(blob),
        (blob: Content) => client.start({ digest: blob.digest }, bytesOf(blob)),
        ...(sizeBytes < MIB ? [(blob: Content) => client.stream(blob)] : []),
      ]) {
        const blob = randomContent(sizeBytes, `there ${push}`);
        ghcr.addBlob(NAME, blob);
        ghcr.resetCounters();
        assertCreated(await push(blob));
        assert.equal(ghcr.received(), 0);
        assert.equal(ghcr.count({ endpoint: 'blob', method: 'HEAD', digest: blob.digest }), 1);
        await assertPushed(both, blob);
      }
    }
  });

  test('what was pushed is not sent again when it is pushed again', async t => {
    const both = await startPushing(t);
    const blob = randomContent(2 * MIB, 'again');
    assertCreated(await both.client.put(blob));
    both.ghcr.resetCounters();
    assertCreated(await both.client.put(blob));
    assert.equal(both.ghcr.received(), 0);
    assert.deepEqual(await contentOnDisk(both.cache), [blob.digest]);
  });

  test('thirty clients push the same layer at once, and it goes up once', LIMIT, async t => {
    const both = await startPushing(t, { timeouts: PATIENT });
    const { ghcr, client } = both;
    const large = randomContent(1.5 * MIB, 'thirty');
    // Held, so that all of them are on their way while the first is.
    const stall = ghcr.fault({ endpoint: 'upload', method: 'PATCH', stallRequestAfter: 500_000 });
    const uploads = await Promise.all(Array.from({ length: 30 }, () => client.open()));
    const patched = await Promise.all(uploads.map(location => client.patch(location, bytesOf(large))));
    assert(patched.every(({ status }) => status === 202));
    await stall.reached();
    stall.remove();
    const outcomes = await Promise.all(uploads.map(location => client.finish(location, large.digest)));
    for (const got of outcomes) assertCreated(got);
    assert.equal(ghcr.received({ endpoint: 'upload' }), large.sizeBytes);
    assert.equal(ghcr.count({ endpoint: 'upload', method: 'PATCH' }), 1);
    assert.equal(outcomes.filter(({ headers }) => headers['x-cache'] === 'miss').length, 1);
    await assertPushed(both, large);

    const small = randomContent(10 * 1024, 'thirty');
    ghcr.resetCounters();
    const pushes = Array.from({ length: 30 }, (_, i) => (i % 2 ? client.put(small) : client.stream(small)));
    for (const got of await Promise.all(pushes)) assertCreated(got);
    assert.equal(ghcr.received({ endpoint: 'upload' }), small.sizeBytes);
    await assertPushed(both, small);
    assert.deepEqual(await contentOnDisk(both.cache), [large.digest, small.digest].sort());
  });

  test('the same content into two repositories at once is in both', async t => {
    const both = await startPushing(t);
    for (const sizeBytes of [1000, 1.5 * MIB]) {
      const blob = randomContent(sizeBytes, 'two');
      const names = ['owner/one', 'owner/two'];
      const pushes = names.map(name => new PushClient(both.cache.url, name).stream(blob));
      for (const got of await Promise.all(pushes)) assertCreated(got);
      for (const name of names) await assertPushed(both, blob, name);
      assert(both.ghcr.received({ endpoint: 'upload' }) <= 2 * sizeBytes);
      both.ghcr.resetCounters();
    }
    assert.equal((await contentOnDisk(both.cache)).length, 2);
  });

  test('different contents that begin alike, pushed at once, both end right', LIMIT, async t => {
    const both = await startPushing(t);
    const { client } = both;
    // By how much each is longer than what they have in common, in the order in which they are closed.
    const rows = [
      [500_000, 500_000],
      [300_000, 600_000],
      [600_000, 300_000],
      [0, 300_000],
      [300_000, 0],
      [1, 0],
    ] as const;
    for (const [row, lengths] of rows.entries()) {
      const common = bytesOf(randomContent(MIB, `common ${row}`));
      const [a, b] = lengths.map((sizeBytes, i) =>
        contentOf(Buffer.concat([common, bytesOf(randomContent(sizeBytes, `${row} ${i}`))])),
      ) as [Content, Content];
      const [locationA, locationB] = [await client.open(), await client.open()];
      // Both have begun before either ends; the second is still sending when the first is closed.
      const last = b.sizeBytes - 10;
      await Promise.all([client.patch(locationA, bytesOf(a)), client.patch(locationB, bytesOf(b, 0, last))]);
      const first = client.finish(locationA, a.digest);
      await client.patch(locationB, bytesOf(b, last));
      const second = await client.finish(locationB, b.digest);
      for (const got of [await first, second]) assert.equal(got.status, 201, `${lengths} ${sentenceOf(got)}`);
      for (const blob of [a, b]) await assertPushed(both, blob);
    }
    assert.equal((await contentOnDisk(both.cache)).length, 2 * rows.length);
  });

  test('of two who push the same, one that is ahead gives up, and the other completes', LIMIT, async t => {
    const both = await startPushing(t, { timeouts: PATIENT });
    const { ghcr, client } = both;
    const blob = randomContent(4 * MIB, 'ahead');
    const stall = ghcr.fault({ endpoint: 'upload', method: 'PATCH', stallRequestAfter: 2.5 * MIB });
    const [ahead, behind] = [await client.open(), await client.open()];
    await client.patch(ahead, bytesOf(blob, 0, 3 * MIB));
    await client.patch(behind, bytesOf(blob, 0, 1.5 * MIB));
    await stall.reached();
    assert.equal((await client.cancel(ahead)).status, 204);
    stall.remove();
    assert.equal((await client.patch(behind, bytesOf(blob, 1.5 * MIB))).status, 202);
    assertCreated(await client.finish(behind, blob.digest));
    await assertPushed(both, blob);
  });
});

describe('mounts', () => {
  const blob = randomContent(1.5 * MIB, 'mounted');
  const SOURCE = 'other/base';

  test('from a repository that is named: done by the upstream, without a byte, and a hit if it is here', async t => {
    for (const [name, from, query] of [
      [NAME, SOURCE, ''],
      [`ghcr.io/${NAME}`, `ghcr.io/${SOURCE}`, ''],
      [NAME, SOURCE, '?ns=ghcr.io'],
    ] as const) {
      const both = await startPushing(t);
      const { ghcr, cache } = both;
      ghcr.addBlob(SOURCE, blob);
      const client = new PushClient(cache.url, name, query === '' ? undefined : 'ghcr.io');
      await new PushClient(cache.url, SOURCE).get(`blobs/${blob.digest}`);
      await cache.settled();
      ghcr.resetCounters();
      const got = await client.start({ mount: blob.digest, from });
      assertCreated(got);
      assert.equal(got.headers.location, `/v2/${name}/blobs/${blob.digest}${query}`);
      assert.equal(got.headers['docker-content-digest'], blob.digest);
      const [asked] = ghcr.requests.filter(({ endpoint }) => endpoint === 'upload-start');
      assert.match(asked?.path ?? '', /mount=sha256(:|%3A)[0-9a-f]{64}&from=other(\/|%2F)base$/);
      const scopes = ghcr.requests.filter(({ endpoint }) => endpoint === 'token').map(({ path }) => path);
      assert(scopes.some(path => decodeURIComponent(path).includes(`repository:${SOURCE}:pull`)));
      assert.equal(ghcr.received(), 0);
      await assertPushed(both, blob);
    }
  });

  test('of what is not here: it is there all the same', async t => {
    const { ghcr, cache, client } = await startPushing(t);
    ghcr.addBlob(SOURCE, blob);
    assertCreated(await client.start({ mount: blob.digest, from: SOURCE }));
    assert.deepEqual(await contentOnDisk(cache), []);
    assert((await client.get(`blobs/${blob.digest}`)).body.equals(bytesOf(blob)));
  });

  test('from anywhere: of what was pulled or pushed here', async t => {
    const both = await startPushing(t);
    assertCreated(await new PushClient(both.cache.url, SOURCE).stream(blob));
    both.ghcr.resetCounters();
    assertCreated(await both.client.start({ mount: blob.digest }));
    assert.equal(both.ghcr.received(), 0);
    await assertPushed(both, blob);
  });

  test('what cannot be mounted becomes an upload', async t => {
    const both = await startPushing(t, { otherNames: ['registry.example'] });
    const { ghcr, cache, client } = both;
    ghcr.addBlob(SOURCE, blob);
    const queries: Record<string, string>[] = [
      { mount: blob.digest, from: 'other/none' },
      { mount: blob.digest },
      { mount: randomContent(5, 'unknown').digest, from: SOURCE },
      { mount: blob.digest, from: `registry.example/${SOURCE}` },
    ];
    for (const query of queries) {
      const got = await client.start(query);
      assert.equal(got.status, 202, sentenceOf(got));
      assert.match(String(got.headers.location), new RegExp(`^/v2/${NAME}/blobs/uploads/[0-9a-f-]{36}$`));
      const small = randomContent(1000, JSON.stringify(query));
      assertCreated(await client.finish(locationOf(got), small.digest, bytesOf(small)));
      await assertPushed(both, small);
    }
    assert.equal(upstreamBlob(ghcr, blob), undefined);
    assert(!(await contentOnDisk(cache)).includes(blob.digest));
    assertRefused(await client.start({ mount: 'sha256:x', from: SOURCE }), 400, 'DIGEST_INVALID');
    assertRefused(await client.start({ mount: blob.digest, from: 'Not/A//Name' }), 400, 'NAME_INVALID');
  });

  test('where the upstream does not mount it is sent from here, and not by the client', LIMIT, async t => {
    const both = await startPushing(t);
    const { ghcr, cache, client } = both;
    assertCreated(await new PushClient(cache.url, SOURCE).stream(blob));
    ghcr.resetCounters();
    const location = { location: `/v2/${NAME}/blobs/upload/instead` };
    ghcr.fault({ endpoint: 'upload-start', digest: blob.digest, answer: { status: 202, headers: location } });
    assertCreated(await client.start({ mount: blob.digest, from: SOURCE }));
    assert.equal(ghcr.received(), blob.sizeBytes);
    await assertPushed(both, blob);
    // The upload that the upstream opened in its place is not left there.
    await ghcr.until({ endpoint: 'upload', upload: 'instead', method: 'DELETE' });
  });

  test('a mount that the upstream only claims is none', async t => {
    const { ghcr, client } = await startPushing(t);
    ghcr.addBlob(SOURCE, blob);
    ghcr.fault({ endpoint: 'upload-start', digest: blob.digest, answer: { status: 201 } });
    assert.equal((await client.start({ mount: blob.digest, from: SOURCE })).status, 202);
    assert.equal((await client.head(`blobs/${blob.digest}`)).status, 404);
  });
});

describe('what was pushed is a hit', () => {
  test('no blob and no manifest is asked of the upstream for it', async t => {
    const both = await startPushing(t);
    const { ghcr, client } = both;
    const images = ['arm64', 'amd64'].map(architecture =>
      makeImage({ layers: [1000, 2 * MIB], platform: { os: 'linux', architecture } }),
    );
    const index = makeIndex(images);
    await client.image(index, 'v1');
    ghcr.resetCounters();
    const manifests = [
      ['v1', index] as const,
      ...[...images, index].map(each => [each.manifest.digest, each] as const),
    ];
    for (const [reference, { manifest }] of manifests) {
      const got = await client.get(`manifests/${reference}`);
      assert.deepEqual([got.headers['x-cache'], got.body], ['hit', manifest.bytes]);
      assert.equal(got.headers['docker-content-digest'], manifest.digest);
      assert.equal(got.headers['content-type'], manifest.mediaType);
    }
    for (const { config, layers } of images)
      for (const blob of [config, ...layers]) await assertPushed(both, blob);
    assert.equal(ghcr.requests.length, 0);
  });

  test('that something was not there a moment ago is not remembered', async t => {
    const { ghcr, client } = await startPushing(t);
    const image = makeImage({ layers: [1000] });
    const layer = image.layers[0] ?? assert.fail();
    const paths = [
      `blobs/${layer.digest}`,
      'manifests/v1',
      `manifests/${image.manifest.digest}`,
      'tags/list',
    ];
    for (const path of paths) {
      assert.equal((await client.head(path)).status, 404, path);
      assert.equal((await client.get(path)).status, 404, path);
    }
    await client.parts(image);
    for (const path of paths.slice(0, 1)) assert.equal((await client.get(path)).status, 200, path);
    assertCreated(await client.manifest(image.manifest, 'v1'));
    for (const path of paths) {
      assert.equal((await client.head(path)).status, 200, path);
      assert.equal((await client.get(path)).status, 200, path);
    }
    assert.deepEqual(await client.tags(), ['v1']);
    assert.equal(ghcr.count({ endpoint: 'blobhost' }), 0);
  });

  test('what was pushed to one repository is not there in another', async t => {
    const { cache, client } = await startPushing(t);
    const image = makeImage({ layers: [1000] });
    await client.image(image, 'v1');
    const other = new PushClient(cache.url, 'owner/other');
    for (const path of [
      'manifests/v1',
      `manifests/${image.manifest.digest}`,
      `blobs/${image.config.digest}`,
    ]) {
      assert.equal((await other.get(path)).status, 404, path);
    }
  });
});

describe('catalog', () => {
  test('holds what is here, in pages, with the upstream where that is not the default one', async t => {
    const { ghcr, cache } = await startPushing(t, { otherNames: ['registry.example'] });
    const image = makeImage({ layers: [10] });
    const list = async (query: string) => {
      const got = await new PushClient(cache.url).get(`/v2/_catalog${query}`);
      assert.equal(got.status, 200, sentenceOf(got));
      return { found: JSON.parse(got.body.toString()).repositories, link: got.headers.link };
    };
    assert.deepEqual((await list('')).found, []);
    for (const name of ['b/app', 'a/app', 'a/b/c', 'registry.example/a/app']) {
      await new PushClient(cache.url, name).image(image, 'v1');
    }
    ghcr.push('pulled/app', image, 'v1');
    await new PushClient(cache.url, 'pulled/app').get('manifests/v1');
    const all = ['a/app', 'a/b/c', 'b/app', 'pulled/app', 'registry.example/a/app'];
    ghcr.resetCounters();
    assert.deepEqual(await list(''), { found: all, link: undefined });
    assert.deepEqual(await list('?n=2'), {
      found: all.slice(0, 2),
      link: '</v2/_catalog?n=2&last=a%2Fb%2Fc>; rel="next"',
    });
    assert.deepEqual(await list('?n=2&last=a%2Fb%2Fc'), {
      found: all.slice(2, 4),
      link: '</v2/_catalog?n=2&last=pulled%2Fapp>; rel="next"',
    });
    assert.deepEqual(await list('?n=2&last=pulled%2Fapp'), { found: all.slice(4), link: undefined });
    assert.deepEqual(await list('?n=5'), { found: all, link: undefined });
    assert.deepEqual((await list('?last=a/bz')).found, all.slice(2));
    assert.deepEqual(await list('?n=0'), { found: [], link: undefined });
    assert.deepEqual((await list('?ns=registry.example')).found, ['a/app']);
    assert.deepEqual(await list('?ns=ghcr.io&n=1'), {
      found: ['a/app'],
      link: '</v2/_catalog?n=1&last=a%2Fapp&ns=ghcr.io>; rel="next"',
    });
    const got = await new PushClient(cache.url).get('/v2/_catalog?n=many');
    assertRefused(got, 400, 'PAGINATION_NUMBER_INVALID', /many/);
    assert.equal(ghcr.requests.length, 0);
  });
});

describe('push: off', () => {
  test('nothing is written, and everything can be pulled', async t => {
    const { ghcr, cache, client } = await startPushing(t, { config: { push: 'off' } });
    const image = makeImage({ layers: [1000] });
    ghcr.push(NAME, image, 'v1');
    const before = ghcr.packages().length;
    const { digest } = randomContent(10);
    for (const [method, path] of [
      ['POST', 'blobs/uploads/'],
      ['POST', `blobs/uploads/?digest=${digest}`],
      ['POST', `blobs/uploads/?mount=${image.config.digest}&from=owner/other`],
      ['PATCH', 'blobs/uploads/x'],
      ['PUT', `blobs/uploads/x?digest=${digest}`],
      ['PUT', 'manifests/v2'],
      ['DELETE', 'manifests/v1'],
      ['DELETE', `manifests/${image.manifest.digest}`],
      ['DELETE', `blobs/${image.config.digest}`],
    ] as const) {
      const got = await client.ask(method, path, { body: method === 'DELETE' ? '' : Buffer.alloc(MIB) });
      assertRefused(got, 403, 'DENIED', /push: off/);
    }
    assert.equal(ghcr.requests.length, 0);
    assert.deepEqual(filesIn(cache, 'ingest'), []);
    assert.deepEqual((await client.get('manifests/v1')).body, image.manifest.bytes);
    assert.equal((await client.get(`blobs/${image.config.digest}`)).status, 200);
    assert.equal(ghcr.packages().length, before);
  });
});

describe('credentials', () => {
  /** The secret is in no file and no log line, and went to the realm, the package interface and, if `basic`, the registry. */
  function assertNothingLeaked(cache: TestCache, ghcr: Ghcr, basic = false): void {
    const encoded = Buffer.from(`${WRITER.username}:${SECRET}`).toString('base64');
    const files = readdirSync(cache.data, { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile())
      .map(entry => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
    for (const text of [cache.log(), ...files]) assert(!text.includes(SECRET) && !text.includes(encoded));
    for (const { endpoint, headers, path } of ghcr.requests) {
      const sent = JSON.stringify(headers) + path;
      if (sent.includes(SECRET)) assert.equal(endpoint, 'api');
      if (sent.includes(encoded))
        assert(endpoint === 'token' || (basic && endpoint !== 'blobhost'), endpoint);
    }
  }

  test('go to the realm for a token to push, which goes to the registry', async t => {
    const { ghcr, cache, client } = await startPushing(t);
    const images = ['a', 'b'].map(seed => makeImage({ layers: [1000, 2 * MIB], seed }));
    for (const [i, image] of images.entries()) await client.image(image, `v${i}`);
    assert.equal((await client.delete('manifests/v0')).status, 202);
    assert((await client.get(`blobs/${images[1]?.config.digest}`)).status === 200);
    const scopes = ghcr.requests
      .filter(({ endpoint }) => endpoint === 'token')
      .map(({ path }) => new URL(path, ghcr.url).searchParams.get('scope'));
    // One each, however many uploads there were.
    assert.equal(scopes.filter(scope => scope === `repository:${NAME}:pull,push`).length, 1);
    assert.equal(new Set(scopes).size, scopes.length);
    assert(ghcr.count({ endpoint: 'api' }) > 0);
    assertNothingLeaked(cache, ghcr);
  });

  test('go to a registry that wants them on every request, and to no blob host', async t => {
    const { ghcr, cache, client } = await startPushing(t, { stand: { switches: { auth: 'basic' } } });
    await client.image(makeImage({ layers: [2 * MIB] }), 'v1');
    const blob = randomContent(10, 'pulled');
    ghcr.addBlob(NAME, blob);
    assert.equal((await client.get(`blobs/${blob.digest}`)).status, 200);
    assertNothingLeaked(cache, ghcr, true);
  });

  test('do not follow an upload to another host, and over plain HTTP it does not go there at all', async t => {
    const elsewhere = await startGhcr({ tls: LOOPBACK_TLS, hostname: 'localhost' });
    const plain = await startGhcr();
    t.after(() => Promise.all([elsewhere.close(), plain.close()]));
    for (const [host, ca] of [
      [elsewhere, 'ca.pem'],
      [plain, undefined],
    ] as const) {
      for (const sizeBytes of [1000, 2 * MIB]) {
        const { ghcr, cache, client } = await startPushing(t, {
          stand: { switches: { uploadLocation: path => host.url + path } },
          ...(ca && { upstream: { ca }, files: { [ca]: LOOPBACK_TLS.cert } }),
        });
        const got = await client.put(randomContent(sizeBytes, 'elsewhere'));
        assert.equal(got.status, 502, sentenceOf(got));
        assertNothingLeaked(cache, ghcr);
        assert.equal(host.requests.length > 0, host === elsewhere);
        for (const { authorization } of host.requests) assert.equal(authorization, 'none');
        host.resetCounters();
      }
    }
  });

  test('are in no answer, even when the upstream repeats them', async t => {
    const encoded = Buffer.from(`${WRITER.username}:${SECRET}`).toString('base64');
    for (const endpoint of ['upload-start', 'token', 'api'] as const) {
      const { ghcr, cache, client } = await startPushing(t);
      const message = `not ${SECRET}${endpoint === 'api' ? '' : `, nor ${encoded}`}`;
      const body = endpoint === 'api' ? { message } : { errors: [{ code: 'DENIED', message }] };
      ghcr.fault({ endpoint, answer: { status: 403, body } });
      const got = await (endpoint === 'api' ? client.delete('manifests/v1') : client.start());
      assertRefused(got, 403, 'DENIED', /[Cc]redential "ci"/);
      assert(!got.body.includes(SECRET) && !got.body.includes(encoded));
      assertNothingLeaked(cache, ghcr);
    }
  });
});

function thirds({ length }: Buffer): [number, number][] {
  const third = Math.ceil(length / 3);
  return [0, 1, 2].map(i => [Math.min(length, i * third), Math.min(length, (i + 1) * third)]);
}

function idOf(location: string): string {
  return location.split('/').at(-1) ?? '';
}

function errorText({ body }: { body: Buffer }): string {
  return body.toString();
}
