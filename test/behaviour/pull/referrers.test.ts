// Lists of referrers as they are found at upstreams: entries that say too little, empty lists, and lists in two places.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { startBoth, type TestCache } from '../../support/cache.ts';
import { answers, type Ghcr, type Switches } from '../../support/ghcr/ghcr.ts';
import { type Image, makeImage } from '../../support/images.ts';

const NAME = 'owner/app';
const EMPTY = 'application/vnd.oci.empty.v1+json';
const BUNDLE = 'application/vnd.dev.sigstore.bundle.v0.3+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const subject = makeImage({ layers: [1000] });
const TAG = `sha256-${subject.manifest.digest.slice(7)}`;
const PATH = `/v2/${NAME}/referrers/${subject.manifest.digest}`;

const signature = (number = 0) =>
  makeImage({
    layers: [10],
    subject: subject.manifest,
    artifactType: BUNDLE,
    annotations: { 'dev.sigstore.bundle.predicateType': 'https://sigstore.dev/cosign/sign/v1', number: `${number}` },
  });

/** As cosign 3 writes it. */
const entryOf = ({ manifest: { mediaType, digest, bytes } }: Image) => {
  return { mediaType, digest, size: bytes.length, artifactType: EMPTY };
};

function pushIndex(ghcr: Ghcr, entries: readonly unknown[]): void {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: entries }));
  ghcr.push(NAME, { manifest: { bytes, digest: digestOf(bytes), mediaType: INDEX }, images: [] }, TAG);
}

async function listed(cache: TestCache, query = '') {
  const got = await cache.get(PATH + query);
  assert.equal(got.status, 200, got.body.toString());
  return {
    entries: JSON.parse(got.body.toString()).manifests as Record<string, unknown>[],
    outcome: got.headers['x-cache'],
  };
}

describe('referrers that are listed without their type', () => {
  test('get type and annotations from their manifests, before they are filtered', async t => {
    const { ghcr, cache } = await startBoth(t);
    const cosign = signature();
    const typed = makeImage({ layers: [20], subject: subject.manifest, annotations: { not: 'told' } });
    ghcr.push(NAME, subject, 'v1');
    for (const each of [cosign, typed]) ghcr.push(NAME, each);
    const own = { ...entryOf(typed), artifactType: 'application/vnd.example' };
    pushIndex(ghcr, [entryOf(cosign), own, { ...entryOf(signature(1)), annotations: { kept: 'so' } }]);
    const { entries } = await listed(cache);
    const { annotations } = JSON.parse(cosign.manifest.bytes.toString());
    assert.deepEqual(entries, [
      { ...entryOf(cosign), artifactType: BUNDLE, annotations },
      own,
      // What cannot be read stays as it is.
      { ...entryOf(signature(1)), annotations: { kept: 'so' } },
    ]);
    const filtered = await listed(cache, `?artifactType=${encodeURIComponent(BUNDLE)}`);
    assert.deepEqual(
      filtered.entries.map(({ digest }) => digest),
      [cosign.manifest.digest],
    );
    // Kept like everything that is pulled, and there in an outage.
    ghcr.resetCounters();
    await listed(cache);
    assert.equal(ghcr.count({ digest: cosign.manifest.digest }), 0);
    await ghcr.stop();
    assert.equal((await listed(cache)).entries[0]?.artifactType, BUNDLE);
  });

  test('are read a hundred at most, and not one after another for an upstream that is away', async t => {
    const { ghcr, cache, clock } = await startBoth(t);
    ghcr.push(NAME, subject, 'v1');
    const all = Array.from({ length: 120 }, (_, i) => signature(i));
    for (const each of all) ghcr.push(NAME, each);
    pushIndex(ghcr, all.map(entryOf));
    const fault = ghcr.fault({ endpoint: 'manifest', answer: answers.serverError(), skip: 1 });
    assert.equal((await listed(cache)).entries.length, 120);
    assert(fault.hits < 40, `${fault.hits} requests to an upstream that fails`);
    fault.remove();
    clock.advance(60_000);
    ghcr.resetCounters();
    const { entries } = await listed(cache);
    assert.equal(entries.filter(({ artifactType }) => artifactType === BUNDLE).length, 100);
    assert.deepEqual(
      entries.map(({ digest }) => digest),
      all.map(({ manifest }) => manifest.digest),
    );
  });
});

describe('an empty list of referrers', () => {
  for (const referrers of ['redirect', 'not-found', 'supported'] as Switches['referrers'][]) {
    test(`is remembered, and served in an outage (${referrers})`, async t => {
      const { ghcr, cache, clock } = await startBoth(t, { fake: { switches: { referrers } } });
      ghcr.push(NAME, subject, 'v1');
      assert.deepEqual((await listed(cache)).entries, []);
      clock.advance(3600_000);
      assert.deepEqual((await listed(cache)).entries, []);
      clock.advance(3600_000);
      await ghcr.stop();
      assert.deepEqual(await listed(cache), { entries: [], outcome: 'stale' });
      const got = await cache.get(PATH);
      assert.equal(got.headers.age, '3600');
    });
  }

  test('does not hide what was listed since, in an outage', async t => {
    const { ghcr, cache, clock } = await startBoth(t);
    ghcr.push(NAME, subject, 'v1');
    assert.deepEqual((await listed(cache)).entries, []);
    const each = signature();
    ghcr.push(NAME, each);
    pushIndex(ghcr, [entryOf(each)]);
    clock.advance(3600_000);
    assert.equal((await listed(cache)).entries.length, 1);
    clock.advance(3600_000);
    await ghcr.stop();
    const { entries, outcome } = await listed(cache);
    assert.deepEqual([entries.length, outcome], [1, 'stale']);
  });
});

test('an upstream that lists none by the API, and some under the fallback tag: those are listed', async t => {
  const { ghcr, cache, clock } = await startBoth(t);
  const empty = { status: 200, headers: { 'content-type': INDEX }, body: { schemaVersion: 2, manifests: [] } };
  ghcr.fault({ endpoint: 'referrers', answer: empty });
  ghcr.push(NAME, subject, 'v1');
  const each = signature();
  ghcr.push(NAME, each);
  pushIndex(ghcr, [entryOf(each)]);
  assert.deepEqual(
    (await listed(cache)).entries.map(({ digest }) => digest),
    [each.manifest.digest],
  );
  clock.advance(3600_000);
  await ghcr.stop();
  const { entries, outcome } = await listed(cache);
  assert.deepEqual([entries.length, outcome], [1, 'stale']);
});
