// The referrers of a subject, with upstreams that list them and with those that do not.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { answers, type Ghcr, type Switches } from '../../support/ghcr/ghcr.ts';
import { type Image, type Index, makeImage, makeIndex } from '../../support/images.ts';
import {
  assertCreated,
  assertError,
  dataDirectory,
  INDEX,
  image,
  LIMIT,
  NAME,
  OCI,
  PushClient,
  packageOf,
  sentenceOf,
  startPushing,
  upstreamTag,
} from '../../support/push-client.ts';

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
  const digestsIn = (images: readonly (Image | Index)[]) => images.map(({ manifest }) => manifest.digest).sort();

  /** What other tools find at the upstream by the fallback tag. */
  function fallbackEntries(ghcr: Ghcr): Listed[] {
    const tag = `sha256-${subject.digest.slice(7)}`;
    const bytes = packageOf(ghcr)?.manifests.get(upstreamTag(ghcr, tag) ?? '')?.bytes;
    return bytes === undefined ? [] : JSON.parse(Buffer.from(bytes).toString()).manifests;
  }

  test('an empty list that was heard before a push does not hide it from a cache that starts without upstream', async t => {
    const { ghcr, cache, client, startCache } = await startPushing(t, { data: dataDirectory(t) });
    await client.image(image, 'v1');
    assert.deepEqual(await listed(client), []);
    await client.image(signature);
    await cache.stop();
    await ghcr.stop();
    const later = await startCache(cache.data);
    assert.deepEqual(digestsOf(await listed(new PushClient(later.url))), [signature.manifest.digest]);
  });

  for (const referrers of ['supported', 'redirect', 'not-found'] as const) {
    const hasApi = referrers === 'supported';
    const start = (t: TestContext, switches: Partial<Switches> = {}) =>
      startPushing(t, { fake: { switches: { referrers, ...switches } } });

    describe(`of an upstream ${hasApi ? 'with the API' : `without the API (${referrers})`}`, () => {
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

      test('are an empty list where there are none, also for unknown repositories; a malformed digest is an error', async t => {
        const { cache, client } = await start(t);
        await client.image(image, 'v1');
        assert.deepEqual(await listed(client), []);
        assert.deepEqual(await listed(client, '', `referrers/sha256:${'0'.repeat(64)}`), []);
        assert.deepEqual(await listed(new PushClient(cache.url, 'owner/none')), []);
        for (const name of ['sha256:totallywrong', 'v1']) {
          assertError(await client.get(`referrers/${name}`), 400, 'DIGEST_INVALID');
        }
      });

      test('are served stale when the upstream is unavailable', async t => {
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
        const pushes = images.map(({ manifest }, i) => client.manifest(manifest, i % 2 ? `t${i}` : manifest.digest));
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

  test('of a subject by sha512', async t => {
    const { client } = await startPushing(t, { fake: { switches: { digests: ['sha256', 'sha512'] } } });
    const long = makeImage({ layers: [10], algorithm: 'sha512' });
    const referrer = makeImage({ layers: [20], subject: long.manifest });
    const got = await client.image(referrer, 'v1');
    assert.equal(got.headers['oci-subject'], long.manifest.digest);
    assert.deepEqual(digestsOf(await listed(client, '', `referrers/${long.manifest.digest}`)), digestsIn([referrer]));
  });

  test('that other tools have written to the fallback tag stay, and are listed', async t => {
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

  test('that other tools have deleted do not keep the next from being listed', async t => {
    const { ghcr, client } = await startPushing(t);
    await client.image(signature);
    await client.image(plain);
    ghcr.deleteManifest(NAME, signature.manifest.digest);
    await client.image(sbom);
    assert.deepEqual(digestsOf(await listed(client)), digestsIn([plain, sbom]));
    assert.deepEqual(digestsOf(fallbackEntries(ghcr)), digestsIn([plain, sbom]));
  });

  test('that cannot be listed fail the push, and are listed when they are pushed again', async t => {
    const { ghcr, client } = await startPushing(t);
    const tag = `sha256-${subject.digest.slice(7)}`;
    await client.parts(signature);
    const fault = ghcr.fault({ endpoint: 'manifest', method: 'PUT', reference: tag, answer: answers.denied });
    assertError(await client.manifest(signature.manifest), 403, 'DENIED', /Credential "ci"/);
    fault.remove();
    assertCreated(await client.manifest(signature.manifest));
    assert.deepEqual(digestsOf(await listed(client)), digestsIn([signature]));
  });
});
