import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ResponseMemory } from './response-memory.ts';

const KIB = 1024;
const FULL = { code: 'UNAVAILABLE', retryAfterMs: 1_000 };

describe('the memory of bodies', () => {
  test('turns away what does not fit, until something else is gone', () => {
    const memory = new ResponseMemory(0, 1000 * KIB);
    const [one, two] = [memory.room(), memory.room()];
    one.take(600 * KIB);
    assert.throws(() => two.take(600 * KIB), FULL);
    two.take(400 * KIB);
    assert.throws(() => two.take(1), FULL);
    one[Symbol.dispose]();
    two.take(600 * KIB);
    two[Symbol.dispose]();
    memory.room().take(1000 * KIB);
  });

  test('keeps a part for small bodies, which large ones do not use', () => {
    const memory = new ResponseMemory(256 * KIB, 1000 * KIB);
    const large = memory.room();
    for (let i = 0; i < 10; i++) large.take(100 * KIB);
    const small = memory.room();
    small.take(256 * KIB);
    // It is not small any more.
    assert.throws(() => small.take(1), FULL);
    small[Symbol.dispose]();
    memory.room().take(256 * KIB);
  });

  test('takes a body out of the small ones when it has grown', () => {
    const memory = new ResponseMemory(256 * KIB, 1000 * KIB);
    const growing = memory.room();
    for (let i = 0; i < 3; i++) growing.take(100 * KIB);
    memory.room().take(256 * KIB);
    growing[Symbol.dispose]();
    memory.room().take(1000 * KIB);
  });

  test('lets small bodies into the rest when their own part is full', () => {
    const memory = new ResponseMemory(100 * KIB, 100 * KIB);
    memory.room().take(100 * KIB);
    memory.room().take(100 * KIB);
    assert.throws(() => memory.room().take(1), FULL);
  });
});
