// Many rounds of push and pull, and of signing and attesting in parallel, at an upstream that lags by 0 to 10 s after
// each write: none fails, no tag goes back, no referrer is lost.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { PassingClock } from '../../support/clock.ts';
import { type Image, type Manifest, makeImage } from '../../support/images.ts';
import { NAME, type PushClient, packageOf, sentenceOf, startPushing, upstreamTag } from '../../support/push-client.ts';

/** A thousand take half a minute: LAG_ROUNDS=1000. */
const ROUNDS = Number(process.env.LAG_ROUNDS ?? 200);
const WORKERS = 4;
/** So that each is pushed several times while its lags last. */
const TAGS = 5;
/** Each so many rounds an image is signed. */
const SIGNED = 10;
const LONGEST_LAG_MS = 10_000;

/** The same numbers in each run, from 0 to 1. */
function numbers(): () => number {
  let state = 1;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

const config = { tags: [{ match: '*', fresh: '1s' }] };

async function start(t: TestContext) {
  const next = numbers();
  const clock = new PassingClock();
  const lagMs = () => Math.round(next() * LONGEST_LAG_MS);
  const both = await startPushing(t, { clock, config, fake: { switches: { lagMs, referrers: 'not-found' } } });
  return { ...both, pass: () => clock.advance(Math.round(next() * 2000)) };
}

async function assertTag(client: PushClient, tag: string, { digest }: Manifest): Promise<void> {
  for (const method of ['GET', 'HEAD']) {
    const got = await client.ask(method, `manifests/${tag}`, { headers: { accept: '*/*' } });
    assert.deepEqual([got.status, got.headers['docker-content-digest']], [200, digest], sentenceOf(got));
  }
}

async function assertReferrers(client: PushClient, subject: Manifest, referrers: readonly Image[]): Promise<void> {
  const got = await client.get(`referrers/${subject.digest}`);
  assert.equal(got.status, 200, sentenceOf(got));
  assert.deepEqual(digestsIn(got.body), referrers.map(({ manifest }) => manifest.digest).sort());
}

function digestsIn(index: Uint8Array): string[] {
  const { manifests } = JSON.parse(Buffer.from(index).toString());
  return manifests.map(({ digest }: { digest: string }) => digest).sort();
}

test(`${ROUNDS} rounds`, { timeout: 300_000 }, async t => {
  const { ghcr, client, clock, pass } = await start(t);
  const pushed = new Map<string, Manifest>();
  const signed: [Manifest, Image[]][] = [];
  // What all images share is there.
  const layer = makeImage({ layers: [10] }).layers;
  const round = async (worker: number, i: number) => {
    const tag = `w${worker}-${i % TAGS}`;
    const image = makeImage({ layers: layer, seed: `${worker}/${i}` });
    await client.image(image, tag);
    pushed.set(tag, image.manifest);
    pass();
    const mine = [...pushed].filter(([each]) => each.startsWith(`w${worker}-`));
    for (const [each, manifest] of mine.slice(i % mine.length)) await assertTag(client, each, manifest);
    if (i % SIGNED > 0) return;
    const referrers = ['signature', 'attestation', 'sbom'].map(seed =>
      makeImage({ layers: layer, seed, subject: image.manifest }),
    );
    await Promise.all(referrers.map(each => client.image(each)));
    signed.push([image.manifest, referrers]);
    pass();
    for (const [subject, all] of signed.slice(-3)) await assertReferrers(client, subject, all);
    const tags = await client.tags();
    for (const [each] of mine) assert(tags.includes(each), each);
  };
  const work = async (worker: number) => {
    for (let i = 0; i < ROUNDS / WORKERS; i++) await round(worker, i);
  };
  await Promise.all(Array.from({ length: WORKERS }, (_, worker) => work(worker)));

  clock.advance(LONGEST_LAG_MS);
  for (const [tag, { digest }] of pushed) assert.equal(upstreamTag(ghcr, tag), digest);
  for (const [{ digest }, referrers] of signed) {
    const index = upstreamTag(ghcr, `sha256-${digest.slice(7)}`) ?? assert.fail('no index');
    const bytes = packageOf(ghcr, NAME)?.manifests.get(index)?.bytes ?? assert.fail('no bytes');
    assert.deepEqual(digestsIn(bytes), referrers.map(({ manifest }) => manifest.digest).sort());
  }
});
