// Pushing manifests and tags: what is taken and what is not, and what GitHub users are warned of.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { contentOf, type Image, type Index, type Manifest, makeImage, makeIndex } from '../../support/images.ts';
import {
  assertCreated,
  assertError,
  INDEX,
  image,
  LIMIT,
  MIB,
  manifestOf,
  NAME,
  OCI,
  PushClient,
  packageOf,
  sentenceOf,
  startPushing,
  startWithParts,
  upstreamTag,
} from '../../support/push-client.ts';

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
      assert.deepEqual(Buffer.from(packageOf(ghcr)?.manifests.get(manifest.digest)?.bytes ?? []), manifest.bytes);
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
      assert.deepEqual([got.headers['content-type'], got.body], [kind.manifest.mediaType, kind.manifest.bytes]);
    }
    for (const [i, odd] of [{ layers: [] }, { layers: null }, { subject: null }, { annotations: null }].entries()) {
      assertCreated(await client.manifest(manifestOf({ ...fields, ...odd }), `odd-${i}`));
    }
  });

  test('with their type in the manifest, in Content-Type, or in neither', async t => {
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

  test('that are malformed are rejected, without a request to the upstream', async t => {
    const { ghcr, client } = await startWithParts(t);
    const rows: [string, string | object, string | undefined, RegExp][] = [
      ['nothing', '', OCI, /not a manifest/],
      ['no JSON', '{', OCI, /not a manifest/],
      ['no UTF-8', Buffer.from([0x22, 0xff, 0x22]), OCI, /not a manifest/],
      ['a list', '[]', OCI, /not a manifest/],
      ['null', 'null', OCI, /not a manifest/],
      ['a number', '5', OCI, /not a manifest/],
      ['no type at all', '{}', undefined, /not a manifest/],
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
      assertError(got, 400, 'MANIFEST_INVALID', says);
    }
    assert.equal(ghcr.requests.length, 0);
    assert.equal((await client.get('manifests/v1')).status, 404);
  });

  test('whose bytes do not match the digest, or whose names are malformed', async t => {
    const { ghcr, client } = await startWithParts(t);
    ghcr.resetCounters();
    const { bytes } = image.manifest;
    for (const digest of [digestOf(Buffer.concat([bytes, Buffer.from(' ')])), digestOf(Buffer.from(' '), 'sha512')]) {
      assertError(await client.manifest(image.manifest, digest), 400, 'DIGEST_INVALID', new RegExp(digest));
    }
    for (const name of ['sha256:baddigeststring', 'sha256:', 'md5:00', `${image.manifest.digest}0`]) {
      assertError(await client.manifest(image.manifest, name), 400, 'DIGEST_INVALID');
      assert([400, 404].includes((await client.get(`manifests/${name}`)).status ?? 0));
    }
    for (const tag of ['.hidden', '-dash', 'a'.repeat(129), 'a%20b', 'ä']) {
      assertError(await client.manifest(image.manifest, tag), 400, 'TAG_INVALID');
      assertError(await client.get(`manifests/${tag}`), 404, 'MANIFEST_UNKNOWN');
    }
    assert.equal(ghcr.requests.length, 0);
  });

  test('of 4 MiB are taken, of a byte more are not', async t => {
    const { ghcr, client } = await startWithParts(t);
    const padded = (sizeBytes: number) => manifestOf(image.manifest.bytes.toString().padEnd(sizeBytes));
    const [most, over] = [padded(4 * MIB), padded(4 * MIB + 1)];
    async function* chunked({ bytes }: Manifest) {
      for (let at = 0; at < bytes.length; at += MIB) yield bytes.subarray(at, at + MIB);
    }
    const headers = { 'content-type': OCI };
    assertCreated(await client.manifest(most, 'most'));
    assertCreated(await client.ask('PUT', 'manifests/chunked', { headers, body: chunked(most) }));
    for (const tag of ['most', 'chunked']) assert.deepEqual((await client.get(`manifests/${tag}`)).body, most.bytes);
    ghcr.resetCounters();
    for (const got of [
      await client.manifest(over, 'over'),
      await client.ask('PUT', 'manifests/over', { headers, body: chunked(over) }),
    ]) {
      assertError(got, 413, 'TOO_LARGE', /4 MiB/);
    }
    assert.equal(ghcr.requests.length, 0);
  });

  test('whose blobs or manifests the upstream lacks are rejected, and not recorded', async t => {
    const { ghcr, client } = await startPushing(t);
    const index = makeIndex([image]);
    const layer = image.layers[0] ?? assert.fail();
    assertCreated(await client.stream(image.config));
    for (const [{ manifest }, missing] of [
      [image, layer.digest],
      [index, image.manifest.digest],
    ] as const) {
      for (const reference of ['v1', manifest.digest]) {
        assertError(await client.manifest(manifest, reference), 400, 'MANIFEST_BLOB_UNKNOWN', new RegExp(missing));
        assert.equal((await client.get(`manifests/${reference}`)).status, 404);
      }
    }
    assert.equal(packageOf(ghcr)?.manifests.size ?? 0, 0);
    assertCreated(await client.stream(layer));
    assertCreated(await client.image(index, 'v1'));
    assert.equal((await client.get('manifests/v1')).status, 200);
  });

  test('with more tags in the query', async t => {
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
      assertError(await client.manifest(image.manifest, `${digest}?${query}`), 400, 'TAG_INVALID');
    }
    assert.equal(ghcr.requests.length, 0);
  });

  test('by sha512 are served by sha512, whether the upstream knows it or not', async t => {
    for (const digests of [['sha256'], ['sha256', 'sha512']] as const) {
      const both = await startWithParts(t, { fake: { switches: { digests } } });
      const { ghcr, clock, client } = both;
      const { bytes } = image.manifest;
      const sha512 = digestOf(bytes, 'sha512');
      const got = await client.manifest(image.manifest, `${sha512}?tag=v1`);
      assertCreated(got);
      assert.equal(got.headers['docker-content-digest'], sha512);
      assert.equal(got.headers.location, `/v2/${NAME}/manifests/${sha512}`);
      // Later the tag is revalidated; it still has the digest that it was pushed with.
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

/** Time enough for requests that nothing holds up to be answered. */
async function aWhile(client: PushClient): Promise<void> {
  for (let i = 0; i < 20; i++) await client.get('/v2/');
}

describe('tags', () => {
  const old = makeImage({ layers: [10], seed: 'old' });
  const now = makeImage({ layers: [10], seed: 'new' });

  test('that were moved are served correctly at once, fresh or not', async t => {
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
    // What it pointed to before is still there.
    assert.equal((await client.get(`manifests/${old.manifest.digest}`)).status, 200);
  });

  test('that were pushed are in tags/list at once, together with those of the upstream', async t => {
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

  test('pushed by several clients at once point where the upstream says', LIMIT, async t => {
    for (let round = 0; round < 2; round++) {
      const { ghcr, client } = await startPushing(t);
      const images = Array.from({ length: 5 }, (_, i) => makeImage({ layers: [10], seed: `${round} ${i}` }));
      for (const each of images) await client.parts(each);
      // The first push is answered last.
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

  test('do not point back to the old manifest after a pull that overlaps with a push', LIMIT, async t => {
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
        // Requests are taken in order: when this one is answered, that one has been taken.
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
  });
});

describe('the warning that GitHub will not connect a package to a repository', () => {
  const SOURCE = 'org.opencontainers.image.source';
  const url = 'https://github.com/owner/app';

  test('is given if neither a label nor an annotation names the source', async t => {
    const { client } = await startPushing(t);
    const labelled = makeImage({ layers: [1], labels: { [SOURCE]: url } });
    const rows: [string, Image | Index, RegExp | undefined][] = [
      ['without', image, /label org\.opencontainers\.image\.source, such as https:\/\/github\.com\/owner\/app/],
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

  test('is not given by other registries, nor for configs that cannot be read', async t => {
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
