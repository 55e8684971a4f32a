import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseDuration, parseSize } from './units.ts';

const GIB = 1024 ** 3;
const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;

test('sizes are parsed', () => {
  const sizes: [string, number | undefined][] = [
    ['0', 0],
    ['1024', 1024],
    ['17B', 17],
    ['50GiB', 50 * GIB],
    ['50 GiB', 50 * GIB],
    ['50gib', 50 * GIB],
    ['50Gi', 50 * GIB],
    ['1.5GiB', 1.5 * GIB],
    ['100MB', 100_000_000],
    ['3kB', 3000],
    ['2TiB', 2 * 1024 * GIB],
    ['0.3B', 0],
    ['512k', undefined],
    ['1G', undefined],
    ['-1', undefined],
    ['1e9', undefined],
    ['.5GiB', undefined],
    ['GiB', undefined],
    ['50 bananas', undefined],
    ['constructor', undefined],
    ['1constructor', undefined],
    ['', undefined],
    [' 1', undefined],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
    ['9007199254740992', undefined],
    ['9999999TiB', undefined],
  ];
  for (const [text, bytes] of sizes) assert.equal(parseSize(text), bytes, text);
});

test('durations are parsed', () => {
  const durations: [string, number | undefined][] = [
    ['0', 0],
    ['0s', 0],
    ['500ms', 500],
    ['60s', 60_000],
    ['5m', 300_000],
    ['1h30m', 1.5 * HOUR_MS],
    ['1.5h', 1.5 * HOUR_MS],
    ['2w1d', 15 * DAY_MS],
    ['1m1ms', 60_001],
    ['30d', 30 * DAY_MS],
    ['60', undefined],
    ['30m1h', undefined],
    ['1h1h', undefined],
    ['1h 30m', undefined],
    ['1y', undefined],
    ['1M', undefined],
    ['-1s', undefined],
    ['s', undefined],
    ['', undefined],
    ['999999999999w', undefined],
  ];
  for (const [text, ms] of durations) assert.equal(parseDuration(text), ms, text);
});

test('no text makes a size or a duration that is not a whole number', () => {
  const text = fc.string({ unit: fc.constantFrom(...'0123456789.kmgtibdhsw -e'), maxLength: 20 });
  fc.assert(
    fc.property(text, text => {
      for (const value of [parseSize(text), parseDuration(text)]) {
        assert.ok(value === undefined || (Number.isSafeInteger(value) && value >= 0), text);
      }
    }),
  );
});
