import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRejected, load } from '../../../test/support/config.ts';

test('sizes are read, and none is no cap; so is an age', () => {
  assert.deepEqual(load('cache: { maxSize: none, minFree: 0, verifyEvery: 0 }').cache, {
    maxSizeBytes: Number.POSITIVE_INFINITY,
    minFreeBytes: 0,
    verifyEveryMs: 0,
  });
  assert.deepEqual(load('cache: { maxSize: 10GB, minFree: 1MiB, verifyEvery: 1h30m }').cache, {
    maxSizeBytes: 10e9,
    minFreeBytes: 1024 ** 2,
    verifyEveryMs: 5_400_000,
  });
});

test('what is no size, or no age, is rejected', () => {
  const cap = 'is not a size; write a number with a unit, such as 50GiB';
  const size = 'is not a size; write a number with a unit, such as 2GiB';
  assertRejected([
    ['cache:\n  maxSize: 50 bananas', `2: cache.maxSize: "50 bananas" ${cap}`],
    ['cache:\n  maxSize: 512k', `2: cache.maxSize: "512k" ${cap}`],
    ['cache:\n  maxSize: -1', `2: cache.maxSize: -1 ${cap}`],
    ['cache:\n  maxSize: 0', '2: cache.maxSize: 0 would keep nothing; write none for no cap'],
    ['cache:\n  minFree: none', `2: cache.minFree: "none" ${size}`],
    ['cache:\n  minFree: [1]', `2: cache.minFree: a list ${size}`],
    ['cache:\n  minFree:', `2: cache.minFree: an empty value ${size}`],
    [
      'cache:\n  verifyEvery: 7',
      '2: cache.verifyEvery: 7 is not a duration; write a number with a unit, such as 60s, 5m or 30d',
    ],
    ['cache: 50GiB', '1: cache: "50GiB" is not a map; it may have the keys maxSize, minFree, verifyEvery'],
  ]);
});

test('what is no path of a data directory is rejected', () => {
  assertRejected([
    ['data: ~/cache', `1: data: "~/cache" is not a path: write \${HOME} instead of ~`],
    ['data: 7', '1: data: 7 is not a path'],
  ]);
});
