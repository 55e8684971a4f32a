import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRejected, load } from '../../../test/support/config.ts';

test('pushes go through, or are off', () => {
  assert.equal(load('push: through').push, 'through');
  assert.equal(load('push: off').push, 'off');
  assertRejected([['push: no', '1: push: "no" is not one of through, off']]);
});
