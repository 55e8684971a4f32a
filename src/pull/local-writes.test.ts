import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { isNotFound } from '../upstream/upstream.ts';
import { LocalWrites } from './local-writes.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };
const OTHER = { upstream: 'ghcr.io', name: 'owner/other' };
const [A, B, C, D] = ['a', 'b', 'c', 'd'].map(text => digestOf(Buffer.from(text))) as [Digest, Digest, Digest, Digest];
const GRACE_MS = 60_000;

function setUp({ graceMs = GRACE_MS, recordedAgoMs = 0 } = {}) {
  const clock = new TestClock();
  const rows = new Map<string, { digest: Digest; checkedAtMs: number }>();
  const linked = new Set<Digest>();
  if (recordedAgoMs > 0) rows.set('v1', { digest: A, checkedAtMs: clock.now() - recordedAgoMs });
  const metadata = {
    findTag: async (_: unknown, tag: string) => rows.get(tag),
    findManifest: async (_: unknown, digest: Digest) =>
      linked.has(digest) ? { digest, sizeBytes: 1, mediaType: '' } : undefined,
  };
  const writes = new LocalWrites({ clock, metadata, graceMs });
  const older = async (...digests: Digest[]) => {
    const standing = await writes.standing(APP, 'v1');
    return Promise.all(digests.map(digest => standing?.isOlder(digest)));
  };
  return { clock, rows, linked, writes, older };
}

test('a tag stands where it was pushed to, against all that it is known to have pointed to in the grace time', async () => {
  const { clock, rows, writes, older } = setUp();
  rows.set('v1', { digest: A, checkedAtMs: clock.now() });
  await writes.tagged(APP, 'v1', B);
  clock.advance(40_000);
  await writes.tagged(APP, 'v1', C, D);
  assert.equal((await writes.standing(APP, 'v1'))?.digest, C);
  assert.deepEqual(await older(A, B, C, D), [true, true, false, true]);
  clock.advance(20_000);
  assert.deepEqual(await older(A, B), [true, true], 'A was recorded when C was pushed');
  clock.advance(39_999);
  assert.deepEqual(await older(B), [true]);
  clock.advance(1);
  assert.equal(await writes.standing(APP, 'v1'), undefined);
});

test('a tag that is pushed back to an older digest stands there', async () => {
  const { writes, older } = setUp();
  for (const digest of [A, B, A]) await writes.tagged(APP, 'v1', digest);
  assert.deepEqual(await older(A, B, C), [false, true, false]);
});

test('writes to other tags and repositories, or none, say nothing', async () => {
  const { writes } = setUp();
  await writes.tagged(APP, 'v2', A);
  await writes.tagged(OTHER, 'v1', A);
  writes.pushed(OTHER, A);
  assert.equal(await writes.standing(APP, 'v1'), undefined);
  assert.equal(writes.stateOf(APP, A), undefined);
  assert.deepEqual(writes.listed(APP, ['v1']), ['v1', 'v2']);
});

test('what is listed has the tags that were pushed, and lacks those that were deleted', async () => {
  const { clock, writes } = setUp();
  await writes.tagged(APP, 'v1', A);
  await writes.tagged(APP, 'v2', undefined);
  assert.deepEqual(writes.listed(APP, ['v2', 'v3']), ['v3', 'v1']);
  writes.forget(APP, { tag: 'v2' });
  assert.deepEqual(writes.listed(APP, ['v2', 'v3']), ['v2', 'v3', 'v1']);
  clock.advance(GRACE_MS);
  assert.deepEqual(writes.listed(APP, ['v2', 'v3']), ['v2', 'v3']);
});

test('content was pushed or deleted, whichever came last, until the grace time is over', () => {
  const { clock, writes } = setUp();
  writes.pushed(APP, A);
  writes.deleted(APP, A);
  assert.equal(writes.stateOf(APP, A), 'deleted');
  writes.pushed(APP, A);
  clock.advance(GRACE_MS - 1);
  assert.equal(writes.stateOf(APP, A), 'pushed');
  clock.advance(1);
  assert.equal(writes.stateOf(APP, A), undefined);
});

test('a tag that an earlier process recorded a moment ago stands against what is linked here', async () => {
  const { clock, linked, writes, older } = setUp({ recordedAgoMs: 20_000 });
  linked.add(A).add(B);
  assert.deepEqual(await older(A, B, C), [false, true, false]);
  assert.equal((await writes.standing(APP, 'v1'))?.isEndedByNewer, true);
  clock.advance(39_999);
  assert.equal((await writes.standing(APP, 'v1'))?.digest, A);
  clock.advance(1);
  assert.equal(await writes.standing(APP, 'v1'), undefined);
});

test('a tag that was recorded longer ago, or in the future of a clock that was set back, does not', async () => {
  for (const recordedAgoMs of [GRACE_MS, 3600_000]) {
    assert.equal(await setUp({ recordedAgoMs }).writes.standing(APP, 'v1'), undefined);
  }
  const { clock, rows, writes } = setUp();
  rows.set('v1', { digest: A, checkedAtMs: clock.now() + 10_000 });
  assert.equal(await writes.standing(APP, 'v1'), undefined);
});

test('what fails for want of a lagging answer is tried again, for longer than ghcr.io lags and within bounds', async () => {
  const { clock, writes } = setUp();
  const missing = new RegistryError('BLOB_UNKNOWN', 'not yet');
  let tries = 0;
  const fail = async () => {
    tries++;
    throw missing;
  };
  await assert.rejects(writes.retrying(fail, isNotFound), missing);
  assert.equal(tries, 6);
  const waitedMs = clock.sleptMs.reduce((sum, ms) => sum + ms, 0);
  assert(waitedMs > 10_000 && waitedMs < 15_000, `${waitedMs} ms`);
  tries = 0;
  await assert.rejects(
    writes.retrying(fail, () => false),
    missing,
  );
  await assert.rejects(setUp({ graceMs: 0 }).writes.retrying(fail, isNotFound), missing);
  assert.equal(tries, 2);
});

test('without a grace time nothing stands', async () => {
  const { writes } = setUp({ graceMs: 0, recordedAgoMs: 1 });
  await writes.tagged(APP, 'v1', A);
  writes.pushed(APP, A);
  assert.deepEqual([await writes.standing(APP, 'v1'), writes.stateOf(APP, A)], [undefined, undefined]);
  assert.deepEqual(writes.listed(APP, []), []);
});

test('ten thousand writes are remembered, the newest', async () => {
  const { writes } = setUp();
  for (let i = 0; i < 10_001; i++) await writes.tagged(APP, `v${i}`, A);
  assert.equal(writes.listed(APP, []).length, 10_000);
  assert.equal(await writes.standing(APP, 'v0'), undefined);
});
