import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteLimit } from './byte-limit.ts';

test('bytes are taken while they fit, and what does not fit takes nothing', () => {
  const limit = new ByteLimit(100);
  assert.equal(limit.take(60), true);
  assert.equal(limit.take(41), false);
  assert.equal(limit.take(40), true);
  assert.equal(limit.take(1), false);
  limit.release(60);
  assert.equal(limit.take(60), true);
});
