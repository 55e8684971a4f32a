import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Spans } from './spans.ts';

const SIZE = 40;
const position = fc.integer({ min: 0, max: SIZE });
const span = fc.tuple(position, position).map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));

test('spans are the set of positions that were added and not removed, each run of them once and in order', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ adds: fc.boolean(), span }), { maxLength: 20 }), changes => {
      const spans = new Spans();
      const expected = new Array<boolean>(SIZE).fill(false);
      for (const change of changes) {
        if (change.adds) spans.add(change.span);
        else spans.remove(change.span);
        expected.fill(change.adds, change.span.start, change.span.end);
      }
      const found = new Array<boolean>(SIZE).fill(false);
      for (const { start, end } of spans.list) {
        assert.ok(start < end);
        found.fill(true, start, end);
      }
      assert.deepEqual(found, expected);
      assert.equal(spans.size, expected.filter(Boolean).length);
      for (const [i, each] of spans.list.slice(1).entries()) {
        assert.ok((spans.list[i]?.end ?? 0) < each.start, 'they touch, or are out of order');
      }
      for (let at = 0; at < SIZE; at++) {
        const end = expected.indexOf(false, at);
        assert.equal(spans.endOf(at), expected[at] ? (end < 0 ? SIZE : end) : at);
      }
    }),
  );
});
