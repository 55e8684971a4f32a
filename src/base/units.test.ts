import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatDuration, formatSize, parseDuration, parseSize } from './units.ts';

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

test('sizes and durations are formatted for people', () => {
  const sizes: [number, string][] = [
    [0, '0B'],
    [1023, '1023B'],
    [1024, '1KiB'],
    [1024 * 1024 - 1, '1MiB'],
    [1.5 * GIB, '1.5GiB'],
    [50 * GIB, '50GiB'],
    [12.34 * GIB, '12.3GiB'],
    [5000 * 1024 * GIB, '5000TiB'],
    [Number.POSITIVE_INFINITY, 'none'],
  ];
  for (const [bytes, text] of sizes) assert.equal(formatSize(bytes), text);
  const durations: [number, string][] = [
    [0, '0s'],
    [0.2, '0s'],
    [20, '20ms'],
    [1000, '1s'],
    [1550, '1.5s'],
    [59_999, '59.9s'],
    [60_000, '1m'],
    [90_000, '1m30s'],
    [1.5 * HOUR_MS + 7000, '1h30m'],
    [30 * DAY_MS, '30d'],
    [DAY_MS + 1, '1d'],
    [Number.POSITIVE_INFINITY, 'forever'],
  ];
  for (const [ms, text] of durations) assert.equal(formatDuration(ms), text);
});

test('a formatted size is parsed back, to about three digits', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 52 }), bytes => {
      const back = parseSize(formatSize(bytes)) ?? Number.NaN;
      assert.ok(Math.abs(back - bytes) <= bytes * 0.0051, `${bytes} → ${formatSize(bytes)} → ${back}`);
    }),
  );
});

test('whole sizes and durations survive a round trip', () => {
  fc.assert(
    fc.property(fc.nat(1023), fc.constantFrom('B', 'KiB', 'MiB', 'GiB', 'TiB'), (count, unit) => {
      const bytes = parseSize(`${count}${unit}`);
      assert.equal(parseSize(formatSize(bytes ?? Number.NaN)), bytes);
    }),
  );
  const twoUnits = fc.constantFrom<[string, number, string, number]>(
    ['d', 1000, 'h', 23],
    ['h', 23, 'm', 59],
    ['m', 59, 's', 59],
  );
  fc.assert(
    fc.property(twoUnits, fc.nat(), fc.nat(), ([large, most, small, mostSmall], a, b) => {
      const ms = parseDuration(`${a % (most + 1)}${large}${b % (mostSmall + 1)}${small}`);
      assert.equal(parseDuration(formatDuration(ms ?? Number.NaN)), ms);
    }),
  );
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
