import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { StoreUnderBudget as Store } from '../../test/support/budget.ts';
import { StorageFailure } from '../oci/errors.ts';
import type { Budget } from './budget.ts';

describe('the disk budget', () => {
  test('gives what fits, up to the last byte, and evicts nothing for it', async () => {
    const store = new Store();
    store.add('a', 60);
    const budget = await store.open();
    await budget.reserve(40);
    assert.equal(store.names, 'a');
    assert.deepEqual(store.done, []);
  });

  test('counts what is reserved until it is released, and what is settled for good', async () => {
    const store = new Store();
    const budget = await store.open();
    const first = await budget.reserve(60);
    await assert.rejects(budget.reserve(41), StorageFailure);
    first.release();
    const second = await budget.reserve(60);
    store.add('kept', 60, true);
    second.settle(60);
    await assert.rejects(budget.reserve(41), StorageFailure);
    (await budget.reserve(40)).release();
  });

  test('gives nothing back for a reservation that it rejected', async () => {
    const budget = await new Store().open();
    for (let i = 0; i < 3; i++) await assert.rejects(budget.reserve(101), StorageFailure);
    const all = await budget.reserve(100);
    await assert.rejects(budget.reserve(1), { name: 'StorageFailure', message: /1 bytes .* 1 are lacking/ });
    all.release();
    await budget.reserve(100);
  });

  test('never reserves more than was announced, whichever writers ask at a time', async () => {
    const MIB = 1024 ** 2;
    const budget = await new Store().open({ maxSizeBytes: 20 * MIB });
    const reservation = await budget.reserve(10 * MIB);
    await Promise.all(Array.from({ length: 8 }, () => reservation.take(1.25 * MIB)));
    await assert.rejects(budget.reserve(10 * MIB + 1), StorageFailure);
    await budget.reserve(10 * MIB);
  });

  test('evicts what was pulled longest ago, and no more of it than it must', async () => {
    const store = new Store();
    for (const name of ['oldest', 'older', 'newer', 'newest']) store.add(name, 25);
    const budget = await store.open();
    await budget.reserve(30);
    assert.equal(store.names, 'newer newest');
    assert.deepEqual(store.done, ['forget oldest', 'forget older', 'remove oldest', 'remove older']);
  });

  test('evicts more than it asks for at once', async () => {
    const store = new Store();
    for (let i = 0; i < 250; i++) store.add(`${i}`, 1);
    const budget = await store.open({ maxSizeBytes: 250 });
    await budget.reserve(240);
    assert.equal(store.rows.length, 10);
    assert.equal(store.rows[0]?.name, '240');
  });

  test('is brought below a cap that has been lowered, at the next reservation', async () => {
    const store = new Store();
    for (const name of ['a', 'b', 'c']) store.add(name, 40);
    const budget = await store.open();
    await budget.reserve(0);
    assert.equal(store.names, 'b c');
  });

  test('never evicts what is pinned, and rejects when nothing else is left', async () => {
    const store = new Store();
    store.add('pinned', 50, true);
    store.add('other', 30);
    const budget = await store.open();
    await budget.reserve(40);
    assert.equal(store.names, 'pinned');
    await assert.rejects(budget.reserve(20), StorageFailure);
    assert.equal(store.names, 'pinned');
  });

  test('empties nothing for what can never fit under the cap', async () => {
    const store = new Store();
    store.add('a', 50);
    const budget = await store.open();
    await assert.rejects(budget.reserve(101), StorageFailure);
    assert.equal(store.names, 'a');
  });

  test('empties nothing for what can never fit on the disk', async () => {
    const store = new Store();
    store.add('a', 50);
    // Others use most of it: with all of ours gone there would be 60 bytes.
    store.diskBytes = 60;
    const budget = await store.open({ minFreeBytes: 10 });
    await assert.rejects(budget.reserve(51), StorageFailure);
    assert.equal(store.names, 'a');
    await budget.reserve(50);
    assert.equal(store.names, '');
  });

  test('leaves the wanted bytes of the disk free, by evicting or by rejecting', async () => {
    const store = new Store();
    store.add('old', 30);
    store.add('new', 30);
    store.diskBytes = 100;
    const budget = await store.open({ maxSizeBytes: Infinity, minFreeBytes: 20 });
    const first = await budget.reserve(20);
    assert.equal(store.names, 'old new');
    await budget.reserve(1);
    assert.equal(store.names, 'new');
    first.release();
    store.diskBytes = 40;
    await assert.rejects(budget.reserve(50), StorageFailure);
  });

  test('leaves a hundred files to be had, by evicting or by rejecting', async () => {
    const store = new Store();
    for (let i = 0; i < 300; i++) store.add(`${i}`, 1);
    store.diskFiles = 350;
    const budget = await store.open({ maxSizeBytes: Infinity });
    await budget.reserve(10);
    assert.deepEqual([store.rows.length, store.rows[0]?.name], [250, '50']);
    store.diskFiles = 50;
    await assert.rejects(budget.reserve(10), StorageFailure);
  });

  test('says that nothing can be stored when the disk is full of what others have, and evicts nothing for that', async () => {
    const store = new Store();
    store.add('a', 30);
    store.diskBytes = 60;
    const budget = await store.open({ minFreeBytes: 60 });
    await budget.check();
    store.diskBytes = 59;
    await assert.rejects(budget.check(), {
      name: 'StorageFailure',
      message:
        'the disk is full: 31 bytes more must be free on it, and only 30 are ours; free some, or lower cache.minFree',
    });
    assert.equal(store.names, 'a');
    store.diskBytes = Infinity;
    store.diskFiles = 50;
    await budget.check();
    store.rows.length = 0;
    await assert.rejects((await store.open()).check(), /no room for more files/);
  });

  test('has no cap when there is none', async () => {
    const store = new Store();
    store.add('a', 1e15);
    const budget = await store.open({ maxSizeBytes: Infinity });
    await budget.reserve(1e15);
    assert.equal(store.names, 'a');
  });

  test('gets the bytes of removed content back, once however often it is removed', async () => {
    const store = new Store();
    const digest = store.add('a', 60);
    store.add('pinned', 40, true);
    const budget = await store.open();
    await Promise.all([budget.remove(digest), budget.remove(digest)]);
    assert.equal(store.names, 'pinned');
    await assert.rejects(budget.reserve(61), StorageFailure);
    await budget.reserve(60);
  });

  test('removes the row before the bytes', async () => {
    const store = new Store();
    const digest = store.add('a', 60);
    await (await store.open()).remove(digest);
    assert.deepEqual(store.done, ['forget a', 'remove a']);
  });

  test('goes on after an eviction that failed', async () => {
    const store = new Store();
    store.add('a', 60);
    const budget = await store.open();
    store.failure = new Error('database is locked');
    await assert.rejects(budget.reserve(50), /database is locked/);
    assert.equal(store.names, 'a');
    await budget.reserve(50);
    assert.equal(store.names, '');
  });
});

describe('reservations that come at once', () => {
  test('share the room when there is room for all', async () => {
    const store = new Store();
    store.add('old', 50);
    store.add('new', 40);
    const budget = await store.open();
    await Promise.all([budget.reserve(20), budget.reserve(20), budget.reserve(20)]);
    assert.equal(store.names, 'new');
  });

  for (const bytes of [
    [80, 50],
    [50, 80],
  ] as const) {
    test(`get as many as fit when there is not: of ${bytes.join(' and ')} one has the room`, async () => {
      const store = new Store();
      store.add('old', 50);
      const budget = await store.open();
      const outcomes = await Promise.allSettled(bytes.map(count => budget.reserve(count)));
      assert.deepEqual(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    });
  }

  for (const bytes of [
    [1e9, 10],
    [10, 1e9],
  ] as const) {
    test(`do not suffer from one that can never fit, be it ${bytes[0] > bytes[1] ? 'first' : 'last'}`, async () => {
      const store = new Store();
      store.add('old', 95);
      const budget = await store.open();
      const outcomes = await Promise.allSettled(bytes.map(count => budget.reserve(count)));
      for (const [i, count] of bytes.entries()) {
        assert.equal(outcomes[i]?.status, count === 10 ? 'fulfilled' : 'rejected');
      }
    });
  }

  test('never hold more than the cap, whatever comes, goes and is settled', async () => {
    const steps = fc.array(
      fc.record({
        bytes: fc.integer({ min: 0, max: 60 }),
        end: fc.constantFrom('settle', 'release', 'wait'),
      }),
      { maxLength: 30 },
    );
    await fc.assert(
      fc.asyncProperty(steps, fc.boolean(), async (all, atOnce) => {
        const store = new Store();
        const budget = await store.open();
        let reservedBytes = 0;
        const run = async ({ bytes, end }: (typeof all)[number], i: number) => {
          const reservation = await budget.reserve(bytes).catch(error => {
            assert.ok(error instanceof StorageFailure);
          });
          if (reservation === undefined) return;
          reservedBytes += bytes;
          assert.ok(reservedBytes + store.usedBytes <= 100, `${reservedBytes} + ${store.usedBytes}`);
          if (end === 'wait') return;
          reservedBytes -= bytes;
          if (end === 'settle') store.add(`${i}`, bytes);
          if (end === 'settle') reservation.settle(bytes);
          else reservation.release();
        };
        if (atOnce) await Promise.all(all.map(run));
        else for (const [i, step] of all.entries()) await run(step, i);
        // And nothing is lost either: what is not in use can be had.
        await budget.reserve(100 - reservedBytes);
      }),
    );
  });
});

describe('a reservation that grows', () => {
  const MIB = 1024 * 1024;
  /** What is reserved at first where the size is not known, and at most at a time after that. */
  const FIRST = MIB;
  const LARGEST = 64 * MIB;

  /** How many bytes can still be had. */
  async function leftIn(budget: Budget, atMost: number): Promise<number> {
    let [fits, tooMany] = [0, atMost + 1];
    while (tooMany - fits > 1) {
      const middle = Math.floor((fits + tooMany) / 2);
      const reservation = await budget.reserve(middle).catch(() => undefined);
      reservation?.release();
      if (reservation === undefined) tooMany = middle;
      else fits = middle;
    }
    return fits;
  }

  test('makes no one wait for what was reserved, down to the last byte', async () => {
    const budget = await new Store().open();
    const reservation = await budget.reserve(60);
    assert.equal(reservation.take(0), undefined);
    for (let i = 0; i < 60; i++) assert.equal(reservation.take(1), undefined);
    assert.equal(reservation.take(0), undefined);
    assert.equal(await leftIn(budget, 100), 40);
  });

  test('reserves a first step for what is of unknown size', async () => {
    const budget = await new Store().open({ maxSizeBytes: 3 * FIRST });
    const reservation = await budget.reserve(undefined);
    assert.equal(await leftIn(budget, 3 * FIRST), 2 * FIRST);
    assert.equal(reservation.take(FIRST - 1), undefined);
    assert.equal(reservation.take(1), undefined);
    assert.equal(await leftIn(budget, 3 * FIRST), 2 * FIRST);
  });

  test('grows at the first byte beyond, by as much as it has, and then is needs no more for a while', async () => {
    const cap = 8 * LARGEST;
    const budget = await new Store().open({ maxSizeBytes: cap });
    const reservation = await budget.reserve(undefined);
    let reserved = FIRST;
    assert.equal(reservation.take(FIRST), undefined);
    for (const step of [1, 2, 4, 8, 16, 32, 64, 64, 64].map(count => count * MIB)) {
      const wait = reservation.take(1);
      assert.ok(wait instanceof Promise);
      assert.equal(await wait, undefined);
      reserved += step;
      assert.equal(await leftIn(budget, cap), cap - reserved);
      assert.equal(reservation.take(step - 1), undefined);
    }
  });

  test('grows by what is lacking where that is more than a step', async () => {
    const cap = 10 * LARGEST;
    const budget = await new Store().open({ maxSizeBytes: cap });
    const reservation = await budget.reserve(undefined);
    await (reservation.take(7 * LARGEST + 1) ?? assert.fail());
    assert.equal(await leftIn(budget, cap), 3 * LARGEST - 1);
    assert.equal(reservation.take(0), undefined);
    assert.equal(await leftIn(budget, cap), 3 * LARGEST - 1);
  });

  test('grows from nothing too', async () => {
    const budget = await new Store().open();
    const reservation = await budget.reserve(0);
    await (reservation.take(70) ?? assert.fail());
    await assert.rejects(reservation.take(31) ?? assert.fail(), StorageFailure);
    assert.equal(await leftIn(budget, 100), 30);
  });

  test('stays as it was when more is rejected', async () => {
    const budget = await new Store().open();
    const other = await budget.reserve(45);
    const reservation = await budget.reserve(50);
    assert.equal(reservation.take(50), undefined);
    await assert.rejects(reservation.take(6) ?? assert.fail(), {
      name: 'StorageFailure',
      message: '6 bytes were asked for, and 1 are lacking',
    });
    assert.equal(await leftIn(budget, 100), 5);
    other.release();
    assert.equal(await leftIn(budget, 100), 50);
    reservation.release();
    assert.equal(await leftIn(budget, 100), 100);
  });

  test('gets what was rejected before once there is room', async () => {
    const budget = await new Store().open();
    const other = await budget.reserve(45);
    const reservation = await budget.reserve(50);
    await assert.rejects(reservation.take(56) ?? assert.fail(), StorageFailure);
    other.release();
    await (reservation.take(0) ?? assert.fail('it still has less than it needs'));
    assert.equal(await leftIn(budget, 100), 44);
  });

  test('grows by no more than it must where there is no room for a step', async () => {
    const budget = await new Store().open();
    await budget.reserve(45);
    const reservation = await budget.reserve(50);
    await (reservation.take(52) ?? assert.fail());
    assert.equal(await leftIn(budget, 100), 3);
  });

  test('evicts what was pulled longest ago to get there', async () => {
    const store = new Store();
    for (const name of ['old', 'new']) store.add(name, 40);
    const budget = await store.open();
    const reservation = await budget.reserve(20);
    assert.equal(store.names, 'old new');
    await (reservation.take(21) ?? assert.fail());
    assert.equal(store.names, 'new');
  });

  for (const end of ['settle', 'release'] as const) {
    test(`gives all of it back at ${end}`, async () => {
      const store = new Store();
      const budget = await store.open();
      const reservation = await budget.reserve(20);
      await (reservation.take(50) ?? assert.fail());
      assert.equal(await leftIn(budget, 100), 50);
      if (end === 'settle') reservation.settle(5);
      else reservation.release();
      assert.equal(await leftIn(budget, 100), end === 'settle' ? 95 : 100);
    });

    test(`takes nothing more after ${end}, though it was asked for before`, async () => {
      const budget = await new Store().open();
      const reservation = await budget.reserve(20);
      const growing = reservation.take(50);
      if (end === 'settle') reservation.settle(0);
      else reservation.release();
      await growing;
      assert.equal(await leftIn(budget, 100), 100);
    });
  }

  test('is settled with nothing where the content was here before', async () => {
    const store = new Store();
    store.add('here', 60);
    const budget = await store.open();
    const reservation = await budget.reserve(40);
    reservation.settle(0);
    assert.equal(await leftIn(budget, 40), 40);
    assert.equal(store.names, 'here');
  });

  test('counts what is on the disk already once: as reserved, and no longer as free', async () => {
    const store = new Store();
    store.diskBytes = 100;
    const budget = await store.open({ maxSizeBytes: Infinity, minFreeBytes: 10 });
    let written = 0;
    await budget.reserve(60, () => written);
    assert.equal(await leftIn(budget, 100), 30);
    for (written of [20, 60]) {
      store.diskBytes = 100 - written;
      assert.equal(await leftIn(budget, 100), 30, `${written} are written`);
    }
    // More than was reserved is no credit to others.
    written = 70;
    store.diskBytes = 30;
    assert.equal(await leftIn(budget, 100), 20);
  });

  test('never holds more than the cap, whatever is taken at once, and loses nothing', async () => {
    const steps = fc.array(
      fc.record({
        takes: fc.array(fc.integer({ min: 0, max: 50 * MIB }), { maxLength: 5 }),
        end: fc.constantFrom('settle', 'release'),
      }),
      { maxLength: 5 },
    );
    await fc.assert(
      fc.asyncProperty(steps, async all => {
        const store = new Store();
        const budget = await store.open({ maxSizeBytes: 200 * MIB });
        let settledBytes = 0;
        let heldBytes = 0;
        await Promise.all(
          all.map(async ({ takes, end }) => {
            const reservation = await budget.reserve(undefined).catch(() => undefined);
            if (reservation === undefined) return;
            let taken = 0;
            for (const bytes of takes) {
              const isDenied = await (reservation.take(bytes) ?? Promise.resolve()).then(
                () => false,
                () => true,
              );
              if (isDenied) break;
              taken += bytes;
              heldBytes += bytes;
              assert.ok(heldBytes + settledBytes <= 200 * MIB, `${heldBytes} + ${settledBytes}`);
            }
            heldBytes -= taken;
            if (end === 'settle') {
              reservation.settle(taken);
              settledBytes += taken;
              store.add(`${settledBytes}`, taken, true);
            } else reservation.release();
          }),
        );
        await budget.reserve(200 * MIB - settledBytes);
      }),
      { numRuns: 50 },
    );
  });
});
