import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SingleFlight } from './single-flight.ts';

test('who asks while the work is done joins it, and all get the same', async () => {
  const shared = new SingleFlight<object>();
  const { promise, resolve } = Promise.withResolvers<object>();
  let works = 0;
  const ask = () =>
    shared.run('key', () => {
      works++;
      return promise;
    });
  const [first, second, third] = [ask(), ask(), ask()];
  assert.deepEqual([first.joined, second.joined, third.joined], [false, true, true]);
  const value = {};
  resolve(value);
  for (const { result } of [first, second, third]) assert.equal(await result, value);
  assert.equal(works, 1);
  assert.equal(ask().joined, false, 'what is done is not remembered');
  assert.equal(works, 2);
});

test('work under another key is other work', () => {
  const shared = new SingleFlight<string>();
  const forever = () => new Promise<string>(() => {});
  assert.equal(shared.run('a', forever).joined, false);
  assert.equal(shared.run('b', forever).joined, false);
  assert.equal(shared.run('a', forever).joined, true);
});

test('a failure goes to all who joined, and the next one starts anew', async () => {
  const shared = new SingleFlight<string>();
  const failure = new Error('failed');
  const fail = () => shared.run('key', () => Promise.reject(failure));
  const [first, second] = [fail(), fail()];
  assert.equal(second.joined, true);
  await Promise.all([first, second].map(({ result }) => assert.rejects(result, failure)));
  const next = shared.run('key', async () => 'done');
  assert.equal(next.joined, false);
  assert.equal(await next.result, 'done');
});

test('who learns of the end and asks again at once does not join what has ended', async () => {
  const shared = new SingleFlight<string>();
  await shared.run('key', async () => 'first').result;
  const { result, joined } = shared.run('key', async () => 'second');
  assert.deepEqual([await result, joined], ['second', false]);
});

test('what is forgotten is joined by nobody: who asks then starts anew, and is joined', async () => {
  const shared = new SingleFlight<string>();
  const works = [Promise.withResolvers<string>(), Promise.withResolvers<string>()] as const;
  let count = 0;
  const ask = () => shared.run('key', () => (works[count++] ?? assert.fail('done once too often')).promise);
  const old = [ask(), ask()];
  shared.forget('key');
  const fresh = [ask(), ask()];
  assert.deepEqual(
    [...old, ...fresh].map(({ joined }) => joined),
    [false, true, false, true],
  );
  // The end of what was forgotten is not the end of what has taken its place.
  works[0].resolve('old');
  for (const { result } of old) assert.equal(await result, 'old');
  const late = ask();
  assert.equal(late.joined, true);
  works[1].resolve('fresh');
  for (const { result } of [...fresh, late]) assert.equal(await result, 'fresh');
});

test('forgetting takes nothing from another key, and may find nothing', async () => {
  const shared = new SingleFlight<string>();
  shared.forget('key');
  const { promise, resolve } = Promise.withResolvers<string>();
  const first = shared.run('key', () => promise);
  shared.forget('other');
  const second = shared.run('key', () => assert.fail());
  assert.equal(second.joined, true);
  resolve('done');
  assert.deepEqual([await first.result, await second.result], ['done', 'done']);
  shared.forget('key');
  assert.equal(await shared.run('key', async () => 'again').result, 'again');
});
