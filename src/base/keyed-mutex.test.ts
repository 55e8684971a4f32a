import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { turns } from '../../test/support/async.ts';
import { KeyedMutex } from './keyed-mutex.ts';

/** Work that begins when it is its turn, and ends when the test says so. */
function workOf(mutex: KeyedMutex, log: string[], key: string, name: string) {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const done = mutex.run(key, () => {
    log.push(`${name} begins`);
    return promise.finally(() => log.push(`${name} ends`));
  });
  done.catch(() => {});
  return { done, end: () => resolve(name), fail: (error: Error) => reject(error) };
}

describe('KeyedMutex', () => {
  test('work begins at once where there is none, and its result comes back', async () => {
    const mutex = new KeyedMutex();
    const log: string[] = [];
    const { done, end } = workOf(mutex, log, 'tag', 'a');
    assert.deepEqual(log, ['a begins']);
    end();
    assert.equal(await done, 'a');
  });

  test('work under one key is done one after another, in the order of coming', async () => {
    const mutex = new KeyedMutex();
    const log: string[] = [];
    const works = ['a', 'b', 'c'].map(name => workOf(mutex, log, 'tag', name));
    for (const { end } of works.toReversed()) {
      // Who is last is done already when its turn comes, which changes nothing.
      await turns();
      end();
    }
    assert.deepEqual(await Promise.all(works.map(({ done }) => done)), ['a', 'b', 'c']);
    assert.deepEqual(log, ['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
  });

  test('work under another key waits for nothing', async () => {
    const mutex = new KeyedMutex();
    const log: string[] = [];
    const [a, b] = [workOf(mutex, log, 'one', 'a'), workOf(mutex, log, 'two', 'b')];
    assert.deepEqual(log, ['a begins', 'b begins']);
    b.end();
    assert.equal(await b.done, 'b');
    a.end();
    assert.equal(await a.done, 'a');
  });

  test('work that fails tells who handed it in, and keeps nobody else', async () => {
    const mutex = new KeyedMutex();
    const log: string[] = [];
    const works = ['a', 'b', 'c'].map(name => workOf(mutex, log, 'tag', name));
    const failure = new Error('failed');
    works[0]?.fail(failure);
    await assert.rejects(works[0]?.done ?? assert.fail(), failure);
    works[1]?.end();
    works[2]?.fail(failure);
    assert.equal(await works[1]?.done, 'b');
    await assert.rejects(works[2]?.done ?? assert.fail(), failure);
    assert.deepEqual(
      log.filter(line => line.endsWith('begins')),
      ['a begins', 'b begins', 'c begins'],
    );
  });

  test('work that throws at once is work that fails, be it first or later', async () => {
    const mutex = new KeyedMutex();
    const failure = new Error('failed');
    const throwing = () => {
      throw failure;
    };
    await assert.rejects(mutex.run('tag', throwing), failure);
    const [first, second, third] = [
      mutex.run('tag', async () => 'first'),
      mutex.run('tag', throwing),
      mutex.run('tag', async () => 'third'),
    ];
    await assert.rejects(second ?? assert.fail(), failure);
    assert.deepEqual([await first, await third], ['first', 'third']);
  });

  test('who comes when all is done waits for nobody', async () => {
    const mutex = new KeyedMutex();
    await mutex.run('tag', async () => {});
    await mutex.run('tag', () => Promise.reject(new Error('failed'))).catch(() => {});
    let hasBegun = false;
    const done = mutex.run('tag', async () => {
      hasBegun = true;
    });
    assert.ok(hasBegun);
    await done;
  });

  test('who learns of the end of the last and comes at once neither overlaps nor is overlapped', async () => {
    const mutex = new KeyedMutex();
    const log: string[] = [];
    const a = workOf(mutex, log, 'tag', 'a');
    const b = workOf(mutex, log, 'tag', 'b');
    const late = a.done.then(() => workOf(mutex, log, 'tag', 'late'));
    a.end();
    const c = await late;
    assert.deepEqual(log, ['a begins', 'a ends', 'b begins']);
    c.end();
    b.end();
    await c.done;
    assert.deepEqual(log.slice(2), ['b begins', 'b ends', 'late begins', 'late ends']);
  });

  test('never overlap under a key, and keep their order, whoever comes when', async () => {
    const plans = fc.array(
      fc.record({ key: fc.constantFrom('a', 'b'), pause: fc.nat(3), length: fc.nat(3), fails: fc.boolean() }),
      { maxLength: 12 },
    );
    await fc.assert(
      fc.asyncProperty(plans, async plan => {
        const mutex = new KeyedMutex();
        const running = new Set<string>();
        const begun: Record<string, number[]> = { a: [], b: [] };
        const done = [];
        for (const [i, { key, pause, length, fails }] of plan.entries()) {
          const work = async () => {
            assert.ok(!running.has(key));
            running.add(key);
            begun[key]?.push(i);
            for (let n = 0; n < length; n++) await Promise.resolve();
            running.delete(key);
            if (fails) throw new Error('failed');
            return i;
          };
          done.push(mutex.run(key, work).catch(() => i));
          for (let n = 0; n < pause; n++) await Promise.resolve();
        }
        assert.deepEqual(await Promise.all(done), [...plan.keys()]);
        for (const indices of Object.values(begun)) {
          assert.deepEqual(
            indices,
            indices.toSorted((x, y) => x - y),
          );
        }
      }),
    );
  });
});
