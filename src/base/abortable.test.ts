import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { stateOf } from '../../test/support/async.ts';
import { abortable } from './abortable.ts';

test('abortable is the promise, unless it is aborted first, and leaves no listener', async () => {
  const reason = new Error('gone');
  const stopping = new AbortController();
  const { promise, resolve } = Promise.withResolvers<number>();
  const both = [abortable(promise, stopping.signal), abortable(promise, undefined)] as const;
  assert.equal(await stateOf(both[0]), 'pending');
  stopping.abort(reason);
  await assert.rejects(both[0], reason);
  await assert.rejects(abortable(promise, stopping.signal), reason);
  resolve(7);
  assert.equal(await both[1], 7);
  const later = new AbortController();
  assert.equal(await abortable(promise, later.signal), 7);
  await assert.rejects(abortable(Promise.reject(reason), later.signal), reason);
  assert.equal(getEventListeners(later.signal, 'abort').length, 0);
});
