// Ranges against a model that knows nothing of arithmetic on spans: it asks of each byte whether a range
// names it.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseChunkRange, parseContentRange, parseRange } from './range.ts';

type Range = { first: number; last: number | undefined } | { suffix: number };

const SIZE_LIMIT = 40;
const positions = fc.nat({ max: SIZE_LIMIT + 5 });
const ranges: fc.Arbitrary<Range> = fc.oneof(
  fc.record({ first: positions, last: positions }),
  fc.record({ first: positions, last: fc.constant(undefined) }),
  fc.record({ suffix: positions }),
);

const spell = (range: Range) => ('suffix' in range ? `-${range.suffix}` : `${range.first}-${range.last ?? ''}`);

/** The positions that one range names, by asking every byte. */
function bytesNamed(range: Range, size: number): number[] {
  const all = Array.from({ length: size }, (_, position) => position);
  return 'suffix' in range
    ? all.filter(position => size - position <= range.suffix)
    : all.filter(position => position >= range.first && position <= (range.last ?? Infinity));
}

function positionsOf({ start, end }: { start: number; end: number }): number[] {
  return Array.from({ length: end - start }, (_, i) => start + i);
}

describe('parseRange', () => {
  test('gives the spans that a byte-by-byte reading gives, in the order asked for', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: SIZE_LIMIT }),
        fc.array(ranges, { minLength: 1, maxLength: 5 }),
        (size, asked) => {
          const spans = parseRange(`bytes=${asked.map(spell).join(',')}`, size);
          const named = asked.map(range => bytesNamed(range, size)).filter(bytes => bytes.length > 0);
          if (named.flat().length > size) assert.equal(spans, undefined);
          else assert.deepEqual(spans?.map(positionsOf), named);
        },
      ),
      { numRuns: 3000 },
    );
  });

  test('gives spans that lie within the size, or none, whatever the header', () => {
    const nearly = fc.string({ unit: fc.constantFrom(...'0129-,= bytes'), maxLength: 30 });
    fc.assert(
      fc.property(
        fc.oneof(
          nearly,
          nearly.map(text => `bytes=${text}`),
        ),
        fc.nat(),
        (header, size) => {
          for (const { start, end } of parseRange(header, size) ?? []) {
            assert.ok(start >= 0 && start < end && end <= size);
          }
        },
      ),
    );
  });

  const ofTen: [header: string | undefined, spans: [number, number][] | undefined, what: string][] = [
    [undefined, undefined, 'no header'],
    ['bytes=0-9', [[0, 10]], 'all of it'],
    ['bytes=0-0', [[0, 1]], 'the first byte'],
    ['bytes=9-', [[9, 10]], 'the last byte, open'],
    ['bytes=-1', [[9, 10]], 'the last byte, as a suffix'],
    ['bytes=-100', [[0, 10]], 'a suffix longer than all'],
    ['bytes=5-100', [[5, 10]], 'an end beyond the end'],
    ['BYTES=0-1', [[0, 2]], 'a unit in capitals'],
    [
      'bytes=0-1, 3-4 ,\t6-',
      [
        [0, 2],
        [3, 5],
        [6, 10],
      ],
      'several with space between',
    ],
    [
      'bytes=6-7,0-1',
      [
        [6, 8],
        [0, 2],
      ],
      'several, the later first',
    ],
    ['bytes=0-1,10-', [[0, 2]], 'one that can be satisfied and one that cannot'],
    ['bytes=10-', [], 'a start at the end'],
    ['bytes=10-20,30-', [], 'several beyond the end'],
    ['bytes=-0', [], 'an empty suffix'],
    ['bytes=99999999999999999999999-', [], 'a start beyond all numbers'],
    ['bytes=0-99999999999999999999999', [[0, 10]], 'an end beyond all numbers'],
    ['bytes=-99999999999999999999999', [[0, 10]], 'a suffix beyond all numbers'],
    ['bytes=0-9,0-0', undefined, 'together more than the whole'],
    ['bytes=0-,-1', undefined, 'overlapping beyond the whole'],
    ['bytes=5-4', [], 'an end before its start'],
    ['bytes=0-1,5-4', [[0, 2]], 'one that is impossible among others'],
    ['bytes=0-1,x-4', undefined, 'one that is malformed among others'],
    ['bytes=', undefined, 'no range'],
    ['bytes=-', undefined, 'a dash alone'],
    ['bytes=1', undefined, 'no dash'],
    ['bytes=a-b', undefined, 'letters'],
    ['bytes=0x0-1', undefined, 'another base'],
    ['bytes=1e0-2', undefined, 'an exponent'],
    ['bytes=+1-2', undefined, 'a sign'],
    ['bytes=1.0-2', undefined, 'a fraction'],
    ['bytes=1-2-3', undefined, 'two dashes'],
    ['bytes=--1', undefined, 'a negative suffix'],
    ['bytes 0-1', undefined, 'no equals sign'],
    ['lines=0-1', undefined, 'another unit'],
    ['=0-1', undefined, 'no unit'],
    ['', undefined, 'an empty header'],
  ];
  for (const [header, spans, what] of ofTen) {
    const outcome = spans === undefined ? 'is ignored' : spans.length === 0 ? 'cannot be satisfied' : 'is read';
    test(`${what} (${header}) ${outcome}`, () => {
      assert.deepEqual(
        parseRange(header, 10)?.map(({ start, end }) => [start, end]),
        spans,
      );
    });
  }

  test('of nothing, nothing can be satisfied', () => {
    for (const header of ['bytes=0-', 'bytes=0-0', 'bytes=-1']) assert.deepEqual(parseRange(header, 0), []);
  });

  test('64 ranges are read, and 65 are ignored', () => {
    const header = (count: number) => `bytes=${Array.from({ length: count }, (_, i) => `${2 * i}-${2 * i}`).join(',')}`;
    assert.equal(parseRange(header(64), 1000)?.length, 64);
    assert.equal(parseRange(header(65), 1000), undefined);
    // Also when most of them name nothing.
    assert.equal(parseRange(header(65), 10), undefined);
  });

  test('a header of many megabytes costs little', () => {
    const started = performance.now();
    assert.equal(parseRange(`bytes=${'0-0,'.repeat(2_000_000)}`, 10), undefined);
    assert.equal(parseRange(`bytes=${' '.repeat(8_000_000)}0-0`, 10)?.length, 1);
    assert.ok(performance.now() - started < 10_000);
  });
});

describe('parseContentRange', () => {
  test('reads what a server writes about a span', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.option(fc.nat()), (start, more, rest) => {
        const end = start + more + 1;
        const size = rest === null ? undefined : end + rest;
        const header = `bytes ${start}-${end - 1}/${size ?? '*'}`;
        assert.deepEqual(parseContentRange(header), { start, end, size });
      }),
    );
  });

  const rejected = [
    undefined,
    '',
    'bytes */10',
    'bytes 0-1',
    'bytes 0-1/',
    'bytes 0-/10',
    'bytes -1/10',
    'bytes=0-1/10',
    'items 0-1/10',
    'bytes 0-1/10, bytes 2-3/10',
    'bytes 0-1/10 ',
    'bytes 0-1/10\n',
    'bytes 0x0-1/10',
    'bytes 0-1/1e3',
    'bytes 0-9999999999999999/10',
  ];
  for (const header of rejected) {
    test(`rejects ${JSON.stringify(header)}`, () => assert.equal(parseContentRange(header), undefined));
  }

  // RFC 9110, section 14.4: such a value is invalid, and must not be used to recombine anything.
  for (const header of ['bytes 5-4/10', 'bytes 0-10/10', 'bytes 20-30/10']) {
    test(`rejects the impossible ${header}`, () => assert.equal(parseContentRange(header), undefined));
  }
});

describe('parseChunkRange', () => {
  const positions15 = fc.nat({ max: 999_999_999_999_999 });

  test('gives the positions that were spelled, in all the spellings that clients have', () => {
    fc.assert(
      fc.property(positions15, positions15, positions15, (a, b, size) => {
        const [first, last] = [Math.min(a, b), Math.max(a, b)];
        const range = `${first}-${last}`;
        for (const header of [
          range,
          `bytes ${range}`,
          `bytes=${range}`,
          `${range}/*`,
          `bytes ${range}/${size}`,
          ` ${range}\t`,
        ]) {
          assert.deepEqual(parseChunkRange(header), { start: first, end: last + 1 }, header);
        }
        if (first < last) assert.equal(parseChunkRange(`${last}-${first}`), undefined);
      }),
    );
  });

  test('takes a chunk of one byte, and zeros in front', () => {
    assert.deepEqual(parseChunkRange('0-0'), { start: 0, end: 1 });
    assert.deepEqual(parseChunkRange('000-009'), { start: 0, end: 10 });
  });

  const rejected = [
    '',
    ' ',
    '-',
    '0',
    '0-',
    '-9',
    '9-8',
    '0-9,10-19',
    '0-9-10',
    '0--9',
    '-0-9',
    '+0-9',
    '0 - 9',
    '0-9 /10',
    '0-9/',
    '0-9/x',
    '0-9/-1',
    '/10',
    'bytes',
    'bytes ',
    'bytes */10',
    'bytes  0-9',
    'bytes0-9',
    'BYTES 0-9',
    'bytes:0-9',
    'items 0-9/10',
    'bytes bytes 0-9',
    '0x0-9',
    '0-1e3',
    '0-9.0',
    '0-9;q=1',
    '0-9\n1',
    '0-9\0',
    '٠-٩',
    '0–9',
    'Infinity-Infinity',
    'NaN-NaN',
    '__proto__',
    '0-9999999999999999',
    '9999999999999999-9999999999999999',
    `0-${'9'.repeat(1000)}`,
    `0-9/${'9'.repeat(16)}`,
  ];
  for (const header of rejected) {
    const shown = JSON.stringify(header.length > 40 ? `${header.slice(0, 40)}…` : header);
    test(`rejects ${shown}`, () => assert.equal(parseChunkRange(header), undefined));
  }

  test('gives a span that is not empty and can be reckoned with, or none, whatever the header', () => {
    const nearly = fc.string({ unit: fc.constantFrom(...'0159-/*= bytes'), maxLength: 40 });
    fc.assert(
      fc.property(fc.oneof(nearly, fc.string()), header => {
        const span = parseChunkRange(header);
        if (span === undefined) return;
        assert.ok(span.start >= 0 && span.start < span.end);
        assert.ok(Number.isSafeInteger(span.start) && Number.isSafeInteger(span.end));
      }),
      { numRuns: 2000 },
    );
  });

  test('of many megabytes costs little', () => {
    const started = performance.now();
    for (const part of ['0', '0-', '-', ' ', 'bytes ', '0-0/']) {
      assert.equal(parseChunkRange(part.repeat(2_000_000)), undefined);
    }
    assert.ok(performance.now() - started < 5_000);
  });
});
