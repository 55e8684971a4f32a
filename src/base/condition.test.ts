import assert from 'node:assert/strict';
import { test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { Condition } from './condition.ts';

test('a predicate that holds is not waited for', async () => {
  await new Condition().wait(() => true);
});

test('each waiter goes on when its own predicate holds, and not before', async () => {
  const condition = new Condition();
  let count = 0;
  const reached: number[] = [];
  for (const goal of [2, 1]) void condition.wait(() => count >= goal).then(() => reached.push(goal));
  count = 1;
  await turns();
  assert.deepEqual(reached, [], 'nothing is noticed without a notify');
  condition.notify();
  await turns();
  assert.deepEqual(reached, [1]);
  count = 2;
  condition.notify();
  await turns();
  assert.deepEqual(reached, [1, 2]);
});

test('an abort ends the waiting with its reason, and only that one', async () => {
  const condition = new Condition();
  const leaving = new AbortController();
  let isReady = false;
  const left = condition.wait(() => isReady, leaving.signal);
  const stays = condition.wait(() => isReady);
  const reason = new Error('left');
  leaving.abort(reason);
  await assert.rejects(left, reason);
  await assert.rejects(
    condition.wait(() => true, leaving.signal),
    reason,
  );
  isReady = true;
  condition.notify();
  await stays;
});

test('an abort after the waiting is over changes nothing', async () => {
  const condition = new Condition();
  const leaving = new AbortController();
  let isReady = false;
  const waiting = condition.wait(() => isReady, leaving.signal);
  isReady = true;
  condition.notify();
  leaving.abort();
  await waiting;
});
