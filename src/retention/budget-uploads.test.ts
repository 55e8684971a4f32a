// Room for what is not there yet: uploads that are not finished, and content of which only the size was announced.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StoreUnderBudget as Store } from '../../test/support/budget.ts';
import { StorageFailure } from '../oci/errors.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** Of which uploads have a tenth. */
const CAP = { maxSizeBytes: 10 * MIB, pushesOff: false };

/** Ten items of a MiB, which is all that the cap allows. */
function full(pinned = 0): Store {
  const store = new Store();
  for (let i = 0; i < 10; i++) store.add(`${i}`, MIB, i < pinned);
  return store;
}

describe('uploads that are not finished', () => {
  test('have a tenth beside the cap, all together, and evict nothing', async () => {
    const store = full();
    const budget = await store.open(CAP);
    const uploads = Array.from({ length: 24 }, () => budget.reserveUpload(() => 0));
    const taken = await Promise.allSettled(uploads.map(async upload => upload.take(64 * KIB)));
    assert.equal(taken.filter(({ status }) => status === 'fulfilled').length, 16);
    for (const each of taken) if (each.status === 'rejected') assert.ok(each.reason instanceof StorageFailure);
    for (const upload of uploads) upload.release();
    const endless = budget.reserveUpload(() => 0);
    let bytes = 0;
    await assert.rejects(async () => {
      for (; bytes < 100 * MIB; bytes += 16 * KIB) await endless.take(16 * KIB);
    }, StorageFailure);
    assert.equal(bytes, MIB);
    assert.equal(store.names, '0 1 2 3 4 5 6 7 8 9');
  });

  test('leave all of the cap to content: what is pulled finds its room', async () => {
    const store = full();
    const budget = await store.open(CAP);
    await budget.reserveUpload(() => 0).take(MIB);
    await budget.reserve(MIB);
    assert.equal(store.names, '1 2 3 4 5 6 7 8 9');
  });

  test('that hardly move take little', async () => {
    const budget = await full().open(CAP);
    for (let i = 0; i < 16; i++) await budget.reserveUpload(() => 0).take(1);
    await assert.rejects(async () => budget.reserveUpload(() => 0).take(64 * KIB), StorageFailure);
  });

  test('take what is free beyond their share, and no more', async () => {
    const store = new Store();
    store.add('a', 7 * MIB);
    const budget = await store.open(CAP);
    const upload = budget.reserveUpload(() => 0);
    await upload.take(4 * MIB);
    await assert.rejects(async () => upload.take(1), StorageFailure);
    assert.equal(store.names, 'a');
  });

  test('evict as other content does once they are finished', async () => {
    const store = full();
    const budget = await store.open(CAP);
    const upload = budget.reserveUpload(() => 700 * KIB);
    await upload.take(1);
    await upload.complete();
    assert.equal(store.names, '1 2 3 4 5 6 7 8 9');
    store.add('pushed', 700 * KIB);
    upload.settle(700 * KIB);
    await budget.reserve(324 * KIB);
    assert.equal(store.names, '1 2 3 4 5 6 7 8 9 pushed');
  });

  test('are not kept where what is pinned leaves no room for them', async () => {
    const store = full(10);
    const budget = await store.open(CAP);
    const upload = budget.reserveUpload(() => KIB);
    await assert.rejects(upload.complete(), StorageFailure);
    upload.settle(0);
    assert.equal(store.names, '0 1 2 3 4 5 6 7 8 9');
  });

  test('of an earlier process count as they are, and are not asked about', async () => {
    const store = full();
    const budget = await store.open(CAP);
    const left = budget.reserveUpload(() => MIB);
    await assert.rejects(async () => budget.reserveUpload(() => 0).take(1), StorageFailure);
    left.release();
    await budget.reserveUpload(() => 0).take(MIB);
  });

  test('find their share of the disk free where that is what limits, and content makes no use of it', async () => {
    const store = new Store();
    for (let i = 0; i < 9; i++) store.add(`${i}`, MIB);
    store.diskBytes = 10 * MIB;
    const budget = await store.open({ ...CAP, maxSizeBytes: Infinity });
    await budget.reserve(1);
    assert.equal(store.names, '1 2 3 4 5 6 7 8');
    const upload = budget.reserveUpload(() => 0);
    await upload.take(MIB);
    assert.equal(store.names, '1 2 3 4 5 6 7 8');
  });

  test('have nothing kept free for them where there are no pushes', async () => {
    const store = new Store();
    for (let i = 0; i < 9; i++) store.add(`${i}`, MIB);
    store.diskBytes = 10 * MIB;
    const budget = await store.open({ maxSizeBytes: Infinity, pushesOff: true });
    await budget.reserve(MIB);
    assert.equal(store.names, '0 1 2 3 4 5 6 7 8');
  });
});

describe('a size that is announced', () => {
  test('makes room only as bytes come', async () => {
    const store = full();
    const budget = await store.open(CAP);
    const lying = await budget.reserve(9 * MIB);
    assert.equal(store.names, '1 2 3 4 5 6 7 8 9');
    assert.equal(lying.take(MIB), undefined);
    await lying.take(1);
    assert.equal(store.names, '2 3 4 5 6 7 8 9');
    lying.release();
    // Nor does it keep what is free from others.
    const free = await new Store().open(CAP);
    for (let i = 0; i < 2; i++) await free.reserve(9 * MIB);
  });

  test('is not exceeded by a step', async () => {
    const budget = await new Store().open(CAP);
    const first = await budget.reserve(2.5 * MIB);
    await first.take(MIB + 1);
    await first.take(MIB);
    await budget.reserve(7.5 * MIB).then(other => other.take(7.5 * MIB));
    assert.equal(first.take(0.5 * MIB - 1), undefined);
  });

  for (const [what, pinned, announced] of [
    ['under the cap', 0, 10 * MIB + 1],
    ['beside what is pinned', 4, 6 * MIB + 1],
  ] as const) {
    test(`that can never fit ${what} is rejected before anything goes`, async () => {
      const store = full(pinned);
      const budget = await store.open(CAP);
      await assert.rejects(budget.reserve(announced), {
        name: 'StorageFailure',
        message: `${announced} bytes were asked for, and 1 are lacking`,
      });
      assert.equal(store.names, '0 1 2 3 4 5 6 7 8 9');
      await budget.reserve(announced - 1);
    });
  }
});

test('many small items are removed many at a time', async () => {
  const store = new Store();
  for (let i = 0; i < 1_000; i++) store.add(`${i}`, KIB);
  const budget = await store.open({ ...CAP, maxSizeBytes: 1_000 * KIB });
  await budget.reserve(950 * KIB);
  assert.equal(store.rows.length, 50);
  assert.ok(store.transactions < 30, `${store.transactions}`);
});
