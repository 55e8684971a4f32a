import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExpiringCache } from './expiring-cache.ts';

function setUp(options: { max?: number; ttlMs?: number } = {}) {
  let nowMs = 0;
  const clock = { monotonic: () => nowMs };
  const cache = new ExpiringCache<string>({ clock, max: 3, ...options });
  return { cache, advance: (ms: number) => (nowMs += ms) };
}

test('an entry is there until its lifetime is over, and not a moment longer', () => {
  const { cache, advance } = setUp({ ttlMs: 1000 });
  cache.set('a', 'value');
  advance(999.5);
  assert.equal(cache.get('a'), 'value');
  advance(0.5);
  assert.equal(cache.get('a'), undefined);
});

test('an entry may have a lifetime of its own, and none at all', () => {
  const { cache, advance } = setUp({ ttlMs: 1000 });
  cache.set('long', 'value', 5000);
  cache.set('none', 'value', 0);
  assert.equal(cache.get('none'), undefined);
  advance(4999);
  assert.equal(cache.get('long'), 'value');
});

test('without a lifetime an entry stays, and setting it again begins another lifetime', () => {
  const { cache, advance } = setUp();
  cache.set('a', 'first');
  advance(1e12);
  assert.equal(cache.get('a'), 'first');
  cache.set('a', 'second', 10);
  advance(9);
  assert.equal(cache.get('a'), 'second');
  advance(1);
  assert.equal(cache.get('a'), undefined);
});

test('the least recently used goes when there are too many', () => {
  const { cache } = setUp();
  for (const key of ['a', 'b', 'c']) cache.set(key, key);
  cache.get('a');
  cache.set('d', 'd');
  assert.deepEqual(
    ['a', 'b', 'c', 'd'].map(key => cache.get(key)),
    ['a', undefined, 'c', 'd'],
  );
});

test('what is deleted is gone', () => {
  const { cache } = setUp();
  cache.set('a', 'value');
  cache.delete('a');
  assert.equal(cache.get('a'), undefined);
});

test('all that has not ended can be gone through, and cleared', () => {
  const { cache, advance } = setUp();
  cache.set('a', 'short', 10);
  cache.set('b', 'long', 20);
  advance(10);
  assert.deepEqual([...cache.values()], ['long']);
  cache.clear();
  assert.deepEqual([...cache.values()], []);
  assert.equal(cache.get('b'), undefined);
});
