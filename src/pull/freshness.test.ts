import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { RegistryError, StorageFailure } from '../oci/errors.ts';
import { Freshness } from './freshness.ts';

const HOUR_MS = 3_600_000;
const KEY = 'ghcr.io/owner/app:v1';
const AWAY = new RegistryError('UPSTREAM_UNAVAILABLE', 'away');

function setUp(staleIfErrorMs = HOUR_MS) {
  const clock = new TestClock();
  const freshness = new Freshness(clock, staleIfErrorMs);
  const isFresh = (checkedAtMs: number) => freshness.isFresh(KEY, { checkedAtMs }, 10_000);
  return { clock, freshness, isFresh, rowOfNow: { checkedAtMs: clock.now() } };
}

describe('what this process has heard', () => {
  for (const [how, byMs] of [
    ['is left alone', 0],
    ['is set back by an hour', -HOUR_MS],
    ['is set forward by an hour', HOUR_MS],
  ] as const) {
    test(`is fresh for its own seconds while the wall clock ${how}`, () => {
      const { clock, freshness, isFresh, rowOfNow } = setUp();
      freshness.confirmed(KEY);
      clock.set(byMs);
      clock.advance(9_999);
      assert.equal(isFresh(rowOfNow.checkedAtMs), true);
      assert.equal(freshness.staleness(KEY, rowOfNow, AWAY, true)?.ageMs, 9_999);
      clock.advance(1);
      assert.equal(isFresh(rowOfNow.checkedAtMs), false);
      clock.advance(HOUR_MS - 10_000);
      assert.deepEqual(freshness.staleness(KEY, rowOfNow, AWAY, true), { ageMs: HOUR_MS, why: 'away' });
      clock.advance(1);
      assert.equal(freshness.staleness(KEY, rowOfNow, AWAY, true), undefined);
      assert.equal(freshness.staleness(KEY, rowOfNow, AWAY, false)?.ageMs, HOUR_MS + 1);
    });
  }

  test('is fresh again when it is confirmed again', () => {
    const { clock, freshness, isFresh, rowOfNow } = setUp();
    freshness.confirmed(KEY);
    clock.advance(10_000);
    freshness.confirmed(KEY);
    clock.advance(9_999);
    assert.equal(isFresh(rowOfNow.checkedAtMs), true);
  });

  test('under one key says nothing of another', () => {
    const { clock, freshness, rowOfNow } = setUp();
    clock.advance(20_000);
    freshness.confirmed('ghcr.io/owner/app:v2');
    assert.equal(freshness.isFresh(KEY, rowOfNow, 10_000), false);
  });
});

describe('what an earlier process has recorded', () => {
  test('ages by its wall time, and no longer by that once it was looked at', () => {
    const { clock, isFresh, rowOfNow } = setUp();
    clock.advance(4_000);
    assert.equal(isFresh(rowOfNow.checkedAtMs), true);
    for (const byMs of [-HOUR_MS, 2 * HOUR_MS]) {
      clock.set(byMs);
      assert.equal(isFresh(rowOfNow.checkedAtMs), true);
    }
    clock.advance(5_999);
    assert.equal(isFresh(rowOfNow.checkedAtMs), true);
    clock.advance(1);
    assert.equal(isFresh(rowOfNow.checkedAtMs), false);
  });

  test('is not fresh when its time is still to come, and may stand in for a failing upstream', () => {
    const { clock, freshness, rowOfNow } = setUp();
    clock.set(-HOUR_MS);
    assert.equal(freshness.isFresh(KEY, rowOfNow, Infinity), false);
    assert.notEqual(freshness.staleness(KEY, rowOfNow, AWAY, true), undefined);
    freshness.confirmed(KEY);
    assert.equal(freshness.isFresh(KEY, rowOfNow, Infinity), true);
  });
});

describe('an answer that is recorded', () => {
  test('is confirmed once that is done', async () => {
    const { clock, freshness, isFresh } = setUp();
    const saving = Promise.withResolvers<void>();
    const recording = freshness.record(KEY, saving.promise);
    clock.advance(60_000);
    saving.resolve();
    assert.equal(await recording, 'miss');
    assert.equal(isFresh(0), true);
  });

  test('and cannot be stored is passed on, and not confirmed', async () => {
    const { freshness, isFresh } = setUp();
    assert.equal(await freshness.record(KEY, Promise.reject(new StorageFailure('full'))), 'bypass');
    assert.equal(isFresh(0), false);
    const bug = new Error('bug');
    await assert.rejects(freshness.record(KEY, Promise.reject(bug)), bug);
  });
});
