import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Spans } from '../base/spans.ts';
import { type Segment, Segments } from './segments.ts';

const MIB = 1024 * 1024;
const MIB16 = 16 * MIB;

/** What is wanted of a blob of so many bytes, its size being known. */
function segmentsOf(sizeBytes: number, here: { start: number; end: number }[] = []): Segments {
  const segments = new Segments({ start: 0, end: Infinity }, here);
  segments.limit(sizeBytes);
  return segments;
}

const inMiB = (segment: Segment | undefined) => segment && [segment.position / MIB, segment.end / MIB];

describe('segments', () => {
  test('begin with all of it, of which others take what comes next', () => {
    const segments = new Segments({ start: 0, end: Infinity }, []);
    const first = segments.takeRun();
    assert.deepEqual([first?.position, first?.end], [0, Infinity]);
    segments.limit(100 * MIB);
    assert.deepEqual(inMiB(first), [0, 100]);
    assert.deepEqual(inMiB(segments.take()), [16, 32]);
    assert.deepEqual(inMiB(first), [0, 16]);
    assert.deepEqual(
      [inMiB(segments.take()), inMiB(segments.take())],
      [
        [32, 48],
        [48, 64],
      ],
    );
    assert.deepEqual(
      [inMiB(segments.take()), inMiB(segments.take())],
      [
        [64, 80],
        [80, 100],
      ],
    );
    assert.equal(segments.canTake, false);
    assert.equal(segments.take(), undefined);
  });

  test('leave the first connection what it reaches soon', () => {
    const segments = segmentsOf(100 * MIB);
    const first = segments.takeRun() as Segment;
    first.position = 15 * MIB;
    assert.deepEqual(inMiB(segments.take()), [32, 48]);
    assert.deepEqual(inMiB(first), [15, 32]);
  });

  for (const [sizeMiB, expected] of [
    [20, undefined],
    [23, undefined],
    [24, [16, 24]],
    [32, [16, 32]],
    [39, [16, 39]],
    [2048, [32, 64]],
  ] as const) {
    test(`of a blob of ${sizeMiB} MiB are ${expected ? `split at ${expected[0]} MiB` : 'one'}`, () => {
      const segments = segmentsOf(sizeMiB * MIB);
      segments.takeRun();
      assert.deepEqual(inMiB(segments.take()), expected);
    });
  }

  test('go on with what follows while that is free, and the rest of those that broke comes first', () => {
    const segments = segmentsOf(64 * MIB);
    const first = segments.takeRun() as Segment;
    const second = segments.take() as Segment;
    first.position = first.end;
    assert.equal(segments.extend(first), false);
    second.position = 20 * MIB;
    segments.release(second);
    segments.release(first);
    assert.deepEqual(inMiB(segments.take()), [20, 32]);
    const third = segments.take() as Segment;
    third.position = third.end;
    assert.equal(segments.extend(third), true);
    assert.deepEqual(inMiB(third), [48, 64]);
  });

  test('do not go on beyond what a body was asked for', () => {
    const segments = segmentsOf(64 * MIB);
    const first = segments.takeRun() as Segment;
    const second = segments.take() as Segment;
    assert.deepEqual(inMiB(second), [16, 32]);
    segments.halve(second);
    second.position = second.end;
    assert.equal(segments.extend(second, 32 * MIB), true);
    assert.deepEqual(inMiB(second), [24, 32]);
    second.position = second.end;
    assert.equal(segments.extend(second, 32 * MIB), false);
    assert.ok(first.end === 16 * MIB);
  });

  test('can be taken as long as any is long enough to be split, the longest or not', () => {
    const segments = segmentsOf(85 * MIB, [
      { start: 0, end: 8 * MIB },
      { start: 32 * MIB, end: 57 * MIB },
    ]);
    segments.takeRun();
    segments.takeRun();
    while (segments.canTake) assert.ok(segments.take());
    assert.equal(segments.take(), undefined);
  });

  test('of a slow connection are halved', () => {
    const segments = segmentsOf(20 * MIB);
    const only = segments.takeRun() as Segment;
    only.position = 3 * MIB + 1;
    assert.equal(segments.halve(only), true);
    assert.deepEqual(inMiB(segments.take()), [12, 20]);
    only.position = only.end - MIB / 2;
    assert.equal(segments.halve(only), false);
  });

  test('are not of what is here', () => {
    const segments = segmentsOf(64 * MIB, [
      { start: 0, end: 5 * MIB },
      { start: MIB16, end: 40 * MIB },
    ]);
    assert.deepEqual(inMiB(segments.takeRun()), [5, 16]);
    assert.deepEqual(inMiB(segments.take()), [40, 64]);
  });

  test('cover each byte once, whoever takes, breaks, extends and halves them, and no more than 64 are begun', () => {
    const steps = fc.array(
      fc.record({ what: fc.integer({ min: 0, max: 5 }), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
      {
        maxLength: 60,
      },
    );
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 300 * MIB }), steps, (sizeBytes, changes) => {
        const segments = segmentsOf(sizeBytes);
        const fetched = new Spans();
        const running: Segment[] = [];
        const move = (segment: Segment, share: number) => {
          const end = segment.position + Math.floor((segment.end - segment.position) * share);
          if (end === segment.position) return;
          assert.ok(
            fetched.list.every(span => span.end <= segment.position || span.start >= end),
            'fetched twice',
          );
          fetched.add({ start: segment.position, end });
          segment.position = end;
        };
        const first = segments.takeRun();
        if (first) running.push(first);
        for (const { what, share } of changes) {
          const segment = running[Math.floor(share * running.length * 0.99)];
          if (what === 0) {
            const taken = segments.take();
            if (taken) running.push(taken);
          } else if (segment === undefined) continue;
          else if (what === 1) {
            segments.release(segment);
            running.splice(running.indexOf(segment), 1);
          } else if (what === 2 && segment.position === segment.end) segments.extend(segment);
          else if (what === 3) segments.halve(segment);
          else move(segment, what === 4 ? share : 1);
        }
        for (const segment of running) {
          move(segment, 1);
          segments.release(segment);
        }
        for (let segment = segments.take(); segment !== undefined; segment = segments.take()) {
          assert.ok(segment.position < segment.end);
          move(segment, 1);
          segments.release(segment);
        }
        assert.ok(segments.isComplete);
        assert.deepEqual(fetched.list, sizeBytes === 0 ? [] : [{ start: 0, end: sizeBytes }]);
      }),
    );
    const huge = segmentsOf(10 * 1024 ** 3 + 1);
    let begun = 0;
    for (; huge.take() !== undefined; begun++);
    assert.equal(begun, 64);
  });
});
