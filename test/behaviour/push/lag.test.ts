// An upstream that lags: for seconds after a push or delete it answers what was there before. What was written through
// here stands meanwhile, and what someone else has written wins.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { PassingClock } from '../../support/clock.ts';
import type { Got } from '../../support/ghcr/ask.ts';
import { answers, type Switches } from '../../support/ghcr/ghcr.ts';
import { bytesOf, makeImage, makeIndex, randomContent } from '../../support/images.ts';
import {
  assertCreated,
  assertError,
  dataDirectory,
  image,
  NAME,
  NO_SPACE,
  PushClient,
  type PushOptions,
  sentenceOf,
  startPushing,
  upstreamBlob,
} from '../../support/push-client.ts';

/** So that the upstream is asked each time. */
const SHORT = { tags: [{ match: '*', fresh: '1s' }] };
const LAG_MS = 10_000;
const other = makeImage({ layers: [10], seed: 'other' });
const third = makeImage({ layers: [10], seed: 'third' });

type LagOptions = Omit<PushOptions, 'fake'> & { readonly switches?: Partial<Switches> };

async function start(t: TestContext, { switches, ...options }: LagOptions = {}) {
  const both = await startPushing(t, {
    clock: new PassingClock(),
    ...options,
    config: { ...SHORT, ...options.config },
    fake: { switches: { lagMs: LAG_MS, ...switches } },
  });
  const seen = async (reference: string, client = both.client) => {
    const [got, head] = [await client.get(`manifests/${reference}`), await client.head(`manifests/${reference}`)];
    assert.equal(got.status, head.status, 'GET and HEAD agree');
    return got.headers['docker-content-digest'] ?? got.status;
  };
  const asked = () => both.ghcr.count({ endpoint: 'manifest', method: 'GET' });
  return { ...both, seen, asked };
}

function assertGone(got: Got): void {
  assertError(got, 404, 'MANIFEST_UNKNOWN', /deleted through this cache a moment ago/);
}

describe('a tag that was pushed', () => {
  test('is there at once and stays, though the upstream does not know it yet', async t => {
    const { client, clock, seen, asked } = await start(t);
    await client.image(image, 'v1');
    for (let second = 0; second < 15; second++) {
      assert.equal(await seen('v1'), image.manifest.digest);
      assert.equal(await seen(image.manifest.digest), image.manifest.digest);
      assert.deepEqual(await client.tags(), ['v1']);
      clock.advance(1000);
    }
    assert(asked() > 10, 'the upstream was asked');
  });

  test('does not go back to where it pointed before', async t => {
    const { ghcr, client, clock, seen } = await start(t);
    ghcr.push(NAME, third, 'v1');
    assert.equal(await seen('v1'), third.manifest.digest);
    for (const each of [image, other]) {
      await client.image(each, 'v1');
      clock.advance(2000);
      assert.equal(await seen('v1'), each.manifest.digest);
    }
    for (let second = 0; second < 15; second++) {
      assert.equal(await seen('v1'), other.manifest.digest);
      clock.advance(1000);
    }
  });

  test('is what someone else has pushed since', async t => {
    const { ghcr, client, clock, seen } = await start(t);
    await client.image(image, 'v1');
    ghcr.push(NAME, third, 'v1');
    clock.advance(1000);
    assert.equal(await seen('v1'), third.manifest.digest);
  });

  test('is what the upstream says, once the grace time is over', async t => {
    const { ghcr, client, clock, seen } = await start(t, { config: { writeGrace: '20s' } });
    await client.image(image, 'v1');
    await client.image(other, 'v1');
    ghcr.setTag(NAME, 'v1', image.manifest.digest);
    clock.advance(19_000);
    assert.equal(await seen('v1'), other.manifest.digest);
    clock.advance(2000);
    assert.equal(await seen('v1'), image.manifest.digest);
    ghcr.deleteTag(NAME, 'v1');
    clock.advance(1000);
    assert.equal(await seen('v1'), 404);
  });

  test('is what the upstream says at once without a grace time', async t => {
    const { client, clock, seen } = await start(t, {
      config: { writeGrace: '0s' },
      switches: { lagMs: kind => (kind === 'tag' ? LAG_MS : 0) },
    });
    await client.image(image, 'v1');
    clock.advance(1000);
    assert.equal(await seen('v1'), 404);
  });

  test('is listed when the upstream fails right after it', async t => {
    const { ghcr, client, clock } = await start(t);
    await client.image(image, 'v1');
    assert.deepEqual(await client.tags(), ['v1']);
    await client.image(other, 'v2');
    clock.advance(LAG_MS);
    await ghcr.stop();
    const got = await client.get('tags/list');
    assert.equal(got.headers['x-cache'], 'stale', sentenceOf(got));
    assert.deepEqual(JSON.parse(got.body.toString()).tags, ['v1', 'v2']);
  });

  test('does not go back when the cache is started again meanwhile', async t => {
    const data = dataDirectory(t);
    const { ghcr, cache, client, clock, seen, startCache } = await start(t, { data });
    await client.image(third, 'v1');
    clock.advance(60_000);
    await client.image(image, 'v1', 'v2', 'v3', 'v4');
    await cache.stop();
    clock.advance(2000);
    ghcr.deleteTag(NAME, 'v3');
    ghcr.push(NAME, other, 'v4');
    const again = new PushClient((await startCache(data)).url);
    for (let second = 0; second < 6; second++) {
      assert.equal(await seen('v1', again), image.manifest.digest, 'not the one before');
      assert.equal(await seen('v2', again), image.manifest.digest, 'not 404');
      assert.equal(await seen('v4', again), other.manifest.digest, 'someone else pushed it');
      clock.advance(1000);
    }
    clock.advance(60_000);
    assert.equal(await seen('v1', again), image.manifest.digest);
    assert.equal(await seen('v3', again), 404, 'deleted by someone else');
  });
});

describe('content that was pushed, and is not kept', () => {
  test('is asked for until the upstream shows it', async t => {
    const { ghcr, client, seen } = await start(t, { config: NO_SPACE });
    await client.image(image, 'v1');
    assert.equal(await seen('v1'), image.manifest.digest);
    const blob = randomContent(10_000, 'lagging');
    assertCreated(await client.put(blob));
    assert.equal((await client.head(`blobs/${blob.digest}`)).status, 200);
    const late = randomContent(10_000, 'late');
    assertCreated(await client.put(late));
    const got = await client.get(`blobs/${late.digest}`);
    assert.deepEqual([got.status, got.headers['x-cache']], [200, 'bypass'], sentenceOf(got));
    assert(got.body.equals(bytesOf(late)));
    ghcr.deleteBlob(NAME, late.digest);
    ghcr.resetCounters();
    assert.equal((await client.get(`blobs/${late.digest}`)).status, 404);
    assert(ghcr.count({ endpoint: 'blob' }) <= 6, 'within bounds');
  });
});

describe('a manifest whose parts the upstream does not know yet', () => {
  for (const answer of ['MANIFEST_BLOB_UNKNOWN of the fake', answers.blobUnknown] as const) {
    test(`is put again (${typeof answer === 'string' ? answer : '404 BLOB_UNKNOWN'})`, async t => {
      const index = makeIndex([image, other]);
      const { ghcr, client } = await start(t);
      if (typeof answer !== 'string') {
        ghcr.switches.lagMs = 0;
        ghcr.fault({ endpoint: 'manifest', method: 'PUT', times: 2, answer });
      }
      await client.image(index, 'v1');
      assert(ghcr.count({ endpoint: 'manifest', method: 'PUT' }) > 3);
      const uploads = ghcr.requests.filter(({ endpoint, method }) => endpoint === 'upload' && method === 'PUT');
      assert.equal(new Set(uploads.map(({ digest }) => digest)).size, uploads.length, 'no blob was sent twice');
    });
  }

  test('fails in the end', async t => {
    const { ghcr, client } = await start(t);
    await client.parts(image);
    ghcr.switches.lagMs = 0;
    ghcr.deleteBlob(NAME, image.config.digest);
    const fault = { endpoint: 'manifest', method: 'PUT', answer: { status: 400, body: UNKNOWN } } as const;
    ghcr.fault(fault);
    ghcr.resetCounters();
    assertError(await client.manifest(image.manifest, 'v1'), 400, 'MANIFEST_BLOB_UNKNOWN');
    assert(ghcr.count({ endpoint: 'manifest', method: 'PUT' }) <= 12);
  });
});

const UNKNOWN = { errors: [{ code: 'MANIFEST_BLOB_UNKNOWN', message: 'blob unknown' }] };

test('a mounted blob that does not show yet is mounted', async t => {
  const { ghcr, client } = await start(t, { switches: { lagMs: 3000 } });
  const blob = randomContent(10_000, 'mounted');
  ghcr.addBlob('other/base', blob);
  ghcr.resetCounters();
  assertCreated(await client.start({ mount: blob.digest, from: 'other/base' }));
  assert.equal(ghcr.received(), 0);
  assert((await client.get(`blobs/${blob.digest}`)).body.equals(bytesOf(blob)));
});

describe('what was deleted', () => {
  const startFilled = async (t: TestContext, options: LagOptions = {}) => {
    const both = await start(t, { ...options, switches: { allowDelete: true, lagMs: 0, ...options.switches } });
    for (const [tag, each] of Object.entries({ v1: image, v2: image, v3: other })) await both.client.image(each, tag);
    both.clock.advance(3600_000);
    both.ghcr.switches.lagMs = LAG_MS;
    return both;
  };

  test('stays gone while the upstream still shows it: a tag', async t => {
    const { client, clock, seen } = await startFilled(t);
    assert.equal((await client.delete('manifests/v1')).status, 202);
    for (let second = 0; second < 15; second++) {
      assert.equal(await seen('v1'), 404);
      assert.equal(await seen('v2'), image.manifest.digest);
      assert.deepEqual(await client.tags(), ['v2', 'v3']);
      clock.advance(1000);
    }
  });

  test('stays gone while the upstream still shows it: a tag that was never pulled here', async t => {
    const { ghcr, client, clock, seen } = await startFilled(t);
    ghcr.push(NAME, third, 'theirs');
    assert.equal((await client.delete('manifests/theirs')).status, 202);
    clock.advance(1000);
    assert.equal(await seen('theirs'), 404);
    assertGone(await client.get('manifests/theirs'));
  });

  test('stays gone while the upstream still shows it: a manifest, its tags, and a blob', async t => {
    const { client, clock, seen } = await startFilled(t);
    const { digest } = image.manifest;
    const [blob = assert.fail()] = image.layers;
    assert.equal((await client.delete(`manifests/${digest}`)).status, 202);
    assert.equal((await client.delete(`blobs/${blob.digest}`)).status, 202);
    for (let second = 0; second < 15; second++) {
      for (const reference of ['v1', 'v2', digest]) assert.equal(await seen(reference), 404);
      for (const got of [await client.get(`blobs/${blob.digest}`), await client.head(`blobs/${blob.digest}`)]) {
        assert.equal(got.status, 404);
      }
      assert.deepEqual(await client.tags(), ['v3']);
      clock.advance(1000);
    }
  });

  test('stays gone at GitHub', async t => {
    const { client, clock, seen } = await startFilled(t, { switches: { allowDelete: false } });
    assert.equal((await client.delete('manifests/v3')).status, 202);
    for (let second = 0; second < 15; second++) {
      for (const reference of ['v3', other.manifest.digest]) assert.equal(await seen(reference), 404);
      assert.deepEqual(await client.tags(), ['v1', 'v2']);
      clock.advance(1000);
    }
  });

  test('comes back when it is pushed again, here or with another digest elsewhere', async t => {
    const { ghcr, client, clock, seen } = await startFilled(t);
    assert.equal((await client.delete('manifests/v1')).status, 202);
    assert.equal((await client.delete(`manifests/${other.manifest.digest}`)).status, 202);
    await client.image(other, 'v3');
    assert.equal(await seen('v3'), other.manifest.digest);
    ghcr.push(NAME, third, 'v1');
    clock.advance(LAG_MS);
    assert.equal(await seen('v1'), third.manifest.digest);
    assert.deepEqual(await client.tags(), ['v1', 'v2', 'v3']);
  });

  test('is sent again, though the upstream still shows it: a blob', async t => {
    const { ghcr, client, clock } = await startFilled(t);
    const [blob = assert.fail()] = image.layers;
    assert.equal((await client.delete(`blobs/${blob.digest}`)).status, 202);
    ghcr.resetCounters();
    assertCreated(await client.put(blob));
    assert.equal(ghcr.received(), blob.sizeBytes);
    clock.advance(LAG_MS);
    assert(upstreamBlob(ghcr, blob) !== undefined);
  });

  test('a moment after it was pushed is deleted, though the upstream does not know it yet', async t => {
    const { ghcr, client, seen } = await startFilled(t);
    await client.image(third, 'new');
    const fault = { endpoint: 'manifest', method: 'DELETE', answer: answers.manifestUnknown, times: 2 } as const;
    for (const reference of ['new', third.manifest.digest]) {
      ghcr.fault(fault);
      assert.equal((await client.delete(`manifests/${reference}`)).status, 202);
      assert.equal(await seen(reference), 404);
    }
  });
});
