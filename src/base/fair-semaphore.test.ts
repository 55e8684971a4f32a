import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { turns } from '../../test/support/async.ts';
import { FairSemaphore } from './fair-semaphore.ts';

const never = new AbortController().signal;

/** Takes a place, notes under `name` when it has it, and gives it back when told. */
function takerOf(semaphore: FairSemaphore, log: string[], repository: string, name: string, signal = never) {
  let release = () => {};
  const taken = semaphore.acquire(repository, signal).then(give => {
    release = give;
    log.push(name);
  });
  taken.catch(() => log.push(`${name} gone`));
  return { taken, release: () => release() };
}

describe('FairSemaphore', () => {
  test('gives out as many as there are, and another when one comes back', async () => {
    const semaphore = new FairSemaphore({ permits: 2 });
    const log: string[] = [];
    const [first, second] = [takerOf(semaphore, log, 'a', '1'), takerOf(semaphore, log, 'a', '2')];
    takerOf(semaphore, log, 'a', '3');
    takerOf(semaphore, log, 'a', '4');
    await turns();
    assert.deepEqual(log, ['1', '2']);
    second.release();
    await turns();
    assert.deepEqual(log, ['1', '2', '3']);
    first.release();
    await turns();
    assert.deepEqual(log, ['1', '2', '3', '4']);
  });

  test('serves repositories in turn, and each in the order of coming', async () => {
    const semaphore = new FairSemaphore({ permits: 1 });
    const log: string[] = [];
    const takers = ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1'].map(name =>
      takerOf(semaphore, log, name.slice(0, 1), name),
    );
    for (let served = 1; served <= takers.length; served++) {
      await turns();
      assert.equal(log.length, served);
      takers.find((_, i) => ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1'][i] === log.at(-1))?.release();
    }
    assert.deepEqual(log, ['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']);
  });

  test('refuses who comes with a signal that is aborted, and takes no place for it', async () => {
    const semaphore = new FairSemaphore({ permits: 1 });
    const reason = new Error('left');
    await assert.rejects(semaphore.acquire('a', AbortSignal.abort(reason)), reason);
    await semaphore.acquire('a', never);
  });

  test('lets go of who is aborted while waiting, and of nobody else', async () => {
    const semaphore = new FairSemaphore({ permits: 1 });
    const log: string[] = [];
    const holder = takerOf(semaphore, log, 'a', 'holder');
    const leaving = new AbortController();
    const reason = new Error('left');
    const others = [
      takerOf(semaphore, log, 'a', 'before'),
      takerOf(semaphore, log, 'a', 'leaver', leaving.signal),
      takerOf(semaphore, log, 'b', 'alone', leaving.signal),
      takerOf(semaphore, log, 'a', 'after'),
    ] as const;
    await turns();
    leaving.abort(reason);
    await assert.rejects(others[1].taken, reason);
    await assert.rejects(others[2].taken, reason);
    for (const { release } of [holder, others[0], others[3]]) {
      release();
      await turns();
    }
    assert.deepEqual(log, ['holder', 'leaver gone', 'alone gone', 'before', 'after']);
    // None was lost: the only place is free again.
    await semaphore.acquire('c', never);
  });

  test('is not disturbed by the abort of somebody who has a place', async () => {
    const semaphore = new FairSemaphore({ permits: 1 });
    const log: string[] = [];
    const leaving = new AbortController();
    const holder = takerOf(semaphore, log, 'a', 'holder');
    const served = takerOf(semaphore, log, 'a', 'served', leaving.signal);
    const waiter = takerOf(semaphore, log, 'a', 'waiter');
    await turns();
    holder.release();
    await turns();
    leaving.abort();
    served.release();
    await turns();
    assert.deepEqual(log, ['holder', 'served', 'waiter']);
    waiter.release();
    await semaphore.acquire('b', never);
  });

  test('serves groups in turn, and within each its keys', async () => {
    const semaphore = new FairSemaphore({ permits: 1 });
    const log: string[] = [];
    const release = await semaphore.acquire('busy');
    const releases: (() => void)[] = [release];
    for (const [group, key] of ['xa', 'xa', 'xa', 'xb', 'ya', 'ya', 'zc'].map(name => name.split(''))) {
      void semaphore.acquire(key ?? '', never, group).then(give => {
        log.push(`${group}${key}`);
        releases.push(give);
      });
    }
    assert.equal(semaphore.isContended, true);
    while (releases.length > 0) {
      releases.shift()?.();
      await turns();
    }
    assert.deepEqual(log, ['xa', 'ya', 'zc', 'xb', 'ya', 'xa', 'xa']);
    assert.equal(semaphore.isContended, false);
  });

  test('has a reserve for keys that hold nothing, and for no other', async () => {
    const semaphore = new FairSemaphore({ permits: 2, reserve: 1 });
    const [first] = [semaphore.tryAcquire('a'), semaphore.tryAcquire('a')];
    assert.equal(semaphore.tryAcquire('a'), undefined);
    const b = semaphore.tryAcquire('b');
    assert.ok(b, 'b waits for no one');
    assert.equal(semaphore.tryAcquire('c'), undefined, 'the reserve is bounded');
    const log: string[] = [];
    for (const key of ['a', 'b', 'c']) void semaphore.acquire(key).then(() => log.push(key));
    b();
    await turns();
    // Of those that wait c alone may have it, and b, which holds none any more, but came before.
    assert.deepEqual(log, ['b']);
    first?.();
    await turns();
    assert.deepEqual(log, ['b', 'c']);
  });

  test('takes a permit back once, however often it is released', async () => {
    const semaphore = new FairSemaphore({ permits: 1 });
    const release = await semaphore.acquire('a');
    release();
    release();
    assert.ok(semaphore.tryAcquire('a'));
    assert.equal(semaphore.tryAcquire('a'), undefined);
  });

  test('never gives out more than there are, forgets nobody, and passes over no repository twice', async () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ take: fc.constantFrom('a', 'b', 'c', 'd') }) },
      { weight: 2, arbitrary: fc.record({ release: fc.nat() }) },
      { weight: 1, arbitrary: fc.record({ abort: fc.nat() }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.array(step, { maxLength: 60 }), async (count, steps) => {
        const semaphore = new FairSemaphore({ permits: count });
        const held: (() => void)[] = [];
        const waiting = new Map<number, { repository: string; leaving: AbortController }>();
        /** How often others were served while somebody of this repository waited. */
        const passedOver = new Map<string, number>();
        let next = 0;
        const take = (repository: string) => {
          const id = next++;
          const leaving = new AbortController();
          waiting.set(id, { repository, leaving });
          semaphore.acquire(repository, leaving.signal).then(
            release => {
              waiting.delete(id);
              held.push(release);
              assert.ok(held.length <= count);
              passedOver.set(repository, 0);
              for (const other of new Set([...waiting.values()].map(waiter => waiter.repository))) {
                if (other !== repository) passedOver.set(other, (passedOver.get(other) ?? 0) + 1);
                // Every other repository comes once at most before its turn.
                assert.ok((passedOver.get(other) ?? 0) <= 4);
              }
              for (const known of passedOver.keys()) {
                if (![...waiting.values()].some(waiter => waiter.repository === known)) passedOver.delete(known);
              }
            },
            () => waiting.delete(id),
          );
        };
        for (const move of steps) {
          if ('take' in move) take(move.take);
          else if ('release' in move) held.splice(move.release % Math.max(1, held.length), 1)[0]?.();
          else [...waiting.values()][move.abort % Math.max(1, waiting.size)]?.leaving.abort();
          await turns();
          assert.ok(waiting.size === 0 || held.length === count, 'nobody waits while a place is free');
        }
        while (held.length > 0) {
          held.shift()?.();
          await turns();
        }
        assert.equal(waiting.size, 0);
      }),
      { numRuns: 200 },
    );
  });
});
