import assert from 'node:assert/strict';
import { test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { KeyedSemaphore } from './keyed-semaphore.ts';

const { signal } = new AbortController();

test('each key has permits of its own, and what has none waits for its turn', async () => {
  const semaphore = new KeyedSemaphore(2);
  const gate = Promise.withResolvers<void>();
  const started: string[] = [];
  const run = (key: string, name: string) =>
    semaphore.run(key, signal, async () => {
      started.push(name);
      await gate.promise;
      return name;
    });
  const all = [run('a', 'a1'), run('a', 'a2'), run('a', 'a3'), run('b', 'b1')];
  await turns(5);
  assert.deepEqual(started, ['a1', 'a2', 'b1']);
  gate.resolve();
  assert.deepEqual(await Promise.all(all), ['a1', 'a2', 'a3', 'b1']);
});

test('a permit comes back when the work fails, and when waiting for one ends', async () => {
  const semaphore = new KeyedSemaphore(1);
  await assert.rejects(
    semaphore.run('a', signal, () => Promise.reject(new Error('mine'))),
    /mine/,
  );
  const gate = Promise.withResolvers<void>();
  const running = semaphore.run('a', signal, () => gate.promise);
  const leaving = new AbortController();
  const waiting = semaphore.run('a', leaving.signal, () => assert.fail());
  leaving.abort(new Error('gone'));
  await assert.rejects(waiting, /gone/);
  gate.resolve();
  await running;
  assert.equal(await semaphore.run('a', signal, async () => 'again'), 'again');
});
