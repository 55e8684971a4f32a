// When a tag is served, asked about, and served stale; the upstream is scripted. What clients see is in
// test/behaviour/pull.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { makeImage } from '../../test/support/images.ts';
import { openPull, type PullOptions } from '../../test/support/pull.ts';
import { RegistryError } from '../oci/errors.ts';
import type { UpstreamManifest } from '../upstream/upstream.ts';
import { Manifests } from './manifests.ts';
import { Tags } from './tags.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };
const RULE = { match: '*', freshMs: 60_000, keepDeleted: false, writeOnce: false };
const AWAY = new RegistryError('UPSTREAM_UNAVAILABLE', 'away');
const GONE = new RegistryError('MANIFEST_UNKNOWN', 'not found');

const manifestOf = (seed: string) => {
  const { bytes, digest, mediaType } = makeImage({ layers: [1000], seed }).manifest;
  return { digest, mediaType, bytes: Buffer.from(bytes) };
};
const ONE = manifestOf('one');
const TWO = manifestOf('two');
const cameAs = ({ bytes, mediaType, digest }: typeof ONE): UpstreamManifest => ({
  ...{ bytes, digest },
  contentType: mediaType,
});

async function setUp(t: TestContext, { rule = RULE, ...options }: PullOptions & { rule?: typeof RULE } = {}) {
  const answers: (Error | UpstreamManifest | undefined | Promise<undefined>)[] = [];
  let asked = 0;
  const answer = async () => {
    asked++;
    const next = await answers.shift();
    if (next instanceof Error) throw next;
    return next;
  };
  const verbs = {
    getManifest: async () => (await answer()) ?? assert.fail('there is no manifest'),
    getIfChanged: answer,
    ...options.verbs,
  };
  const pull = await openPull(t, { ...options, verbs });
  const manifests = new Manifests(pull);
  const tags = new Tags({ ...pull, manifests, rule: () => rule });
  const outcome = async () => (await tags.pull(APP, 'v1')).outcome;
  const takeAsked = () => {
    const count = asked;
    asked = 0;
    return count;
  };
  return { ...pull, manifests, tags, answers, outcome, takeAsked };
}

describe('a tag', () => {
  test('that is fresh is a hit; then it costs one request, shared by all that ask meanwhile', async t => {
    const { manifests, clock, outcome, takeAsked } = await setUp(t);
    await manifests.store(APP, ONE, [], ['v1']);
    clock.advance(59_999);
    assert.equal(await outcome(), 'hit');
    assert.equal(takeAsked(), 0);
    clock.advance(1);
    assert.deepEqual(await Promise.all([outcome(), outcome()]), ['revalidated', 'revalidated']);
    assert.equal(takeAsked(), 1);
    assert.equal(await outcome(), 'hit');
  });

  test('that is not here is fetched, and joined by all that ask meanwhile', async t => {
    const { answers, outcome, takeAsked } = await setUp(t);
    answers.push(cameAs(ONE));
    assert.deepEqual(await Promise.all([outcome(), outcome()]), ['miss', 'joined']);
    assert.equal(takeAsked(), 1);
  });

  test('that moved is fetched', async t => {
    const { manifests, clock, answers, tags } = await setUp(t);
    await manifests.store(APP, ONE, [], ['v1']);
    clock.advance(60_000);
    answers.push(cameAs(TWO));
    const { manifest, outcome } = await tags.pull(APP, 'v1');
    assert.deepEqual([manifest.digest, outcome], [TWO.digest, 'miss']);
  });

  test('that a push may have moved is asked about, fresh or not, until that is known', async t => {
    const { manifests, tags, answers, outcome, takeAsked } = await setUp(t);
    await manifests.store(APP, ONE, [], ['v1']);
    tags.doubt(APP, 'v1');
    answers.push(AWAY);
    assert.equal(await outcome(), 'stale');
    assert.equal(await outcome(), 'revalidated');
    assert.equal(await outcome(), 'hit');
    assert.equal(takeAsked(), 2);
    tags.doubt(APP, 'v1');
    tags.arrived(APP, 'v1');
    assert.equal(await outcome(), 'hit');
    assert.equal(takeAsked(), 0);
  });

  test('that is pushed while a pull waits for its turn is what was pushed', async t => {
    const { manifests, tags, tagMutex, clock, takeAsked } = await setUp(t);
    await manifests.store(APP, ONE, [], ['v1']);
    clock.advance(60_000);
    const pushed = Promise.withResolvers<void>();
    const pushing = tagMutex.run('ghcr.io/owner/app:v1', async () => {
      await pushed.promise;
      await manifests.store(APP, TWO, [], ['v1']);
    });
    const pulling = tags.pull(APP, 'v1');
    await turns(3);
    pushed.resolve();
    await pushing;
    const { manifest, outcome } = await pulling;
    assert.deepEqual([manifest.digest, outcome], [TWO.digest, 'hit']);
    assert.equal(takeAsked(), 0);
  });
});

describe('a tag whose upstream does not have it', () => {
  test('is forgotten, and not asked for again for ten seconds, unless it arrives', async t => {
    const { manifests, tags, clock, answers, outcome, takeAsked, metadata } = await setUp(t);
    await manifests.store(APP, ONE, [], ['v1']);
    clock.advance(60_000);
    answers.push(GONE, GONE);
    await assert.rejects(outcome(), GONE);
    assert.equal(await metadata.findTag(APP, 'v1'), undefined);
    clock.advance(9_999);
    await assert.rejects(outcome(), GONE);
    assert.equal(takeAsked(), 1);
    clock.advance(1);
    await assert.rejects(outcome(), GONE);
    assert.equal(takeAsked(), 1);
    tags.arrived(APP, 'v1');
    answers.push(cameAs(ONE));
    assert.equal(await outcome(), 'miss');
  });

  test('is stale without end where deleted tags are kept', async t => {
    const { manifests, tags, clock, answers } = await setUp(t, { rule: { ...RULE, keepDeleted: true } });
    await manifests.store(APP, ONE, [], ['v1']);
    clock.advance(30 * 24 * 3_600_000);
    answers.push(GONE);
    const { outcome, stale } = await tags.pull(APP, 'v1');
    assert.deepEqual([outcome, stale?.ageMs, stale?.why], ['stale', 30 * 24 * 3_600_000, 'not found']);
  });
});

describe('a tag whose upstream fails', () => {
  test('is stale up to a limit, and then fails', async t => {
    const { manifests, tags, clock, answers } = await setUp(t, { staleIfErrorMs: 120_000 });
    await manifests.store(APP, ONE, [], ['v1']);
    clock.advance(120_000);
    answers.push(AWAY, AWAY);
    const { outcome, stale } = await tags.pull(APP, 'v1');
    assert.deepEqual([outcome, stale], ['stale', { ageMs: 120_000, why: 'away' }]);
    clock.advance(1);
    await assert.rejects(tags.pull(APP, 'v1'), AWAY);
  });

  test('is stale without end when it is set offline', async t => {
    const { manifests, clock, answers, outcome } = await setUp(t, { verbs: { offline: true } });
    await manifests.store(APP, ONE, [], ['v1']);
    clock.advance(365 * 24 * 3_600_000);
    answers.push(AWAY);
    assert.equal(await outcome(), 'stale');
  });
});
