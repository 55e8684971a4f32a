// Referrers at an upstream that lags: no entry is lost, whoever wrote it, and none comes back.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { PassingClock } from '../../support/clock.ts';
import { type Answer, answers, type Switches } from '../../support/ghcr/ghcr.ts';
import { type Image, type Index, makeImage, makeIndex } from '../../support/images.ts';
import {
  assertCreated,
  INDEX,
  image,
  NAME,
  type PushClient,
  packageOf,
  sentenceOf,
  startPushing,
  upstreamTag,
} from '../../support/push-client.ts';

const LAG_MS = 10_000;
const subject = image.manifest;
const TAG = `sha256-${subject.digest.slice(7)}`;
const referrer = (seed: string) => makeImage({ layers: [10], seed, subject });
const [signature, provenance, sbom, theirs] = ['signature', 'provenance', 'sbom', 'theirs'].map(referrer) as [
  ...[Image, Image, Image, Image],
];
const digestsIn = (images: readonly (Image | Index)[]) => images.map(({ manifest }) => manifest.digest).sort();

async function start(t: TestContext, switches: Partial<Switches> = {}) {
  const both = await startPushing(t, {
    clock: new PassingClock(),
    config: { tags: [{ match: '*', fresh: '1s' }] },
    fake: { switches: { allowDelete: true, referrers: 'not-found', lagMs: LAG_MS, ...switches } },
  });
  const { ghcr, client, clock } = both;
  await client.image(image, 'v1');
  clock.advance(3600_000);
  /** What is listed in each of the next seconds. */
  const assertListed = async (images: readonly Image[]) => {
    for (let second = 0; second < 15; second++) {
      assert.deepEqual(await listed(client), digestsIn(images), `after ${second} s`);
      clock.advance(1000);
    }
  };
  /** The index that other tools find. */
  const assertIndexed = (images: readonly Image[]) => {
    const bytes = packageOf(ghcr)?.manifests.get(upstreamTag(ghcr, TAG) ?? '')?.bytes ?? assert.fail('no index');
    const { manifests } = JSON.parse(Buffer.from(bytes).toString());
    assert.deepEqual(manifests.map(({ digest }: { digest: string }) => digest).sort(), digestsIn(images));
  };
  return { ...both, assertListed, assertIndexed };
}

async function listed(client: PushClient): Promise<string[]> {
  const got = await client.get(`referrers/${subject.digest}`);
  assert.equal(got.status, 200, sentenceOf(got));
  return JSON.parse(got.body.toString())
    .manifests.map(({ digest }: { digest: string }) => digest)
    .sort();
}

describe('referrers at an upstream that lags', () => {
  for (const referrers of ['not-found', 'supported'] as const) {
    test(`are all listed, signed and attested in parallel (${referrers})`, async t => {
      const { client, assertListed, assertIndexed } = await start(t, { referrers });
      await Promise.all([signature, provenance].map(each => client.image(each)));
      await client.image(sbom);
      await assertListed([signature, provenance, sbom]);
      if (referrers === 'not-found') assertIndexed([signature, provenance, sbom]);
    });

    test(`that are deleted do not come back, also not into the index (${referrers})`, async t => {
      const { client, clock, assertListed, assertIndexed } = await start(t, { referrers });
      await client.image(signature);
      clock.advance(3600_000);
      assert.deepEqual(await listed(client), digestsIn([signature]));
      assert.equal((await client.delete(`manifests/${signature.manifest.digest}`)).status, 202);
      assert.deepEqual(await listed(client), []);
      await client.image(provenance);
      await assertListed([provenance]);
      if (referrers === 'not-found') assertIndexed([provenance]);
    });
  }

  test('are kept when other tools list theirs in the same index', async t => {
    const { ghcr, client, clock, assertListed, assertIndexed } = await start(t);
    ghcr.push(NAME, theirs);
    ghcr.push(NAME, makeIndex([theirs]), TAG);
    await client.image(signature);
    assertIndexed([signature, theirs]);
    // Another one was made from an answer that lagged, and lacks ours.
    ghcr.push(NAME, sbom);
    ghcr.push(NAME, makeIndex([theirs, sbom]), TAG);
    clock.advance(2000);
    assert.deepEqual(await listed(client), digestsIn([signature, theirs, sbom]));
    await client.image(provenance);
    assertIndexed([signature, theirs, sbom, provenance]);
    await assertListed([signature, theirs, sbom, provenance]);
  });

  test('are kept when the answer is older than what was pulled', async t => {
    const { ghcr, client, clock, assertIndexed } = await start(t);
    ghcr.push(NAME, theirs);
    ghcr.push(NAME, makeIndex([theirs]), TAG);
    assert.deepEqual(await listed(client), digestsIn([theirs]));
    ghcr.deleteTag(NAME, TAG);
    clock.advance(500);
    await client.image(signature);
    assertIndexed([signature, theirs]);
  });

  const empty = { status: 200, headers: { 'content-type': INDEX }, body: { schemaVersion: 2, manifests: [] } };
  for (const [what, answer] of [
    ['a 404', answers.manifestUnknown],
    ['an empty index', empty],
  ] as [string, Answer][]) {
    test(`are not erased by ${what}, as long as they exist`, async t => {
      const { ghcr, client, clock, assertIndexed } = await start(t);
      for (const each of [signature, provenance]) await client.image(each);
      clock.advance(3600_000);
      ghcr.switches.lagMs = 0;
      ghcr.deleteManifest(NAME, provenance.manifest.digest);
      ghcr.fault({ endpoint: 'manifest', method: 'GET', reference: TAG, times: 1, answer });
      await client.image(sbom);
      assertIndexed([signature, sbom]);
      assert.deepEqual(await listed(client), digestsIn([signature, sbom]));
    });
  }

  test('whose index could not be written are listed when they are pushed again', async t => {
    const { ghcr, client, assertIndexed } = await start(t);
    await client.parts(signature);
    const fault = ghcr.fault({ endpoint: 'manifest', method: 'PUT', reference: TAG, answer: answers.denied });
    assert.equal((await client.manifest(signature.manifest)).status, 403);
    fault.remove();
    assertCreated(await client.manifest(signature.manifest));
    assertIndexed([signature]);
  });
});
