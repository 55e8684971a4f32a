import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { TestClock } from '../../../test/support/clock.ts';
import type { RegistryError } from '../../oci/errors.ts';
import { BodyMemory } from './body-memory.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

function start() {
  const clock = new TestClock();
  const memory = new BodyMemory(clock);
  /** A body, and why it was cut. */
  const begin = (declaredBytes: number | undefined, bytes = 0) => {
    const cuts: RegistryError[] = [];
    const body = memory.begin(declaredBytes, why => cuts.push(why));
    try {
      if (bytes > 0) body.append(Buffer.alloc(bytes, 7));
    } catch (error) {
      body[Symbol.dispose]();
      throw error;
    }
    return { body, cuts };
  };
  /** As many bodies as there is memory for. */
  const fill = (declaredBytes: number | undefined, bytes: number) => {
    const all: ReturnType<typeof begin>[] = [];
    for (;;) {
      try {
        all.push(begin(declaredBytes, bytes));
      } catch (error) {
        assert.equal((error as RegistryError).code, 'TOOMANYREQUESTS');
        assert.equal((error as RegistryError).retryAfterMs, 1_000);
        return all;
      }
    }
  };
  return { clock, memory, begin, fill };
}

describe('memory for bodies', () => {
  test('is bounded, by what really came', () => {
    const { memory, fill } = start();
    const large = fill(4 * MIB, 4 * MIB - 1);
    assert.equal(large.length, 6);
    assert(memory.usedBytes <= 28 * MIB);
    const hardlyBegun = start().fill(4 * MIB, 10);
    assert(hardlyBegun.length > 1_000, `${hardlyBegun.length}`);
  });

  test('has a part for small bodies that large ones do not use up, nor those whose size is not known', () => {
    const { memory, begin, fill } = start();
    fill(4 * MIB, 4 * MIB);
    fill(undefined, 200 * KIB);
    for (let n = 0; n < 60; n++) {
      assert.deepEqual(begin(64 * KIB, 64 * KIB).cuts, []);
    }
    assert(memory.usedBytes <= 28 * MIB);
  });

  test('is given back when a body is disposed of, whatever became of it', () => {
    const { memory, fill, begin } = start();
    for (const [declaredBytes, bytes] of [
      [4 * MIB, 4 * MIB],
      [64 * KIB, 10],
      [undefined, 300 * KIB],
    ] as const) {
      const all = fill(declaredBytes, bytes);
      for (const { body } of all) body[Symbol.dispose]();
      for (const { body } of all) body[Symbol.dispose]();
    }
    const { body } = begin(10, 10);
    body.whole();
    assert.notEqual(memory.usedBytes, 0);
    body[Symbol.dispose]();
    assert.equal(memory.usedBytes, 0);
  });

  test('is taken from the body that has stalled the longest, if any has for two seconds', () => {
    const { clock, begin, fill } = start();
    const all = fill(4 * MIB, 4 * MIB - 100);
    clock.advance(1_000);
    for (const { body } of all.slice(1)) body.append(Buffer.alloc(1));
    assert.throws(() => begin(4 * MIB, 4 * MIB), { code: 'TOOMANYREQUESTS' });
    clock.advance(1_500);
    const next = begin(4 * MIB, 4 * MIB);
    assert.deepEqual(
      all.map(({ cuts }) => cuts.map(({ code }) => code)),
      all.map((_, n) => (n === 0 ? ['REQUEST_TIMEOUT'] : [])),
    );
    assert.throws(() => all[0]?.body.append(Buffer.alloc(1)), /over/);
    assert.deepEqual(next.cuts, []);
    // One that is whole waits for nobody.
    for (const { body } of all.slice(1)) body.whole();
    clock.advance(10_000);
    next.body.append(Buffer.alloc(0));
    assert.throws(() => begin(4 * MIB, 4 * MIB), { code: 'TOOMANYREQUESTS' });
  });
});

describe('a body', () => {
  test('is what came, in whatever pieces', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40_000 }), { maxLength: 20 }), fc.boolean(), (pieces, told) => {
        const { memory } = start();
        const bytes = Buffer.concat(pieces);
        const body = memory.begin(told ? bytes.length : undefined, () => assert.fail());
        for (const piece of pieces) body.append(Buffer.from(piece));
        assert(memory.usedBytes >= bytes.length && memory.usedBytes <= 2 * bytes.length + 40_000 + KIB);
        assert.deepEqual(body.whole(), bytes);
        body[Symbol.dispose]();
        assert.equal(memory.usedBytes, 0);
      }),
      { numRuns: 50 },
    );
  });

  test('has thirty seconds', () => {
    const { clock, begin } = start();
    const { body, cuts } = begin(4 * MIB);
    for (let second = 0; second < 30; second++) {
      body.append(Buffer.alloc(100 * KIB));
      clock.advance(1_000);
    }
    assert.deepEqual(cuts, []);
    clock.advance(1_000);
    assert.deepEqual(
      cuts.map(({ code, message }) => [code, message]),
      [['REQUEST_TIMEOUT', 'the request was not complete after 30 s']],
    );
    clock.advance(60_000);
    assert.equal(cuts.length, 1);
  });

  test('has to come at a least rate, after five seconds', () => {
    const { clock, begin } = start();
    const slow = begin(4 * MIB, 10 * KIB);
    const fast = begin(4 * MIB, 17 * 7 * KIB);
    const whole = begin(10, 10);
    whole.body.whole();
    for (let second = 0; second < 5; second++) clock.advance(1_000);
    assert.equal(slow.cuts.length, 0);
    clock.advance(1_000);
    assert.deepEqual(
      slow.cuts.map(({ message }) => message),
      ['the request came too slowly: 10240 bytes in 6 s'],
    );
    assert.equal(fast.cuts.length, 0);
    clock.advance(2_000);
    assert.equal(fast.cuts.length, 1);
    clock.advance(100_000);
    assert.equal(whole.cuts.length, 0);
  });
});
