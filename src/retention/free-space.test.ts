import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StoreUnderBudget as Store } from '../../test/support/budget.ts';
import { TestClock } from '../../test/support/clock.ts';
import { StorageFailure } from '../oci/errors.ts';
import { FreeSpace } from './free-space.ts';

function setUp(freeBytes = 100) {
  const disk = { bytes: freeBytes, files: 1_000, asked: 0 };
  const clock = new TestClock();
  const content = {
    free: async () => {
      disk.asked++;
      return { bytes: disk.bytes, files: disk.files };
    },
  };
  return { disk, clock, space: new FreeSpace(content, clock) };
}

test('the disk is asked early, once for all who come at the same time, and the answer serves for two seconds', async () => {
  const { disk, clock, space } = setUp();
  assert.equal(await space.atLeast(), undefined);
  for (let i = 0; i < 3; i++) space.askEarly();
  assert.deepEqual(await space.atLeast(), { bytes: 100, files: 1_000 });
  assert.equal(disk.asked, 1);
  clock.advance(2_000);
  assert.equal(disk.asked, 1);
  assert.deepEqual(await space.atLeast(), { bytes: 100, files: 1_000 });
  clock.advance(1);
  assert.equal(await space.atLeast(), undefined);
  space.askEarly();
  clock.advance(101);
  space.askEarly();
  assert.equal(disk.asked, 3);
});

test('what is taken after the disk was asked is not free', async () => {
  const { space } = setUp();
  space.take(50);
  space.askEarly();
  space.take(30);
  assert.deepEqual(await space.atLeast(), { bytes: 70, files: 1_000 });
});

test('a disk that cannot be asked early fails those who need the answer alone', async () => {
  const failing = { free: () => Promise.reject(new Error('no disk')) };
  const space = new FreeSpace(failing, new TestClock());
  space.askEarly();
  await assert.rejects(space.atLeast(), { message: 'no disk' });
});

test('a budget that is prepared waits for no disk, and asks again before it evicts or denies anything', async () => {
  const store = new Store();
  store.diskBytes = 60;
  const budget = await store.open({ maxSizeBytes: Infinity });
  budget.prepare();
  const asked = store.asked;
  const first = await budget.reserve(40);
  assert.equal(store.asked, asked);
  // Others have left the disk to us meanwhile.
  store.diskBytes = 120;
  first.take(40);
  const second = await budget.reserve(50);
  assert.ok(store.asked > asked);
  second.release();
  await assert.rejects(budget.reserve(81), StorageFailure);
});
