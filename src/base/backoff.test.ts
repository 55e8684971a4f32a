import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoffMs } from './backoff.ts';

test('pauses double up to the longest', () => {
  const pauses = [1, 2, 3, 4, 5].map(attempt => backoffMs(attempt, { firstMs: 100, longestMs: 500 }, 0.5));
  assert.deepEqual(pauses, [100, 200, 400, 500, 500]);
});

test('chance spreads them from half to one and a half', () => {
  assert.deepEqual(
    [0, 1].map(fraction => backoffMs(2, { firstMs: 100 }, fraction)),
    [100, 300],
  );
});
