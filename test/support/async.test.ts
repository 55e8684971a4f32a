// Waiting for what work in progress brings about, and only for that.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stateOf, until } from './async.ts';

test('until waits for a condition, also for one that is asynchronous', async () => {
  let done = false;
  setImmediate(() => {
    done = true;
  });
  await until(() => done);
  let asked = 0;
  await until(async () => ++asked === 3);
  assert.equal(asked, 3);
});

test('until fails when the condition never holds', async t => {
  let nowMs = 0;
  t.mock.method(performance, 'now', () => {
    nowMs += 3_000;
    return nowMs;
  });
  await assert.rejects(
    until(() => false),
    /waited in vain until \(\) => false/,
  );
});

test('stateOf tells what has become of a promise', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  assert.equal(await stateOf(promise), 'pending');
  resolve();
  assert.equal(await stateOf(promise), 'fulfilled');
  assert.equal(await stateOf(Promise.reject(new Error('broken'))), 'rejected');
});
