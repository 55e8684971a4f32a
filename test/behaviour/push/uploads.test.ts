// Uploads as clients send them: their addresses, chunks, digests and algorithms; several requests for one; how long they
// stay open.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { until } from '../../support/async.ts';
import { startGhcr } from '../../support/ghcr/ghcr.ts';
import { bytesOf, type Content, contentOf, makeImage, randomContent } from '../../support/images.ts';
import {
  ALL_DIGESTS,
  assertCreated,
  assertError,
  assertNowhere,
  assertPushed,
  contentOnDisk,
  filesIn,
  idOf,
  inPieces,
  LIMIT,
  locationOf,
  MIB,
  NAME,
  PATIENT,
  PushClient,
  packageOf,
  sentenceOf,
  startPushing,
  upstreamBlob,
  upstreamTag,
} from '../../support/push-client.ts';

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
    // The upstream was asked, so that a client without the right to push is told before the first byte.
    assert.equal(ghcr.count({ endpoint: 'upload-start', status: 202 }), 1);
    assert.deepEqual(filesIn(cache, 'ingest'), [id]);
  });

  const ways: Record<string, (client: PushClient, blob: Content, bytes: Buffer) => Promise<unknown>> = {
    'POST ?digest= with everything': (client, { digest }, bytes) => client.start({ digest }, bytes),
    'POST ?digest= with chunked encoding': (client, { digest }, bytes) => client.start({ digest }, inPieces(bytes)),
    'PUT with everything': (client, blob) => client.put(blob),
    'PUT with chunked encoding': (client, blob, bytes) => client.put(blob, inPieces(bytes)),
    'one PATCH, then PUT': (client, blob) => client.stream(blob),
    'one PATCH with chunked encoding, then PUT': (client, blob, bytes) => client.stream(blob, inPieces(bytes)),
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
    'a PUT with an empty body': (client, { digest }, bytes) =>
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

  test('an upload reports its offset, and can be cancelled', LIMIT, async t => {
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
      assertError(got, 404, 'BLOB_UPLOAD_UNKNOWN', /begin another/);
    }
    // What had been sent ahead is cancelled upstream too.
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
    assertError(unknown, 404, 'NAME_UNKNOWN', /unknown\.example/);
  });

  test('a push to another upstream goes to that one only', async t => {
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

  test('sha512, named at the start or only at the end', async t => {
    const both = await startPushing(t, { fake: { switches: ALL_DIGESTS } });
    const { client } = both;
    const starts: Record<string, string>[] = [{ 'digest-algorithm': 'sha512' }, {}, { 'digest-algorithm': 'sha256' }];
    for (const [i, query] of starts.entries()) {
      for (const sizeBytes of [0, 1000, 1.5 * MIB]) {
        const blob = randomContent(sizeBytes, `sha512 ${i}`, 'sha512');
        const location = await client.open(query);
        await client.patch(location, bytesOf(blob));
        const got = await client.finish(location, blob.digest);
        assertCreated(got);
        assert.equal(got.headers['docker-content-digest'], blob.digest);
        await assertPushed(both, blob);
        assert.equal((await client.head(`blobs/${blob.digest}`)).headers['docker-content-digest'], blob.digest);
      }
    }
    const sha256 = randomContent(1000, 'in spite of it');
    const location = await client.open({ 'digest-algorithm': 'sha512' });
    assertCreated(await client.finish(location, sha256.digest, bytesOf(sha256)));
    const whole = randomContent(1000, 'at once', 'sha512');
    assertCreated(await client.start({ digest: whole.digest }, bytesOf(whole)));
    for (const blob of [sha256, whole]) await assertPushed(both, blob);
    assertError(await client.start({ 'digest-algorithm': 'md5' }), 400, 'DIGEST_INVALID', /md5/, /sha256, sha512/);
  });

  test('chunks out of order are rejected, and the upload goes on from its offset', async t => {
    const both = await startPushing(t);
    const { client } = both;
    const blob = randomContent(3000, 'ordered');
    const bytes = bytesOf(blob);
    const location = await client.open();
    const assertStands = async (got: Awaited<ReturnType<typeof client.patch>>, at: number, code = 'RANGE_INVALID') => {
      assertError(got, 416, code);
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
      await assertStands(await client.ask('PATCH', location, { headers, body: bytes.subarray(1000, 2000) }), 1000);
    }
    const headers = { 'content-range': '1000-1500' };
    const longer = await client.ask('PATCH', location, { headers, body: bytes.subarray(1000, 2000) });
    assertError(longer, 400, 'SIZE_INVALID', /501 bytes/);
    // With chunked encoding the length is known only at the end.
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

  test('a wrong digest is rejected, and nothing is kept anywhere', LIMIT, async t => {
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
        assertError(got, 400, 'DIGEST_INVALID', new RegExp(`${sizeBytes} bytes`));
        assert(errorText(got).includes(wrong.digest), 'names what was said');
      }
      for (const location of [streamed, chunked, whole]) {
        assertError(await client.get(location), 404, 'BLOB_UPLOAD_UNKNOWN');
      }
      for (const each of [blob, wrong]) await assertNowhere(both, each);
    }
    assert.deepEqual(await contentOnDisk(cache), []);
    assert.equal(packageOf(ghcr)?.blobs.size ?? 0, 0);
    // Where a relay had started, it was given up.
    await ghcr.until({ endpoint: 'upload', method: 'DELETE', state: 'finished' });
  });

  test('a malformed digest leaves the upload as it is', async t => {
    const both = await startPushing(t);
    const blob = randomContent(1000, 'malformed');
    const location = await both.client.open();
    await both.client.patch(location, bytesOf(blob));
    for (const digest of ['', 'sha256:', 'sha256:abc', `md5:${'0'.repeat(32)}`, blob.digest.toUpperCase(), '../x']) {
      assertError(await both.client.finish(location, digest), 400, 'DIGEST_INVALID');
      assertError(await both.client.start({ digest }, bytesOf(blob)), 400, 'DIGEST_INVALID');
    }
    assertError(await both.client.ask('PUT', location), 400, 'DIGEST_INVALID');
    assertCreated(await both.client.finish(location, blob.digest));
    await assertPushed(both, blob);
  });

  test('an upload belongs to its repository, and a malformed id is unknown', async t => {
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
    'a client that comes back goes on, even if the connection that it lost does not look dead yet',
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

  test('however little of the lost request had been processed', LIMIT, async t => {
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

  test('requests for an upload that is being finished are rejected', LIMIT, async t => {
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
      assertError(got, 400, 'BLOB_UPLOAD_INVALID', /under way/);
    }
    hang.remove();
    assertCreated(await closing);
    await assertPushed(both, blob);
  });

  test('an idle upload is given up after an hour, whatever becomes of the wall clock', async t => {
    const { cache, clock, client } = await startPushing(t);
    const [abandoned, used] = [await client.open(), await client.open()];
    for (const location of [abandoned, used]) await client.patch(location, 'begun');
    clock.advance(50 * 60_000);
    clock.set(-3_600_000);
    await client.patch(used, 'and gone on with');
    clock.advance(10 * 60_000 + 1);
    await until(() => filesIn(cache, 'ingest').length === 1);
    assertError(await client.get(abandoned), 404, 'BLOB_UPLOAD_UNKNOWN', /given up/);
    assert.equal(await client.offset(used), 'begunand gone on with'.length);
    assert.deepEqual(filesIn(cache, 'ingest'), [idOf(used)]);
  });
});

function thirds({ length }: Buffer): [number, number][] {
  const third = Math.ceil(length / 3);
  return [0, 1, 2].map(i => [Math.min(length, i * third), Math.min(length, (i + 1) * third)]);
}

function errorText({ body }: { body: Buffer }): string {
  return body.toString();
}
