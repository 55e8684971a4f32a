import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Places } from './places.ts';

const never = new AbortController().signal;
const turn = () => new Promise(resolve => setImmediate(resolve));

/** Takes a place, notes under `name` when it has it, and gives it back when told. */
function takerOf(places: Places, log: string[], repository: string, name: string, signal = never) {
  let giveBack = () => {};
  const taken = places.take(repository, signal).then(give => {
    giveBack = give;
    log.push(name);
  });
  taken.catch(() => log.push(`${name} gone`));
  return { taken, giveBack: () => giveBack() };
}

describe('Places', () => {
  test('gives out as many as there are, and another when one comes back', async () => {
    const places = new Places(2);
    const log: string[] = [];
    const [first, second] = [takerOf(places, log, 'a', '1'), takerOf(places, log, 'a', '2')];
    takerOf(places, log, 'a', '3');
    takerOf(places, log, 'a', '4');
    await turn();
    assert.deepEqual(log, ['1', '2']);
    second.giveBack();
    await turn();
    assert.deepEqual(log, ['1', '2', '3']);
    first.giveBack();
    await turn();
    assert.deepEqual(log, ['1', '2', '3', '4']);
  });

  test('serves repositories in turn, and each in the order of coming', async () => {
    const places = new Places(1);
    const log: string[] = [];
    const takers = ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1'].map(name =>
      takerOf(places, log, name.slice(0, 1), name),
    );
    for (let served = 1; served <= takers.length; served++) {
      await turn();
      assert.equal(log.length, served);
      takers.find((_, i) => ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1'][i] === log.at(-1))?.giveBack();
    }
    assert.deepEqual(log, ['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']);
  });

  test('refuses who comes with a signal that is aborted, and takes no place for it', async () => {
    const places = new Places(1);
    const reason = new Error('left');
    await assert.rejects(places.take('a', AbortSignal.abort(reason)), reason);
    await places.take('a', never);
  });

  test('lets go of who is aborted while waiting, and of nobody else', async () => {
    const places = new Places(1);
    const log: string[] = [];
    const holder = takerOf(places, log, 'a', 'holder');
    const leaving = new AbortController();
    const reason = new Error('left');
    const others = [
      takerOf(places, log, 'a', 'before'),
      takerOf(places, log, 'a', 'leaver', leaving.signal),
      takerOf(places, log, 'b', 'alone', leaving.signal),
      takerOf(places, log, 'a', 'after'),
    ] as const;
    await turn();
    leaving.abort(reason);
    await assert.rejects(others[1].taken, reason);
    await assert.rejects(others[2].taken, reason);
    for (const { giveBack } of [holder, others[0], others[3]]) {
      giveBack();
      await turn();
    }
    assert.deepEqual(log, ['holder', 'leaver gone', 'alone gone', 'before', 'after']);
    // None was lost: the only place is free again.
    await places.take('c', never);
  });

  test('is not disturbed by the abort of somebody who has a place', async () => {
    const places = new Places(1);
    const log: string[] = [];
    const leaving = new AbortController();
    const holder = takerOf(places, log, 'a', 'holder');
    const served = takerOf(places, log, 'a', 'served', leaving.signal);
    const waiter = takerOf(places, log, 'a', 'waiter');
    await turn();
    holder.giveBack();
    await turn();
    leaving.abort();
    served.giveBack();
    await turn();
    assert.deepEqual(log, ['holder', 'served', 'waiter']);
    waiter.giveBack();
    await places.take('b', never);
  });

  test('never gives out more than there are, forgets nobody, and passes over no repository twice', async () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ take: fc.constantFrom('a', 'b', 'c', 'd') }) },
      { weight: 2, arbitrary: fc.record({ giveBack: fc.nat() }) },
      { weight: 1, arbitrary: fc.record({ abort: fc.nat() }) },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.array(step, { maxLength: 60 }),
        async (count, steps) => {
          const places = new Places(count);
          const held: (() => void)[] = [];
          const waiting = new Map<number, { repository: string; leaving: AbortController }>();
          /** How often others were served while somebody of this repository waited. */
          const passedOver = new Map<string, number>();
          let next = 0;
          const take = (repository: string) => {
            const id = next++;
            const leaving = new AbortController();
            waiting.set(id, { repository, leaving });
            places.take(repository, leaving.signal).then(
              giveBack => {
                waiting.delete(id);
                held.push(giveBack);
                assert.ok(held.length <= count);
                passedOver.set(repository, 0);
                for (const other of new Set([...waiting.values()].map(waiter => waiter.repository))) {
                  if (other !== repository) passedOver.set(other, (passedOver.get(other) ?? 0) + 1);
                  // Every other repository comes once at most before its turn.
                  assert.ok((passedOver.get(other) ?? 0) <= 4);
                }
                for (const known of passedOver.keys()) {
                  if (![...waiting.values()].some(waiter => waiter.repository === known))
                    passedOver.delete(known);
                }
              },
              () => waiting.delete(id),
            );
          };
          for (const move of steps) {
            if ('take' in move) take(move.take);
            else if ('giveBack' in move) held.splice(move.giveBack % Math.max(1, held.length), 1)[0]?.();
            else [...waiting.values()][move.abort % Math.max(1, waiting.size)]?.leaving.abort();
            await turn();
            assert.ok(waiting.size === 0 || held.length === count, 'nobody waits while a place is free');
          }
          while (held.length > 0) {
            held.shift()?.();
            await turn();
          }
          assert.equal(waiting.size, 0);
        },
      ),
      { numRuns: 200 },
    );
  });
});
