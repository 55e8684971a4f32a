// What the distribution spec wants of a registry, tested on the cache in front of upstreams of several kinds, through the
// whole life of images: pushed, listed, read, deleted, pushed again. What the upstream lacks, the cache makes up for.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { type Algorithm, digestOf } from '../../../src/oci/digest.ts';
import type { Got } from '../../support/ghcr/ask.ts';
import type { Switches } from '../../support/ghcr/ghcr.ts';
import {
  bytesOf,
  type Content,
  contentOf,
  type Image,
  type Index,
  type Manifest,
  makeImage,
  makeIndex,
  randomContent,
} from '../../support/images.ts';
import {
  assertCreated,
  inPieces,
  locationOf,
  NAME,
  PushClient,
  type Pushing,
  sentenceOf,
  startPushing,
} from '../../support/push-client.ts';

interface Kind {
  readonly switches: Partial<Switches>;
  /** Of the digests of blobs. */
  readonly algorithms: readonly Algorithm[];
  readonly deletesBlobs: boolean;
}

const KINDS: Record<string, Kind> = {
  'ghcr.io': { switches: { keepLastVersion: false }, algorithms: ['sha256'], deletesBlobs: false },
  'a registry of spec 1.0': {
    switches: {
      auth: 'basic',
      redirects: false,
      referrers: 'not-found',
      allowDelete: true,
      uploadState: true,
    },
    algorithms: ['sha256'],
    deletesBlobs: true,
  },
  'a registry of the newest spec': {
    switches: {
      auth: 'none',
      redirects: false,
      referrers: 'supported',
      allowDelete: true,
      digests: ['sha256', 'sha512'],
      nextSpec: true,
      badFinish: 400,
    },
    algorithms: ['sha256', 'sha512'],
    deletesBlobs: true,
  },
};

const INDEX = 'application/vnd.oci.image.index.v1+json';
/** The codes of the spec, and those that other registries use besides. */
const CODES =
  /^(BLOB_UNKNOWN|BLOB_UPLOAD_INVALID|BLOB_UPLOAD_UNKNOWN|DIGEST_INVALID|MANIFEST_BLOB_UNKNOWN|MANIFEST_INVALID|MANIFEST_UNKNOWN|NAME_INVALID|NAME_UNKNOWN|SIZE_INVALID|UNAUTHORIZED|DENIED|UNSUPPORTED|TOOMANYREQUESTS|RANGE_INVALID)$/;

/** The status is one of these; an error has a body as in the spec. */
function assertStatus(got: Got, ...statuses: number[]): void {
  assert(statuses.includes(got.status ?? 0), sentenceOf(got));
  if ((got.status ?? 0) < 400 || got.body.length === 0) return;
  assert.equal(got.headers['content-type'], 'application/json');
  const { errors } = JSON.parse(got.body.toString());
  assert.match(errors[0].code, CODES);
  assert.equal(typeof errors[0].message, 'string');
}

/** HEAD and GET agree on exactly these bytes under exactly this digest. */
async function assertServed(client: PushClient, path: string, digest: string, bytes: Buffer, type?: string) {
  const [head, got] = [await client.head(path), await client.get(path, { 'accept-encoding': 'gzip' })];
  for (const each of [head, got]) {
    assert.equal(each.status, 200, `${path} ${sentenceOf(each)}`);
    assert.equal(each.headers['content-length'], String(bytes.length));
    assert.equal(each.headers['docker-content-digest'], digest);
    assert.equal(each.headers['content-encoding'], undefined);
    if (type !== undefined) assert.equal(each.headers['content-type'], type);
  }
  assert.equal(head.body.length, 0);
  assert(got.body.equals(bytes), path);
}

async function assertGone(client: PushClient, path: string): Promise<void> {
  assert.equal((await client.head(path)).status, 404, path);
  assertStatus(await client.get(path), 404);
}

/** As clients push a manifest whose length they do not know. */
function pushManifest(client: PushClient, { bytes, mediaType, digest }: Manifest, reference: string = digest) {
  const headers = { 'content-type': mediaType };
  return client.ask('PUT', `manifests/${reference}`, { headers, body: inPieces(bytes, [], 1000) });
}

for (const [name, { switches, algorithms, deletesBlobs }] of Object.entries(KINDS)) {
  const start = (t: TestContext): Promise<Pushing> => startPushing(t, { fake: { switches } });

  describe(`in front of ${name}`, () => {
    test('a repository that does not exist yet', async t => {
      const { client } = await start(t);
      assertStatus(await client.get('tags/list'), 404, 200);
      const { digest } = contentOf('nothing');
      const referrers = await client.get(`referrers/${digest}`);
      assert.equal(referrers.status, 200);
      assert.equal(referrers.headers['content-type'], INDEX);
      assert.deepEqual(JSON.parse(referrers.body.toString()).manifests, []);
      for (const path of [`blobs/${digest}`, `manifests/${digest}`, 'manifests/v1']) await assertGone(client, path);
    });

    test('blobs, by each way of sending them, in each algorithm', async t => {
      const { client } = await start(t);
      for (const algorithm of algorithms) {
        for (const sizeBytes of [0, 2, 5000]) {
          const make = (way: string) => randomContent(sizeBytes, `${way} ${sizeBytes}`, algorithm);
          const whole = make('whole');
          const streamed = make('streamed');
          const chunked = make('chunked');
          const posted = make('posted');
          const rows: [Content, Got][] = [
            [whole, await client.put(whole)],
            [streamed, await client.stream(streamed, inPieces(bytesOf(streamed), [], 700))],
            [chunked, await inChunks(client, chunked, 1999)],
            [posted, await client.start({ digest: posted.digest }, bytesOf(posted))],
          ];
          for (const [blob, got] of rows) {
            assertCreated(got);
            assert.equal(got.headers['docker-content-digest'], blob.digest);
            await assertServed(client, `blobs/${blob.digest}`, blob.digest, bytesOf(blob));
            assert((await client.get(locationOf(got))).body.equals(bytesOf(blob)));
          }
        }
      }
    });

    test('blobs with a wrong digest', async t => {
      const { client } = await start(t);
      for (const algorithm of algorithms) {
        const blob = randomContent(3000, 'sent', algorithm);
        const { digest } = randomContent(3000, 'named', algorithm);
        const named = { ...blob, digest };
        for (const got of [
          await client.put(named),
          await client.stream(named),
          await inChunks(client, named, 1024),
          await client.start({ digest }, bytesOf(blob)),
        ]) {
          assertStatus(got, 400);
        }
        for (const each of [blob.digest, digest]) await assertGone(client, `blobs/${each}`);
      }
    });

    test('chunks in the wrong order', async t => {
      const { client } = await start(t);
      const blob = randomContent(2500, 'in order');
      const cuts = [0, 900, 1800, 2500] as const;
      let location = await client.open();
      for (const [i, first] of cuts.slice(0, 3).entries()) {
        // Another one in its place, as a PATCH and as the end.
        const wrong = cuts[i === 2 ? 0 : i + 1] ?? 0;
        const bytes = bytesOf(blob, wrong, wrong + 700);
        const range = { 'content-range': `${wrong}-${wrong + 699}` };
        assertStatus(await client.patch(location, bytes, wrong), 416);
        assertStatus(await client.finish(location, blob.digest, bytes, range), 416);
        const status = await client.get(`${location}?digest=${blob.digest}`);
        assert.equal(status.status, 204);
        assert.equal(status.headers.range, first === 0 ? '0-0' : `0-${first - 1}`);
        location = locationOf(status).replace(/\?.*/, '');
        if (i === 2) continue;
        const right = await client.patch(location, bytesOf(blob, first, cuts[i + 1]), first);
        assertStatus(right, 202);
        assert.equal(right.headers.range, `0-${(cuts[i + 1] ?? 0) - 1}`);
      }
      const last = { 'content-range': `1800-2499` };
      assertCreated(await client.finish(location, blob.digest, bytesOf(blob, 1800), last));
      await assertServed(client, `blobs/${blob.digest}`, blob.digest, bytesOf(blob));
    });

    test('the address of an upload stays valid, and reports the offset', async t => {
      const { client } = await start(t);
      const blob = randomContent(70, 'retried');
      const first = await client.open();
      const second = locationOf(await client.patch(first, bytesOf(blob, 0, 25), 0));
      // A client that has lost the response repeats the request.
      assertStatus(await client.patch(first, bytesOf(blob, 0, 25), 0), 416);
      const status = await client.get(first);
      assert.deepEqual([status.status, status.headers.range], [204, '0-24']);
      assert.ok(status.headers.location);
      assertStatus(await client.patch(second, bytesOf(blob, 25), 25), 202);
      assertCreated(await client.finish(second, blob.digest));
    });

    test('an upload that is cancelled', async t => {
      const { client } = await start(t);
      const location = await client.open();
      await client.patch(location, 'some bytes');
      assertStatus(await client.cancel(location), 204);
      assertStatus(await client.get(location), 404);
      assertStatus(await client.cancel(location), 404);
    });

    test('mounts, from a named repository and from any', async t => {
      const { cache, client } = await start(t);
      const other = new PushClient(cache.url, 'owner/other');
      for (const algorithm of algorithms) {
        for (const from of ['owner/other', undefined]) {
          const blob = randomContent(300, `mounted ${from}`, algorithm);
          const query = { mount: blob.digest, ...(from && { from }) };
          const early = await client.start(query);
          assertStatus(early, 202);
          assert(String(early.headers.location).startsWith(`/v2/${NAME}/blobs/uploads/`));
          assertStatus(await client.cancel(locationOf(early)), 204);
          await assertGone(client, `blobs/${blob.digest}`);
          assertCreated(await other.put(blob));
          const got = await client.start(query);
          assertCreated(got);
          assert.equal(got.headers.location, `/v2/${NAME}/blobs/${blob.digest}`);
          await assertServed(client, `blobs/${blob.digest}`, blob.digest, bytesOf(blob));
        }
      }
    });

    test('parts of a blob', async t => {
      const { client } = await start(t);
      const blob = randomContent(4000, 'in parts');
      assertCreated(await client.put(blob));
      for (const [range, first, end] of [
        ['1000-1999', 1000, 2000],
        ['3000-', 3000, 4000],
        ['-1000', 3000, 4000],
        ['3900-9000', 3900, 4000],
        ['0-0', 0, 1],
      ] as const) {
        const got = await client.get(`blobs/${blob.digest}`, { range: `bytes=${range}` });
        assert.equal(got.status, 206, range);
        assert.equal(got.headers['content-range'], `bytes ${first}-${end - 1}/4000`);
        assert.equal(got.headers['content-length'], String(end - first));
        assert(got.body.equals(bytesOf(blob, first, end)));
      }
      for (const range of ['1000-0', '4000-5000']) {
        assert.equal((await client.get(`blobs/${blob.digest}`, { range: `bytes=${range}` })).status, 416, range);
      }
    });

    test('images and indexes: pushed, listed, read, deleted, and all of it again', async t => {
      const { client } = await start(t);
      for (const round of ['first', 'second']) {
        const plain = makeImage({ layers: [contentOf('{}'), 100], seed: round });
        const arm = makeImage({ layers: [100], platform: { os: 'linux', architecture: 'arm64' } });
        const artifact = makeImage({ layers: [contentOf('{}')], artifactType: 'application/vnd.example' });
        const bare = makeImage({ layers: [], seed: round });
        const odd = oddManifest(plain, {
          'com.example.unknown': [1, { two: null }],
          annotations: { number: round },
        });
        const large = oddManifest(plain, { annotations: { filling: 'x'.repeat(3_900_000) } });
        const foreign = makeImage({
          layers: [contentOf('fetched from elsewhere')],
          layerType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
        });
        const lives: [tag: string, Image | Index][] = [
          ['plain', plain],
          ['arm', arm],
          ['artifact', artifact],
          ['bare', bare],
          ['index', makeIndex([plain, arm])],
          ['of-indexes', makeIndex([makeIndex([plain]), artifact], { annotations: { round } })],
          ['empty', makeIndex([], { annotations: { round } })],
          ['large', { ...plain, manifest: large }],
          ['odd', { ...plain, manifest: odd }],
        ];
        // What was deleted can be pushed again; a few kinds show that.
        if (round === 'second') lives.splice(5);
        assertCreated(await client.put(foreign.config));
        assertCreated(await pushManifest(client, foreign.manifest, 'foreign'));

        for (const [tag, life] of lives) {
          await client.parts(life);
          for (const reference of [life.manifest.digest, tag]) {
            const got = await pushManifest(client, life.manifest, reference);
            assertCreated(got);
            assert.equal(got.headers['docker-content-digest'], life.manifest.digest);
            assert.deepEqual((await client.get(locationOf(got))).body, life.manifest.bytes);
          }
          assert((await client.tags()).includes(tag));
        }
        assert.deepEqual(await client.tags(), ['foreign', ...lives.map(([tag]) => tag)].sort());
        for (const [tag, { manifest }] of lives) {
          for (const reference of [tag, manifest.digest]) {
            await assertServed(client, `manifests/${reference}`, manifest.digest, manifest.bytes, manifest.mediaType);
          }
        }

        let left = await client.tags();
        for (const [tag, { manifest }] of lives.toReversed()) {
          assertStatus(await client.delete(`manifests/${tag}`), 202);
          await assertGone(client, `manifests/${tag}`);
          left = left.filter(each => each !== tag);
          assert.deepEqual(await client.tags(), left);
          // Where a tag is deleted with its manifest.
          assertStatus(await client.delete(`manifests/${manifest.digest}`), 202, 404);
          await assertGone(client, `manifests/${manifest.digest}`);
        }
        for (const blob of [plain.config, ...plain.layers]) {
          assertStatus(await client.delete(`blobs/${blob.digest}`), deletesBlobs ? 202 : 405);
          if (deletesBlobs) await assertGone(client, `blobs/${blob.digest}`);
        }
        assertStatus(await client.delete('manifests/foreign'), 202);
      }
    });

    test('malformed names', async t => {
      const { client } = await start(t);
      const image = makeImage({ layers: [10] });
      await client.image(image, 'v1');
      await assertGone(client, 'manifests/.NOT_A_TAG');
      for (const digest of ['sha256:totallynone', 'sha256:00']) {
        const headers = { 'content-type': image.manifest.mediaType };
        const got = await client.ask('GET', `manifests/${digest}`, {
          headers,
          body: 'a body that nobody wants',
        });
        assertStatus(got, 400, 404);
        assertStatus(await pushManifest(client, image.manifest, digest), 400);
        assertStatus(await client.get(`blobs/${digest}`), 400, 404);
      }
      // Other bytes: with blanks at the end.
      const padded = { ...image.manifest, bytes: Buffer.from(`${image.manifest.bytes}  `) };
      assertStatus(await pushManifest(client, padded), 400);
      await assertServed(client, 'manifests/v1', image.manifest.digest, image.manifest.bytes);
    });

    test('a type that is in Content-Type only', async t => {
      const { client } = await start(t);
      const image = makeImage({ layers: [10] });
      await client.parts(image);
      const { mediaType, ...untyped } = JSON.parse(image.manifest.bytes.toString());
      const bytes = Buffer.from(JSON.stringify({ ...untyped, layers: [] }));
      const manifest = { bytes, digest: digestOf(bytes), mediaType };
      assertCreated(await pushManifest(client, manifest, 'untyped'));
      await assertServed(client, 'manifests/untyped', manifest.digest, bytes, mediaType);
    });

    test('manifests by sha512, and tags next to a digest', async t => {
      const { client } = await start(t);
      const images = ['a', 'b'].map(seed => makeImage({ layers: [10], seed }));
      const index = makeIndex(images);
      await client.parts(index);
      for (const [i, { manifest }] of [...images, index].entries()) {
        for (const digest of [manifest.digest, digestOf(manifest.bytes, 'sha512')]) {
          const tags = [`x${i}`, `y${i}`];
          const got = await client.manifest(manifest, `${digest}?tag=${tags.join('&tag=')}`);
          assertCreated(got);
          assert.equal(got.headers['docker-content-digest'], digest);
          const said = String(got.headers['oci-tag']).split(/\s*,\s*/);
          assert.deepEqual(said.sort(), tags);
          for (const reference of [digest, ...tags]) {
            await assertServed(client, `manifests/${reference}`, digest, manifest.bytes, manifest.mediaType);
          }
        }
      }
    });

    test('images with sha512 throughout, by their digests', async t => {
      if (!algorithms.includes('sha512')) return;
      const { client } = await start(t);
      const image = makeImage({ layers: [0, 1000], algorithm: 'sha512' });
      const index = makeIndex([image], { algorithm: 'sha512' });
      assertCreated(await client.image(index));
      for (const { digest, bytes, mediaType } of [image.manifest, index.manifest]) {
        await assertServed(client, `manifests/${digest}`, digest, bytes, mediaType);
      }
      for (const blob of [image.config, ...image.layers]) {
        await assertServed(client, `blobs/${blob.digest}`, blob.digest, bytesOf(blob));
      }
      for (const { digest } of [index.manifest, image.manifest]) {
        assertStatus(await client.delete(`manifests/${digest}`), 202);
        await assertGone(client, `manifests/${digest}`);
      }
    });

    test('lists of tags, in byte order and in pages', async t => {
      const { client } = await start(t);
      const image = makeImage({ layers: [10] });
      const names = ['zeta', 'Beta', 'alpha', '_x', '10', '9', 'alpha.1', 'alpha-1'];
      for (const tag of names) await client.image(image, tag);
      const sorted = names.toSorted();
      const page = async (query: string) => {
        const got = await client.get(`tags/list${query}`);
        const { name: repository, tags } = JSON.parse(got.body.toString());
        assert.equal(repository, NAME);
        return { tags, link: got.headers.link };
      };
      assert.deepEqual((await page('')).tags, sorted);
      for (const last of [...names, 'alphabet', '0']) {
        assert.deepEqual(
          (await page(`?last=${last}`)).tags,
          sorted.filter(tag => tag > last),
        );
      }
      const half = await page(`?n=${names.length / 2}`);
      assert.deepEqual(half.tags, sorted.slice(0, names.length / 2));
      const [, next = ''] = /^<([^>]+)>; rel="next"$/.exec(String(half.link)) ?? [];
      assert.deepEqual(JSON.parse((await client.get(next)).body.toString()).tags, sorted.slice(names.length / 2));
      assert.deepEqual(await page('?n=0'), { tags: [], link: undefined });
    });

    test('referrers, before their subject and after it', async t => {
      const { client } = await start(t);
      const subject = makeImage({ layers: [10] });
      const { manifest } = subject;
      const images = Array.from({ length: 4 }, (_, i) =>
        makeImage({
          layers: [20],
          subject: manifest,
          annotations: { [`key-${i}`]: `value ${i}` },
          ...(i < 2 && { artifactType: 'application/vnd.example.a' }),
        }),
      );
      const referrers = [...images, makeIndex([subject], { subject: manifest, annotations: { 'key-4': 'value 4' } })];
      const list = async (query = '') => {
        const got = await client.get(`referrers/${manifest.digest}${query}`);
        assert.equal(got.status, 200);
        assert.equal(got.headers['content-type'], INDEX);
        return { ...JSON.parse(got.body.toString()), filtered: got.headers['oci-filters-applied'] };
      };
      for (const [i, each] of referrers.entries()) {
        if (i === 3) await client.image(subject, 'subject');
        await client.parts(each);
        for (const reference of [each.manifest.digest, `referrer-${i}`]) {
          const got = await client.manifest(each.manifest, reference);
          assertCreated(got);
          assert.equal(got.headers['oci-subject'], manifest.digest);
        }
        assert.equal((await list()).manifests.length, i + 1);
      }
      const all = await list();
      assert.deepEqual([all.schemaVersion, all.mediaType, all.filtered], [2, INDEX, undefined]);
      for (const [i, each] of referrers.entries()) {
        const entry = all.manifests.find(({ digest }: { digest: string }) => digest === each.manifest.digest);
        assert.deepEqual(entry.annotations, { [`key-${i}`]: `value ${i}` });
        assert.equal(entry.size, each.manifest.bytes.length);
        assert.equal(entry.mediaType, each.manifest.mediaType);
      }
      const filtered = await list('?artifactType=application%2Fvnd.example.a');
      assert.deepEqual([filtered.manifests.length, filtered.filtered], [2, 'artifactType']);
      for (const [i, each] of referrers.entries()) {
        assertStatus(await client.delete(`manifests/${each.manifest.digest}`), 202);
        await assertGone(client, `manifests/referrer-${i}`);
        assert.equal((await list()).manifests.length, referrers.length - 1 - i);
      }
    });
  });
}

/** In chunks with Content-Range, each to the address in the response before; none if the blob is empty. */
async function inChunks(client: PushClient, blob: Content, sizeBytes: number): Promise<Got> {
  let location = await client.open();
  for (let first = 0; first < blob.sizeBytes; first += sizeBytes) {
    const end = Math.min(blob.sizeBytes, first + sizeBytes);
    const got = await client.patch(location, bytesOf(blob, first, end), first);
    assertStatus(got, 202);
    location = locationOf(got);
  }
  const headers = { 'content-type': 'application/octet-stream', 'content-length': '0' };
  return client.finish(location, blob.digest, undefined, headers);
}

/** The manifest of an image with additional fields. */
function oddManifest(image: Image, fields: object): Manifest {
  const bytes = Buffer.from(JSON.stringify({ ...JSON.parse(image.manifest.bytes.toString()), ...fields }));
  return { bytes, digest: digestOf(bytes), mediaType: image.manifest.mediaType };
}
