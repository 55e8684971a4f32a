// Pushing manifests: what is taken and what is not, tags, what a person is warned of, the referrers of a subject; and
// deletes, of an ordinary registry and through GitHub's package interface.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { errorOf } from '../../support/ghcr/ask.ts';
import { answers, type Ghcr, type Switches } from '../../support/ghcr/ghcr.ts';
import {
  contentOf,
  type Image,
  type Index,
  type Manifest,
  makeImage,
  makeIndex,
} from '../../support/images.ts';
import {
  assertCreated,
  assertPushed,
  assertRefused,
  contentOnDisk,
  MIB,
  NAME,
  PushClient,
  type Pushing,
  type PushOptions,
  packageOf,
  sentenceOf,
  startPushing,
  upstreamTag,
  WRITER,
} from '../../support/push-client.ts';

/** For tests in which somebody waits for somebody: what would wait for ever fails. */
const LIMIT = { timeout: 20_000 };
const OCI = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const image = makeImage({ layers: [1000] });

/** A manifest of these bytes, under its digest. */
function manifestOf(json: object | string, mediaType: Manifest['mediaType'] = OCI): Manifest {
  const bytes = Buffer.from(typeof json === 'string' ? json : JSON.stringify(json));
  return { bytes, digest: digestOf(bytes), mediaType };
}

/** With all blobs of the image pushed already. */
async function startWithParts(t: TestContext, options: PushOptions = {}): Promise<Pushing> {
  const both = await startPushing(t, options);
  await both.client.parts(image);
  return both;
}

/** Time enough for requests that nothing holds up to be answered. */
async function aWhile(client: PushClient): Promise<void> {
  for (let i = 0; i < 20; i++) await client.get('/v2/');
}

const fields = JSON.parse(image.manifest.bytes.toString());

describe('manifests', () => {
  test('by tag and by digest: 201, byte for byte, at the upstream and here', async t => {
    const { ghcr, client } = await startWithParts(t);
    const pretty = manifestOf(`\n ${JSON.stringify({ unknown: 'é😀', ...fields }, null, 3)}\r\n\t`);
    for (const [reference, manifest] of [
      ['v1', image.manifest],
      ['a_tag.with-all.123_Of.it', pretty],
      [image.manifest.digest, image.manifest],
      [pretty.digest, pretty],
    ] as const) {
      const got = await client.manifest(manifest, reference);
      assertCreated(got);
      assert.equal(got.headers.location, `/v2/${NAME}/manifests/${manifest.digest}`);
      assert.equal(got.headers['docker-content-digest'], manifest.digest);
      assert.equal(got.headers['content-length'], '0');
      assert.deepEqual(
        Buffer.from(packageOf(ghcr)?.manifests.get(manifest.digest)?.bytes ?? []),
        manifest.bytes,
      );
      for (const method of ['GET', 'HEAD'] as const) {
        const back = await client.ask(method, `manifests/${reference}`);
        assert.equal(back.status, 200);
        assert.equal(back.headers['content-type'], OCI);
        assert.equal(back.headers['content-length'], String(manifest.bytes.length));
        assert.equal(back.headers['docker-content-digest'], manifest.digest);
        if (method === 'GET') assert.deepEqual(back.body, manifest.bytes);
      }
    }
    assert.deepEqual(
      [...(packageOf(ghcr)?.tags ?? [])],
      [
        ['v1', image.manifest.digest],
        ['a_tag.with-all.123_Of.it', pretty.digest],
      ],
    );
  });

  test('of every kind', async t => {
    const both = await startPushing(t);
    const { client } = both;
    const arm = makeImage({ layers: [10], platform: { os: 'linux', architecture: 'arm64' } });
    const docker = makeImage({ layers: [20], type: 'docker' });
    const artifact = makeImage({ layers: [30], artifactType: 'application/vnd.example+json' });
    const kinds: Record<string, Image | Index> = {
      image,
      docker,
      artifact,
      index: makeIndex([image, arm]),
      list: makeIndex([docker], { type: 'docker' }),
      nested: makeIndex([makeIndex([image]), artifact]),
      empty: makeIndex([]),
      foreign: makeImage({
        layers: [1],
        layerType: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
      }),
    };
    for (const [tag, kind] of Object.entries(kinds)) {
      assertCreated(await client.image(kind, tag));
      const got = await client.get(`manifests/${tag}`);
      assert.deepEqual(
        [got.headers['content-type'], got.body],
        [kind.manifest.mediaType, kind.manifest.bytes],
      );
    }
    for (const [i, odd] of [
      { layers: [] },
      { layers: null },
      { subject: null },
      { annotations: null },
    ].entries()) {
      assertCreated(await client.manifest(manifestOf({ ...fields, ...odd }), `odd-${i}`));
    }
  });

  test('the type may stand in the manifest, in Content-Type, or in neither', async t => {
    const { client } = await startWithParts(t);
    const { mediaType: _, ...untyped } = fields;
    const rows: [string, object, string | undefined, string][] = [
      ['in both', fields, `${OCI}; charset=utf-8`, OCI],
      ['in the manifest', fields, undefined, OCI],
      ['in the header', untyped, OCI, OCI],
      ['in neither, an image', untyped, undefined, OCI],
      ['in neither, an index', { schemaVersion: 2, manifests: [] }, undefined, INDEX],
    ];
    for (const [i, [name, json, contentType, type]] of rows.entries()) {
      const headers = contentType === undefined ? {} : { 'content-type': contentType };
      const got = await client.ask('PUT', `manifests/t${i}`, { body: JSON.stringify(json), headers });
      assert.equal(got.status, 201, `${name} ${sentenceOf(got)}`);
      assert.equal((await client.get(`manifests/t${i}`)).headers['content-type'], type, name);
    }
  });

  test('what is none is refused, without troubling the upstream', async t => {
    const { ghcr, client } = await startWithParts(t);
    const rows: [string, string | object, string | undefined, RegExp][] = [
      ['nothing', '', OCI, /no manifest/],
      ['no JSON', '{', OCI, /no manifest/],
      ['no UTF-8', Buffer.from([0x22, 0xff, 0x22]), OCI, /no manifest/],
      ['a list', '[]', OCI, /no manifest/],
      ['null', 'null', OCI, /no manifest/],
      ['a number', '5', OCI, /no manifest/],
      ['no type at all', '{}', undefined, /no manifest/],
      ['an unknown type', { ...fields, mediaType: 'text/plain' }, 'text/plain', /type/],
      ['a Content-Type that contradicts', fields, INDEX, /of type .*manifest.*Content-Type .*index/],
      ['a Content-Type of something else', fields, 'application/octet-stream', /octet-stream/],
      ['an old schema', { ...fields, schemaVersion: 1 }, OCI, /schemaVersion/],
      ['no schema', { ...fields, schemaVersion: undefined }, OCI, /schemaVersion/],
      ['layers that are no list', { ...fields, layers: {} }, OCI, /layers/],
      ['a layer without a digest', { ...fields, layers: [{}] }, OCI, /layers/],
      ['a layer that is none', { ...fields, layers: [null] }, OCI, /layers/],
      ['a malformed digest', { ...fields, layers: [{ digest: 'sha256:12' }] }, OCI, /layers/],
      ['a config without a digest', { ...fields, config: {} }, OCI, /config/],
      ['a subject without a digest', { ...fields, subject: { size: 5 } }, OCI, /subject/],
      ['a child without a digest', { schemaVersion: 2, manifests: [{}] }, INDEX, /manifests/],
    ];
    ghcr.resetCounters();
    for (const [name, json, contentType, says] of rows) {
      const body = typeof json === 'string' || json instanceof Buffer ? json : JSON.stringify(json);
      const headers = contentType === undefined ? {} : { 'content-type': contentType };
      const got = await client.ask('PUT', 'manifests/v1', { body, headers });
      assert.equal(got.status, 400, `${name} ${sentenceOf(got)}`);
      assertRefused(got, 400, 'MANIFEST_INVALID', says);
    }
    assert.equal(ghcr.requests.length, 0);
    assert.equal((await client.get('manifests/v1')).status, 404);
  });

  test('bytes that do not fit the digest, and names that are none', async t => {
    const { ghcr, client } = await startWithParts(t);
    ghcr.resetCounters();
    const { bytes } = image.manifest;
    for (const digest of [
      digestOf(Buffer.concat([bytes, Buffer.from(' ')])),
      digestOf(Buffer.from(' '), 'sha512'),
    ]) {
      assertRefused(await client.manifest(image.manifest, digest), 400, 'DIGEST_INVALID', new RegExp(digest));
    }
    for (const name of ['sha256:baddigeststring', 'sha256:', 'md5:00', `${image.manifest.digest}0`]) {
      assertRefused(await client.manifest(image.manifest, name), 400, 'DIGEST_INVALID');
      assert([400, 404].includes((await client.get(`manifests/${name}`)).status ?? 0));
    }
    for (const tag of ['.hidden', '-dash', 'a'.repeat(129), 'a%20b', 'ä']) {
      assertRefused(await client.manifest(image.manifest, tag), 400, 'TAG_INVALID');
      assertRefused(await client.get(`manifests/${tag}`), 404, 'MANIFEST_UNKNOWN');
    }
    assert.equal(ghcr.requests.length, 0);
  });

  test('of 4 MiB is taken, of a byte more is not', async t => {
    const { ghcr, client } = await startWithParts(t);
    const padded = (sizeBytes: number) => manifestOf(image.manifest.bytes.toString().padEnd(sizeBytes));
    const [most, over] = [padded(4 * MIB), padded(4 * MIB + 1)];
    async function* chunked({ bytes }: Manifest) {
      for (let at = 0; at < bytes.length; at += MIB) yield bytes.subarray(at, at + MIB);
    }
    const headers = { 'content-type': OCI };
    assertCreated(await client.manifest(most, 'most'));
    assertCreated(await client.ask('PUT', 'manifests/chunked', { headers, body: chunked(most) }));
    for (const tag of ['most', 'chunked'])
      assert.deepEqual((await client.get(`manifests/${tag}`)).body, most.bytes);
    ghcr.resetCounters();
    for (const got of [
      await client.manifest(over, 'over'),
      await client.ask('PUT', 'manifests/over', { headers, body: chunked(over) }),
    ]) {
      assertRefused(got, 413, 'TOO_LARGE', /4 MiB/);
    }
    assert.equal(ghcr.requests.length, 0);
  });

  test('whose blobs or manifests the upstream lacks are refused, and not recorded', async t => {
    const { ghcr, client } = await startPushing(t);
    const index = makeIndex([image]);
    const layer = image.layers[0] ?? assert.fail();
    assertCreated(await client.stream(image.config));
    for (const [{ manifest }, missing] of [
      [image, layer.digest],
      [index, image.manifest.digest],
    ] as const) {
      for (const reference of ['v1', manifest.digest]) {
        assertRefused(
          await client.manifest(manifest, reference),
          400,
          'MANIFEST_BLOB_UNKNOWN',
          new RegExp(missing),
        );
        assert.equal((await client.get(`manifests/${reference}`)).status, 404);
      }
    }
    assert.equal(packageOf(ghcr)?.manifests.size ?? 0, 0);
    assertCreated(await client.stream(layer));
    assertCreated(await client.image(index, 'v1'));
    assert.equal((await client.get('manifests/v1')).status, 200);
  });

  test('in the query further tags may be named', async t => {
    const { ghcr, client } = await startWithParts(t);
    const { digest } = image.manifest;
    const got = await client.manifest(image.manifest, `${digest}?tag=b&tag=a&tag=v1.0`);
    assertCreated(got);
    assert.equal(got.headers['oci-tag'], 'b, a, v1.0');
    assert.equal(got.headers['docker-content-digest'], digest);
    const byTag = await client.manifest(image.manifest, 'first?tag=second');
    assertCreated(byTag);
    assert.match(String(byTag.headers['oci-tag']), /\bsecond\b/);
    for (const tag of ['a', 'b', 'v1.0', 'first', 'second']) {
      assert.equal(upstreamTag(ghcr, tag), digest);
      assert.equal((await client.get(`manifests/${tag}`)).headers['x-cache'], 'hit');
    }
    assert.deepEqual(await client.tags(), ['a', 'b', 'first', 'second', 'v1.0']);
    ghcr.resetCounters();
    const many = Array.from({ length: 101 }, (_, i) => `tag=t${i}`).join('&');
    for (const query of ['tag=.bad', 'tag=good&tag=', 'tag=a%2Fb', many]) {
      assertRefused(await client.manifest(image.manifest, `${digest}?${query}`), 400, 'TAG_INVALID');
    }
    assert.equal(ghcr.requests.length, 0);
  });

  test('by sha512, whether the upstream knows it or not, are served by it', async t => {
    for (const digests of [['sha256'], ['sha256', 'sha512']] as const) {
      const both = await startWithParts(t, { stand: { switches: { digests } } });
      const { ghcr, clock, client } = both;
      const { bytes } = image.manifest;
      const sha512 = digestOf(bytes, 'sha512');
      const got = await client.manifest(image.manifest, `${sha512}?tag=v1`);
      assertCreated(got);
      assert.equal(got.headers['docker-content-digest'], sha512);
      assert.equal(got.headers.location, `/v2/${NAME}/manifests/${sha512}`);
      // After a while the tag is asked about; it is still known by what it was pushed under.
      for (const afterMs of [0, 3600_000]) {
        clock.advance(afterMs);
        for (const reference of [sha512, 'v1']) {
          const back = await client.get(`manifests/${reference}`);
          assert.deepEqual([back.status, back.body], [200, bytes], sentenceOf(back));
          assert.equal(back.headers['docker-content-digest'], sha512, reference);
        }
      }
      const known = packageOf(ghcr)?.manifests;
      assert(known?.has(digests.length === 2 ? sha512 : digestOf(bytes)));
    }
  });
});

describe('tags', () => {
  const old = makeImage({ layers: [10], seed: 'old' });
  const now = makeImage({ layers: [10], seed: 'new' });

  test('that were moved are served right at once, fresh or not', async t => {
    const { ghcr, clock, client } = await startPushing(t);
    await client.parts(old);
    await client.parts(now);
    for (const [each, afterMs] of [
      [old, 0],
      [now, 0],
      [old, 3600_000],
      [now, 3600_000],
    ] as const) {
      clock.advance(afterMs);
      assertCreated(await client.manifest(each.manifest, 'latest'));
      assert.equal(upstreamTag(ghcr, 'latest'), each.manifest.digest);
      ghcr.resetCounters();
      const got = await client.get('manifests/latest');
      assert.deepEqual([got.headers['x-cache'], got.body], ['hit', each.manifest.bytes]);
      assert.equal(ghcr.requests.length, 0);
    }
    // What it pointed to before is there still.
    assert.equal((await client.get(`manifests/${old.manifest.digest}`)).status, 200);
  });

  test('tags/list has what was pushed at once, and what the upstream has beside it', async t => {
    const { ghcr, client } = await startPushing(t);
    ghcr.push(NAME, old, 'b');
    assert.deepEqual(await client.tags(), ['b']);
    await client.image(now, 'c');
    assert.deepEqual(await client.tags(), ['b', 'c']);
    assertCreated(await client.manifest(now.manifest, 'a'));
    assert.deepEqual(await client.tags(), ['a', 'b', 'c']);
    const page = await client.get('tags/list?n=2&last=a');
    assert.deepEqual(JSON.parse(page.body.toString()), { name: NAME, tags: ['b', 'c'] });
  });

  test('pushed by two at once point where the upstream says', LIMIT, async t => {
    for (let round = 0; round < 2; round++) {
      const { ghcr, client } = await startPushing(t);
      const images = Array.from({ length: 5 }, (_, i) => makeImage({ layers: [10], seed: `${round} ${i}` }));
      for (const each of images) await client.parts(each);
      // The first to come is the last to be answered.
      const gate = Promise.withResolvers<void>();
      const fault = ghcr.fault({
        endpoint: 'manifest',
        method: 'PUT',
        at: 'done',
        gate: gate.promise,
        times: 1,
      });
      const pushes = images.map(({ manifest }) => client.manifest(manifest, 'latest'));
      await fault.reached();
      await aWhile(client);
      gate.resolve();
      for (const got of await Promise.all(pushes)) assertCreated(got);
      const got = await client.get('manifests/latest');
      assert.equal(got.headers['docker-content-digest'], upstreamTag(ghcr, 'latest'));
    }
  });

  test(
    'a pull that asks the upstream while a push runs does not bring the old manifest back',
    LIMIT,
    async t => {
      for (const ask of ['before', 'during'] as const) {
        const { ghcr, clock, client } = await startPushing(t);
        await client.image(old, 'v1');
        await client.parts(now);
        clock.advance(3600_000);
        const gate = Promise.withResolvers<void>();
        const held = { endpoint: 'manifest', at: 'done', gate: gate.promise, times: 1 } as const;
        let pulled: ReturnType<PushClient['get']>;
        let pushed: ReturnType<PushClient['get']>;
        if (ask === 'before') {
          const question = ghcr.fault({ ...held, method: 'GET' });
          pulled = client.get('manifests/v1');
          await question.reached();
          pushed = client.manifest(now.manifest, 'v1');
        } else {
          const push = ghcr.fault({ ...held, method: 'PUT' });
          pushed = client.manifest(now.manifest, 'v1');
          await push.reached();
          pulled = client.get('manifests/v1');
          // That one and any other request go in some order; it is here when this one is answered.
          await client.get('/v2/');
        }
        gate.resolve();
        assertCreated(await pushed);
        assert.equal((await pulled).status, 200);
        for (const afterMs of [0, 3600_000]) {
          clock.advance(afterMs);
          assert.deepEqual((await client.get('manifests/v1')).body, now.manifest.bytes, `${ask} ${afterMs}`);
        }
        assert.equal(upstreamTag(ghcr, 'v1'), now.manifest.digest);
      }
    },
  );
});

describe('the warning that GitHub will not connect a package', () => {
  const SOURCE = 'org.opencontainers.image.source';
  const url = 'https://github.com/owner/app';

  test('comes where neither a label nor an annotation names the source', async t => {
    const { client } = await startPushing(t);
    const labelled = makeImage({ layers: [1], labels: { [SOURCE]: url } });
    const rows: [string, Image | Index, RegExp | undefined][] = [
      [
        'without',
        image,
        /label org\.opencontainers\.image\.source, such as https:\/\/github\.com\/owner\/app/,
      ],
      ['an empty label', makeImage({ layers: [2], labels: { [SOURCE]: '' } }), /label/],
      ['a label', labelled, undefined],
      ['an annotation', makeImage({ layers: [3], annotations: { [SOURCE]: url } }), undefined],
      ['docker, without', makeImage({ layers: [4], type: 'docker' }), /label/],
      ['docker, a label', makeImage({ layers: [5], type: 'docker', labels: { [SOURCE]: url } }), undefined],
      [
        'an index of what has labels',
        makeIndex([labelled]),
        /annotation org\.opencontainers\.image\.source on the index/,
      ],
      ['an index, an annotation', makeIndex([image], { annotations: { [SOURCE]: url } }), undefined],
      ['an artifact', makeImage({ layers: [6], artifactType: 'application/x' }), undefined],
      ['a referrer', makeImage({ layers: [7], subject: image.manifest }), undefined],
    ];
    for (const [name, each, says] of rows) {
      await client.parts(each);
      for (const reference of ['v1', each.manifest.digest]) {
        const { headers, status } = await client.manifest(each.manifest, reference);
        assert.equal(status, 201);
        if (says === undefined) assert.equal(headers.warning, undefined, name);
        else assert.match(String(headers.warning), new RegExp(`^299 - "[^"]*${says.source}[^"]*"$`), name);
      }
    }
  });

  test('is not for other registries, nor for those whose configs cannot be read', async t => {
    const { cache, client } = await startPushing(t, { otherNames: ['registry.example'] });
    const other = new PushClient(cache.url, `registry.example/${NAME}`);
    assert.equal((await other.image(image, 'v1')).headers.warning, undefined);
    for (const text of ['no JSON', 'null', '[]', '{"config":null}', '{"config":{"Labels":null}}', '5']) {
      const config = contentOf(text);
      assertCreated(await client.stream(config));
      const manifest = manifestOf({
        ...fields,
        layers: [],
        config: { ...fields.config, digest: config.digest },
      });
      assertCreated(await client.manifest(manifest, 'odd'));
    }
  });
});

describe('referrers', () => {
  const subject = image.manifest;
  const path = `referrers/${subject.digest}`;
  const signature = makeImage({
    layers: [10],
    subject,
    artifactType: 'application/vnd.example.signature',
    annotations: { of: 'somebody' },
  });
  const plain = makeImage({ layers: [20], subject });
  const sbom = makeIndex([image], { subject, annotations: { kind: 'index' } });

  interface Listed {
    digest: string;
    mediaType: string;
    size: number;
    artifactType?: string;
    annotations?: Record<string, string>;
  }

  async function listed(client: PushClient, query = '', from = path): Promise<Listed[]> {
    const got = await client.get(`${from}${query}`);
    assert.equal(got.status, 200, sentenceOf(got));
    assert.equal(got.headers['content-type'], INDEX);
    const { schemaVersion, mediaType, manifests } = JSON.parse(got.body.toString());
    assert.deepEqual([schemaVersion, mediaType], [2, INDEX]);
    return manifests;
  }

  const digestsOf = (entries: readonly { digest: string }[]) => entries.map(({ digest }) => digest).sort();
  const digestsIn = (images: readonly (Image | Index)[]) =>
    images.map(({ manifest }) => manifest.digest).sort();

  /** What other tools would find at the upstream, by the fallback tag. */
  function fallbackEntries(ghcr: Ghcr): Listed[] {
    const tag = `sha256-${subject.digest.slice(7)}`;
    const bytes = packageOf(ghcr)?.manifests.get(upstreamTag(ghcr, tag) ?? '')?.bytes;
    return bytes === undefined ? [] : JSON.parse(Buffer.from(bytes).toString()).manifests;
  }

  for (const referrers of ['supported', 'redirect', 'not-found'] as const) {
    const hasApi = referrers === 'supported';
    const start = (t: TestContext, switches: Partial<Switches> = {}) =>
      startPushing(t, { stand: { switches: { referrers, ...switches } } });

    describe(`of an upstream that ${hasApi ? 'has the API' : `answers it by ${referrers}`}`, () => {
      test('are listed as soon as they are pushed, before their subject and after it', async t => {
        const { ghcr, client } = await start(t);
        assert.deepEqual(await listed(client), []);
        for (const reference of ['tagged', signature.manifest.digest]) {
          const got = await client.image(signature, reference);
          assert.equal(got.headers['oci-subject'], subject.digest);
        }
        assert.deepEqual(digestsOf(await listed(client)), digestsIn([signature]));
        assert.equal((await client.image(image, 'v1')).headers['oci-subject'], undefined);
        assert.equal((await client.image(plain)).headers['oci-subject'], subject.digest);
        assert.equal((await client.image(sbom, 'sbom')).headers['oci-subject'], subject.digest);
        const all = await listed(client);
        assert.deepEqual(digestsOf(all), digestsIn([signature, plain, sbom]));
        const entryOf = ({ manifest }: Image | Index) => all.find(({ digest }) => digest === manifest.digest);
        assert.deepEqual(entryOf(signature), {
          mediaType: OCI,
          digest: signature.manifest.digest,
          size: signature.manifest.bytes.length,
          artifactType: 'application/vnd.example.signature',
          annotations: { of: 'somebody' },
        });
        assert.equal(entryOf(plain)?.artifactType, 'application/vnd.oci.image.config.v1+json');
        assert.deepEqual([entryOf(sbom)?.mediaType, entryOf(sbom)?.annotations], [INDEX, { kind: 'index' }]);
        assert.deepEqual(digestsOf(fallbackEntries(ghcr)), hasApi ? [] : digestsOf(all));
        const tags = hasApi ? [] : [`sha256-${subject.digest.slice(7)}`];
        assert.deepEqual(await client.tags(), ['sbom', ...tags, 'tagged', 'v1']);
      });

      test('can be asked for by their type', async t => {
        const { client } = await start(t);
        for (const each of [signature, plain]) await client.image(each);
        const type = 'application/vnd.example.signature';
        for (const [wanted, found] of [
          [type, [signature]],
          ['application/vnd.oci.image.config.v1+json', [plain]],
          ['application/none', []],
        ] as const) {
          const query = `?artifactType=${encodeURIComponent(wanted)}`;
          assert.deepEqual(digestsOf(await listed(client, query)), digestsIn(found));
          assert.equal((await client.get(path + query)).headers['oci-filters-applied'], 'artifactType');
        }
        assert.equal((await client.get(path)).headers['oci-filters-applied'], undefined);
      });

      test('of what nobody refers to, or of an unknown repository, are an empty list; of no digest, an error', async t => {
        const { cache, client } = await start(t);
        await client.image(image, 'v1');
        assert.deepEqual(await listed(client), []);
        assert.deepEqual(await listed(client, '', `referrers/sha256:${'0'.repeat(64)}`), []);
        assert.deepEqual(await listed(new PushClient(cache.url, 'owner/none')), []);
        for (const name of ['sha256:totallywrong', 'v1']) {
          assertRefused(await client.get(`referrers/${name}`), 400, 'DIGEST_INVALID');
        }
      });

      test('are served stale when the upstream is away', async t => {
        const { ghcr, clock, client } = await start(t);
        await client.image(signature);
        assert.equal((await listed(client)).length, 1);
        clock.advance(3600_000);
        await ghcr.stop();
        const got = await client.get(path);
        assert.deepEqual([got.status, got.headers['x-cache']], [200, 'stale'], sentenceOf(got));
        assert.match(String(got.headers.warning), /^299 - "/);
        assert.equal(got.headers.age, '3600');
        assert.equal(JSON.parse(got.body.toString()).manifests.length, 1);
        const unknown = await client.get(`referrers/sha256:${'1'.repeat(64)}`);
        assert.equal(unknown.status, 502, sentenceOf(unknown));
      });

      test('pushed twenty at once are all listed', LIMIT, async t => {
        const { ghcr, client } = await start(t);
        const images = Array.from({ length: 20 }, (_, i) =>
          makeImage({ layers: [10], subject, annotations: { number: `${i}` } }),
        );
        await client.parts(image);
        const [first] = images;
        await client.parts(first ?? assert.fail());
        const pushes = images.map(({ manifest }, i) =>
          client.manifest(manifest, i % 2 ? `t${i}` : manifest.digest),
        );
        for (const got of await Promise.all(pushes)) assertCreated(got);
        assert.deepEqual(digestsOf(await listed(client)), digestsIn(images));
        if (!hasApi) assert.deepEqual(digestsOf(fallbackEntries(ghcr)), digestsIn(images));
      });

      test('that are deleted leave the list', async t => {
        const { client } = await start(t, { allowDelete: true });
        for (const each of [signature, plain, sbom]) await client.image(each);
        const left: (Image | Index)[] = [signature, plain, sbom];
        for (const each of [plain, sbom, signature]) {
          assert.equal((await client.delete(`manifests/${each.manifest.digest}`)).status, 202);
          left.splice(left.indexOf(each), 1);
          assert.deepEqual(digestsOf(await listed(client)), digestsIn(left));
        }
      });
    });
  }

  test('by a subject of sha512', async t => {
    const { client } = await startPushing(t, { stand: { switches: { digests: ['sha256', 'sha512'] } } });
    const long = makeImage({ layers: [10], algorithm: 'sha512' });
    const referrer = makeImage({ layers: [20], subject: long.manifest });
    const got = await client.image(referrer, 'v1');
    assert.equal(got.headers['oci-subject'], long.manifest.digest);
    assert.deepEqual(
      digestsOf(await listed(client, '', `referrers/${long.manifest.digest}`)),
      digestsIn([referrer]),
    );
  });

  test('that others wrote to the fallback tag stay, and are listed', async t => {
    const { ghcr, client } = await startPushing(t);
    ghcr.push(NAME, plain);
    const theirs = makeIndex([plain], { annotations: { made: 'elsewhere' } });
    ghcr.push(NAME, theirs, `sha256-${subject.digest.slice(7)}`);
    assert.deepEqual(digestsOf(await listed(client)), digestsIn([plain]));
    await client.image(signature);
    assert.deepEqual(digestsOf(await listed(client)), digestsIn([plain, signature]));
    assert.deepEqual(digestsOf(fallbackEntries(ghcr)), digestsIn([plain, signature]));
    const { body } = await client.get(`manifests/sha256-${subject.digest.slice(7)}`);
    assert.deepEqual(JSON.parse(body.toString()).annotations, { made: 'elsewhere' });
  });

  test('that were deleted behind our back do not keep the next from being listed', async t => {
    const { ghcr, client } = await startPushing(t);
    await client.image(signature);
    await client.image(plain);
    ghcr.deleteManifest(NAME, signature.manifest.digest);
    await client.image(sbom);
    assert.deepEqual(digestsOf(await listed(client)), digestsIn([plain, sbom]));
    assert.deepEqual(digestsOf(fallbackEntries(ghcr)), digestsIn([plain, sbom]));
  });

  test('that cannot be listed fail the push, and pushing them again mends it', async t => {
    const { ghcr, client } = await startPushing(t);
    const tag = `sha256-${subject.digest.slice(7)}`;
    await client.parts(signature);
    const fault = ghcr.fault({ endpoint: 'manifest', method: 'PUT', reference: tag, answer: answers.denied });
    assertRefused(await client.manifest(signature.manifest), 403, 'DENIED', /Credential "ci"/);
    fault.remove();
    assertCreated(await client.manifest(signature.manifest));
    assert.deepEqual(digestsOf(await listed(client)), digestsIn([signature]));
  });
});

describe('deletes of an ordinary registry', () => {
  const start = (t: TestContext) => startPushing(t, { stand: { switches: { allowDelete: true } } });

  test('of a tag: it alone is gone, at once', async t => {
    const { ghcr, client } = await start(t);
    await client.image(image, 'v1', 'v2');
    assert.equal((await client.get('manifests/v1')).status, 200);
    const got = await client.delete('manifests/v1');
    assert.deepEqual([got.status, got.body.length], [202, 0], sentenceOf(got));
    assert.equal(upstreamTag(ghcr, 'v1'), undefined);
    for (const method of ['GET', 'HEAD'])
      assert.equal((await client.ask(method, 'manifests/v1')).status, 404);
    assert.deepEqual(await client.tags(), ['v2']);
    for (const reference of ['v2', image.manifest.digest]) {
      assert.equal((await client.get(`manifests/${reference}`)).headers['x-cache'], 'hit');
    }
    assertRefused(await client.delete('manifests/v1'), 404, 'MANIFEST_UNKNOWN');
    assertCreated(await client.manifest(image.manifest, 'v1'));
    assert.equal((await client.get('manifests/v1')).status, 200);
  });

  test('of a manifest: it and its tags are gone, at once', async t => {
    const { ghcr, cache, client } = await start(t);
    const other = makeImage({ layers: [10], seed: 'other' });
    await client.image(image, 'v1', 'v2');
    await client.image(other, 'other');
    const { digest } = image.manifest;
    assert.equal((await client.delete(`manifests/${digest}`)).status, 202);
    assert.equal(packageOf(ghcr)?.manifests.has(digest), false);
    for (const reference of [digest, 'v1', 'v2']) {
      for (const method of ['GET', 'HEAD'])
        assert.equal((await client.ask(method, `manifests/${reference}`)).status, 404);
    }
    assert.deepEqual(await client.tags(), ['other']);
    assert(!(await contentOnDisk(cache)).includes(digest));
    assertRefused(await client.delete(`manifests/${digest}`), 404, 'MANIFEST_UNKNOWN');
    await client.image(image, 'v1');
    assert.equal((await client.get('manifests/v1')).status, 200);
  });

  test('of a blob: it is gone, at once, and can be pushed again', async t => {
    const both = await start(t);
    const { ghcr, cache, client } = both;
    const blob = image.layers[0] ?? assert.fail();
    for (let round = 0; round < 2; round++) {
      assertCreated(await client.stream(blob));
      await assertPushed(both, blob);
      assert.equal((await client.delete(`blobs/${blob.digest}`)).status, 202);
      assert.equal(packageOf(ghcr)?.blobs.has(blob.digest), false);
      for (const method of ['GET', 'HEAD'])
        assert.equal((await client.ask(method, `blobs/${blob.digest}`)).status, 404);
      assert.deepEqual(await contentOnDisk(cache), []);
      assertRefused(await client.delete(`blobs/${blob.digest}`), 404, 'BLOB_UNKNOWN');
    }
  });

  test('of what another repository links: there it stays, and is served', async t => {
    const both = await start(t);
    const { cache, client } = both;
    const other = new PushClient(cache.url, 'owner/other');
    for (const each of [client, other]) await each.image(image, 'v1');
    const blob = image.layers[0] ?? assert.fail();
    assert.equal((await client.delete(`manifests/${image.manifest.digest}`)).status, 202);
    assert.equal((await client.delete(`blobs/${blob.digest}`)).status, 202);
    for (const path of ['manifests/v1', `manifests/${image.manifest.digest}`, `blobs/${blob.digest}`]) {
      assert.equal((await client.get(path)).status, 404, path);
      assert.equal((await other.get(path)).headers['x-cache'], 'hit', path);
    }
    await assertPushed(both, blob, 'owner/other');
  });

  test('of what is here and not there any more: 404, and it is not served either', async t => {
    const { ghcr, client } = await start(t);
    await client.image(image, 'v1', 'v2');
    const blob = image.layers[0] ?? assert.fail();
    ghcr.deleteTag(NAME, 'v2');
    assertRefused(await client.delete('manifests/v2'), 404, 'MANIFEST_UNKNOWN');
    ghcr.deleteManifest(NAME, image.manifest.digest);
    ghcr.deleteBlob(NAME, blob.digest);
    for (const path of [`manifests/${image.manifest.digest}`, `blobs/${blob.digest}`]) {
      assert.equal((await client.get(path)).status, 200);
      assert.equal((await client.delete(path)).status, 404);
      assert.equal((await client.get(path)).status, 404);
    }
    for (const tag of ['v1', 'v2']) assert.equal((await client.get(`manifests/${tag}`)).status, 404);
  });

  for (const answer of [answers.unsupported, answers.digestInvalid]) {
    test(`of a tag, where manifests are deleted by digest alone (${answer.status}): the manifest stays`, async t => {
      const both = await startPushing(t, {
        stand: { switches: { allowDelete: true } },
        otherNames: ['registry.example'],
      });
      const { ghcr, cache } = both;
      const client = new PushClient(cache.url, `registry.example/${NAME}`);
      await client.image(image, 'v1', 'v2');
      ghcr.fault({ endpoint: 'manifest', method: 'DELETE', reference: 'v1', answer });
      const got = await client.delete('manifests/v1');
      assert.equal(got.status, 202, sentenceOf(got));
      assert.equal((await client.get('manifests/v1')).status, 404);
      assert.deepEqual(await client.tags(), ['v2']);
      assert.deepEqual([...(packageOf(ghcr)?.tags.keys() ?? [])], ['v2']);
      assert.deepEqual([...(packageOf(ghcr)?.manifests.keys() ?? [])], [image.manifest.digest]);
      assert.deepEqual((await client.get('manifests/v2')).body, image.manifest.bytes);
    });
  }

  test('of a tag, where not even that works: the tag points where it did', async t => {
    const { ghcr, cache } = await startPushing(t, { otherNames: ['registry.example'] });
    const client = new PushClient(cache.url, `registry.example/${NAME}`);
    await client.image(image, 'v1', 'v2');
    assertRefused(await client.delete('manifests/v1'), 405, 'UNSUPPORTED');
    assert.equal(upstreamTag(ghcr, 'v1'), image.manifest.digest);
    assert.deepEqual((await client.get('manifests/v1')).body, image.manifest.bytes);
    assertRefused(await client.delete(`manifests/${image.manifest.digest}`), 405, 'UNSUPPORTED');
    assertRefused(await client.delete(`blobs/${image.config.digest}`), 405, 'UNSUPPORTED');
    assert.equal((await client.get(`blobs/${image.config.digest}`)).headers['x-cache'], 'hit');
  });
});

describe('deletes through the package interface', () => {
  const images = ['a', 'b', 'c'].map(seed => makeImage({ layers: [10], seed }));
  const at = (i: number) => images[i] ?? assert.fail();

  async function startFilled(t: TestContext, name = NAME, options: PushOptions = {}) {
    const both = await startPushing(t, options);
    const client = new PushClient(both.cache.url, name);
    for (const [i, each] of images.entries()) await client.image(each, `v${i}`);
    both.ghcr.resetCounters();
    return { ...both, client };
  }

  for (const [kind, name] of [
    ['an organisation', NAME],
    ['an organisation, in a folder', 'owner/team/app'],
    ['a user', 'octocat/app'],
  ] as const) {
    test(`of ${kind}: by digest and by tag`, async t => {
      const { ghcr, cache, client } = await startFilled(t, name);
      const path = `manifests/${at(0).manifest.digest}`;
      const got = await client.delete(path);
      assert.equal(got.status, 202, sentenceOf(got));
      assert.equal((await client.delete('manifests/v1')).status, 202);
      assert.deepEqual([...(packageOf(ghcr, name)?.tags ?? [])], [['v2', at(2).manifest.digest]]);
      assert.deepEqual([...(packageOf(ghcr, name)?.manifests.keys() ?? [])], [at(2).manifest.digest]);
      for (const gone of [path, 'manifests/v0', 'manifests/v1', `manifests/${at(1).manifest.digest}`]) {
        assert.equal((await client.get(gone)).status, 404, gone);
      }
      assert.deepEqual(await client.tags(), ['v2']);
      const disk = await contentOnDisk(cache);
      for (const each of [at(0), at(1)]) assert(!disk.includes(each.manifest.digest));
      assertRefused(await client.delete(path), 404, 'MANIFEST_UNKNOWN', /credential "ci"/);
      assertRefused(await client.delete('manifests/v1'), 404, 'MANIFEST_UNKNOWN');
    });
  }

  test('finds what is not on the first page', async t => {
    const { ghcr, client } = await startFilled(t);
    for (let i = 0; i < 210; i++) {
      const manifest = manifestOf({ ...fields, annotations: { number: `${i}` } });
      ghcr.push(NAME, { ...image, manifest }, `n${i}`);
    }
    assert.equal((await client.delete(`manifests/${at(0).manifest.digest}`)).status, 202);
    assert.equal((await client.delete('manifests/v1')).status, 202);
    assert.deepEqual([upstreamTag(ghcr, 'v0'), upstreamTag(ghcr, 'v1')], [undefined, undefined]);
    assert.equal(packageOf(ghcr)?.tags.size, 211);
  });

  test('a tag that shares its version is not deleted, and the answer names the others', async t => {
    const { ghcr, client } = await startFilled(t);
    for (const tag of ['latest', 'stable']) assertCreated(await client.manifest(at(1).manifest, tag));
    const got = await client.delete('manifests/v1');
    assertRefused(got, 405, 'UNSUPPORTED', /latest, stable would go too/, /by its digest/);
    assert.deepEqual((errorOf(got) as { detail?: unknown }).detail, {
      digest: at(1).manifest.digest,
      tags: ['v1', 'latest', 'stable'],
    });
    for (const tag of ['v1', 'latest', 'stable']) {
      assert.equal(upstreamTag(ghcr, tag), at(1).manifest.digest);
      assert.equal((await client.get(`manifests/${tag}`)).status, 200);
    }
    assert.equal((await client.delete(`manifests/${at(1).manifest.digest}`)).status, 202);
    for (const tag of ['v1', 'latest', 'stable'])
      assert.equal((await client.get(`manifests/${tag}`)).status, 404);
  });

  test('what GitHub does not do is said, and nothing is gone', async t => {
    const rights = /"ci".*read:packages and delete:packages/;
    const rows: [string, PushOptions, number, string, RegExp][] = [
      ['no right to delete', { user: { ...WRITER, scopes: ['write:packages'] } }, 403, 'DENIED', rights],
      [
        'single sign-on',
        { stand: { switches: { singleSignOn: 'required' } } },
        403,
        'DENIED',
        /credential "ci".*single sign-on/,
      ],
      [
        'many downloads',
        { stand: { switches: { downloadsOf: () => 5001 } } },
        405,
        'UNSUPPORTED',
        /more than 5000 downloads/,
      ],
    ];
    for (const [name, options, status, code, says] of rows) {
      const { ghcr, client } = await startFilled(t, NAME, options);
      ghcr.addPackage(NAME, { visibility: 'public' });
      for (const reference of ['v0', at(0).manifest.digest]) {
        const got = await client.delete(`manifests/${reference}`);
        assert.equal(got.status, status, `${name} ${sentenceOf(got)}`);
        assertRefused(got, status, code, says);
        assert.equal((await client.get(`manifests/${reference}`)).status, 200);
      }
      assert.equal(upstreamTag(ghcr, 'v0'), at(0).manifest.digest);
    }
  });

  test('takes the rights that GitHub wants for it, and not that to push', async t => {
    const { ghcr, client } = await startPushing(t, {
      user: { ...WRITER, scopes: ['read:packages', 'delete:packages'] },
    });
    for (const [i, each] of images.entries()) ghcr.push(NAME, each, `v${i}`);
    assert.equal((await client.delete('manifests/v0')).status, 202);
    assert.equal((await client.delete(`manifests/${at(1).manifest.digest}`)).status, 202);
    assert.deepEqual([...(packageOf(ghcr)?.tags.keys() ?? [])], ['v2']);
  });

  test('the last version stays, and so does the last with a tag', async t => {
    const { ghcr, client } = await startFilled(t);
    for (const tag of ['v0', 'v1']) assert.equal((await client.delete(`manifests/${tag}`)).status, 202);
    assertRefused(await client.delete('manifests/v2'), 405, 'UNSUPPORTED', /delete the package instead/);
    assert.equal(upstreamTag(ghcr, 'v2'), at(2).manifest.digest);
    assert.equal((await client.get('manifests/v2')).status, 200);
  });

  test('an interface that limits, fails or is away', async t => {
    const { ghcr, client } = await startFilled(t);
    const path = `manifests/${at(0).manifest.digest}`;
    for (const method of ['GET', 'DELETE']) {
      for (const [answer, status, code] of [
        [
          { status: 429, headers: { 'retry-after': '17' }, body: { message: 'slow down' } },
          429,
          'TOOMANYREQUESTS',
        ],
        [{ status: 503, body: { message: 'unwell' } }, 502, 'UPSTREAM_UNAVAILABLE'],
        [{ status: 401, body: { message: 'Bad credentials' } }, 403, 'DENIED'],
      ] as const) {
        const fault = ghcr.fault({ endpoint: 'api', method, answer });
        const got = await client.delete(path);
        assertRefused(got, status, code, new RegExp(answer.body.message));
        if (status === 429) assert.equal(got.headers['retry-after'], '17');
        fault.remove();
      }
    }
    const fault = ghcr.fault({ endpoint: 'api', method: 'GET', answer: answers.htmlPage });
    assertRefused(await client.delete(path), 502, 'UPSTREAM_INVALID', /no list of versions/);
    fault.remove();
    await ghcr.stop('api');
    assertRefused(await client.delete(path), 502, 'UPSTREAM_UNAVAILABLE', /ECONNREFUSED/);
    await ghcr.restart();
    assert.equal((await client.get(path)).status, 200);
    assert.equal((await client.delete(path)).status, 202);
  });

  test('without a credential nothing is deleted', async t => {
    const { ghcr, cache } = await startPushing(t, {
      upstream: { credentials: [{ name: 'other', owner: 'somebody', username: 'x', token: 'ghp_x' }] },
    });
    ghcr.push(NAME, image, 'v1');
    const got = await new PushClient(cache.url).delete('manifests/v1');
    assertRefused(got, 403, 'DENIED', /no credential of the config is for owner "owner"/);
    assert.equal(upstreamTag(ghcr, 'v1'), image.manifest.digest);
  });

  test('blobs cannot be deleted at ghcr.io', async t => {
    const both = await startFilled(t);
    const blob = at(0).layers[0] ?? assert.fail();
    assertRefused(await both.client.delete(`blobs/${blob.digest}`), 405, 'UNSUPPORTED');
    await assertPushed(both, blob);
  });
});
