import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock, systemRandom } from './clock.ts';

test('the monotonic clock does not go back', () => {
  const first = systemClock.monotonic();
  assert(systemClock.monotonic() >= first);
});

test('a sleep ends with the reason of its abort, before it or after it began', async () => {
  const reason = new Error('left');
  await assert.rejects(systemClock.sleep(60_000, AbortSignal.abort(reason)), reason);
  const leaving = new AbortController();
  const sleeping = systemClock.sleep(60_000, leaving.signal);
  leaving.abort(reason);
  await assert.rejects(sleeping, reason);
});

test('a sleep that is over does not mind an abort', async () => {
  const leaving = new AbortController();
  await Promise.all([systemClock.sleep(0, leaving.signal), new Promise(resolve => setTimeout(resolve, 5))]);
  leaving.abort();
});

test('fractions lie in their interval, and names differ', () => {
  const fraction = systemRandom.fraction();
  assert(fraction >= 0 && fraction < 1);
  assert.notEqual(systemRandom.uuid(), systemRandom.uuid());
});
