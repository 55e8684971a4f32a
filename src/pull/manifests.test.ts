// What Manifests stores, serves and confirms; the upstream is scripted. What clients see is in test/behaviour/pull.
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { describe, type TestContext, test } from 'node:test';
import { makeImage } from '../../test/support/images.ts';
import { pathOf } from '../../test/support/local-stores.ts';
import { openPull, type PullOptions } from '../../test/support/pull.ts';
import { digestOf } from '../oci/digest.ts';
import { RegistryError, StorageFailure } from '../oci/errors.ts';
import type { UpstreamManifest } from '../upstream/upstream.ts';
import { Manifests } from './manifests.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };
const OTHER = { upstream: 'ghcr.io', name: 'owner/other' };
const FRESH_MS = 60_000;
const { bytes: imageBytes, digest, mediaType } = makeImage({ layers: [1000] }).manifest;
const bytes = Buffer.from(imageBytes);
const MANIFEST = { digest, mediaType, bytes };

/** A response with these bytes, as it comes from upstream. */
const came = (body: Buffer, told?: typeof digest): UpstreamManifest => ({
  bytes: body,
  contentType: mediaType,
  digest: told,
});

async function setUp(t: TestContext, options?: PullOptions) {
  const pull = await openPull(t, options);
  const isFresh = async (tag: string) => {
    const row = await pull.metadata.findTag(APP, tag);
    return row !== undefined && pull.freshness.isFresh(`ghcr.io/owner/app:${tag}`, row, FRESH_MS);
  };
  return { ...pull, isFresh, manifests: new Manifests(pull) };
}

describe('a manifest', () => {
  test('that was stored is served from here, and its tags are confirmed', async t => {
    const { manifests, isFresh, clock } = await setUp(t);
    assert.equal(await manifests.store(APP, MANIFEST, [], ['v1', 'v2']), 'miss');
    assert.deepEqual(await manifests.pull(APP, digest), { manifest: MANIFEST, outcome: 'hit' });
    clock.set(-3_600_000);
    clock.advance(FRESH_MS - 1);
    assert.deepEqual([await isFresh('v1'), await isFresh('v2')], [true, true]);
    clock.advance(1);
    assert.deepEqual([await isFresh('v1'), await isFresh('v2')], [false, false]);
    assert.equal(await manifests.find(OTHER, digest), undefined);
  });

  test('is fetched once for all that ask meanwhile', async t => {
    let asked = 0;
    const getManifest = async () => {
      asked++;
      return came(bytes);
    };
    const { manifests } = await setUp(t, { verbs: { getManifest } });
    const pulls = await Promise.all([1, 2, 3].map(() => manifests.pull(APP, digest)));
    assert.deepEqual(
      pulls.map(({ outcome }) => outcome),
      ['miss', 'joined', 'joined'],
    );
    assert.equal(asked, 1);
  });

  test('of another repository is linked once this one is confirmed to hold it', async t => {
    const confirmed: string[] = [];
    const { manifests } = await setUp(t, {
      verbs: {
        confirmManifest: async ({ name }) => {
          confirmed.push(name);
        },
      },
    });
    await manifests.store(APP, MANIFEST, [], []);
    assert.equal((await manifests.pull(OTHER, digest)).outcome, 'revalidated');
    assert.equal((await manifests.pull(OTHER, digest)).outcome, 'hit');
    assert.deepEqual(confirmed, ['owner/other']);
  });

  for (const [how, spoil] of [
    ['gone', (path: string) => rm(path)],
    ['damaged', (path: string) => writeFile(path, 'other')],
  ] as const) {
    test(`that is ${how} on disk is removed, and fetched again`, async t => {
      const { manifests, data, lines } = await setUp(t, { verbs: { getManifest: async () => came(bytes) } });
      await manifests.store(APP, MANIFEST, [], []);
      await spoil(pathOf(data, digest));
      assert.deepEqual(await manifests.pull(APP, digest), { manifest: MANIFEST, outcome: 'miss' });
      assert.match(lines.join('\n'), how === 'gone' ? /no longer on disk/ : /damaged on disk; it is removed/);
      assert.equal((await manifests.pull(APP, digest)).outcome, 'hit');
    });
  }

  test('that there is no room for is passed on, and confirms nothing', async t => {
    const { manifests, isFresh } = await setUp(t, { maxSizeBytes: 10 });
    assert.equal(await manifests.store(APP, MANIFEST, [], ['v1']), 'bypass');
    assert.equal(await isFresh('v1'), false);
    assert.equal(await manifests.find(APP, digest), undefined);
  });
});

describe('what comes instead of a manifest', () => {
  for (const [what, wrong] of [
    ['bytes of another digest', came(Buffer.from(`${bytes} `))],
    ['what is no manifest', { ...came(Buffer.from('<html>')), contentType: 'text/html' }],
  ] as const) {
    test(`(${what}) is fetched once more, and then refused`, async t => {
      const script = [wrong, came(bytes), wrong, wrong];
      const getManifest = async () => script.shift() ?? assert.fail('asked once too often');
      const { manifests, content } = await setUp(t, { verbs: { getManifest } });
      assert.equal((await manifests.fetch(APP, { digest })).outcome, 'miss');
      await assert.rejects(manifests.fetch(APP, { digest }), { code: 'UPSTREAM_INVALID' });
      assert.equal(await content.open(digestOf(wrong.bytes)), undefined);
    });
  }

  test('another error than that is not tried again', async t => {
    let asked = 0;
    const away = new RegistryError('UPSTREAM_UNAVAILABLE', 'away');
    const getManifest = async () => {
      asked++;
      throw away;
    };
    const { manifests } = await setUp(t, { verbs: { getManifest } });
    await assert.rejects(manifests.fetch(APP, { tag: 'v1' }), away);
    assert.equal(asked, 1);
  });
});

describe('a tag that is revalidated', () => {
  test('is confirmed when it is unchanged, be that said or shown by the same bytes', async t => {
    for (const answer of [undefined, came(bytes)]) {
      const { manifests, isFresh, clock } = await setUp(t, { verbs: { getIfChanged: async () => answer } });
      await manifests.store(APP, MANIFEST, [], ['v1']);
      clock.advance(FRESH_MS);
      assert.equal(await isFresh('v1'), false);
      assert.equal((await manifests.revalidate(APP, 'v1', MANIFEST)).outcome, 'revalidated');
      assert.equal(await isFresh('v1'), true);
    }
  });

  test('is moved when it has changed', async t => {
    const moved = Buffer.from(makeImage({ layers: [1000], seed: 'moved' }).manifest.bytes);
    const { manifests, metadata, isFresh } = await setUp(t, {
      verbs: { getIfChanged: async () => came(moved) },
    });
    await manifests.store(APP, MANIFEST, [], ['v1']);
    const { manifest, outcome } = await manifests.revalidate(APP, 'v1', MANIFEST);
    assert.deepEqual([manifest.digest, outcome], [digestOf(moved), 'miss']);
    assert.equal((await metadata.findTag(APP, 'v1'))?.digest, digestOf(moved));
    assert.equal(await isFresh('v1'), true);
  });

  test('is served though that cannot be recorded, and asked about again', async t => {
    const pull = await openPull(t, { verbs: { getIfChanged: async () => undefined } });
    const failing: typeof pull.metadata = Object.create(pull.metadata, {
      confirmTag: { value: () => Promise.reject(new StorageFailure('the disk is full')) },
      linkManifest: { value: pull.metadata.linkManifest.bind(pull.metadata) },
    });
    const manifests = new Manifests({ ...pull, metadata: failing });
    await manifests.store(APP, MANIFEST, [], ['v1']);
    pull.clock.advance(FRESH_MS);
    assert.equal((await manifests.revalidate(APP, 'v1', MANIFEST)).outcome, 'revalidated');
    assert.match(pull.lines.join('\n'), /ghcr\.io\/owner\/app:v1 was confirmed, which cannot be recorded/);
    const row = (await pull.metadata.findTag(APP, 'v1')) ?? assert.fail();
    assert.equal(pull.freshness.isFresh('ghcr.io/owner/app:v1', row, FRESH_MS), false);
  });
});
