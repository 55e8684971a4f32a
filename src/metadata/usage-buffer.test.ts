import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { row } from '../../test/contracts/metadata/suite.ts';
import { turns } from '../../test/support/async.ts';
import { TestClock } from '../../test/support/clock.ts';
import type { Digest } from '../oci/digest.ts';
import { StorageFailure } from '../oci/errors.ts';
import type { MetadataStore } from './metadata.ts';
import { bufferUsage } from './usage-buffer.ts';

const HOUR_MS = 3_600_000;

type Pulls = (readonly [Digest, number])[];

/** A buffer over a store that only records, and what each call of touchAll wrote. */
function buffered() {
  const clock = new TestClock();
  const state = { failure: undefined as Error | undefined, isClosed: false, held: Promise.resolve() };
  const written: Pulls[] = [];
  const store = {
    touchAll: async (pulls: Iterable<readonly [Digest, number]>) => {
      written.push([...pulls]);
      await state.held;
      if (state.failure !== undefined) throw state.failure;
    },
    remove: async () => 0,
    leastRecentlyUsed: async () => {
      written.push([]);
      return [];
    },
    close: async () => {
      state.isClosed = true;
    },
  } as unknown as MetadataStore;
  return { metadata: bufferUsage(store, clock), clock, written, state };
}

const { digest } = row('blob');
const other = row('other').digest;
const many = Array.from({ length: 10_100 }, (_, i) => row(`${i}`).digest);

describe('pulls', () => {
  test('are written together some seconds later, and not before', async () => {
    const { metadata, clock, written } = buffered();
    metadata.touch(digest);
    const firstMs = clock.now();
    clock.advance(4_000);
    metadata.touch(other);
    metadata.touch(digest);
    assert.equal(written.length, 0);
    clock.advance(1_000);
    await turns();
    const expected = [
      [digest, firstMs + 4_000],
      [other, firstMs + 4_000],
    ];
    assert.deepEqual(written.splice(0), [expected]);
    // What was written is not written again, and nothing is written when nothing was pulled.
    clock.advance(5_000);
    clock.advance(5_000);
    assert.equal(written.length, 0);
    metadata.touch(digest);
    clock.advance(5_000);
    assert.deepEqual(written, [[[digest, firstMs + 15_000]]]);
  });

  test('are written as soon when somebody sets the clock back', async () => {
    const { metadata, clock, written } = buffered();
    clock.set(-HOUR_MS);
    metadata.touch(digest);
    const atMs = clock.now();
    clock.set(-HOUR_MS);
    clock.advance(5_000);
    assert.deepEqual(written, [[[digest, atMs]]]);
  });

  test('are written at once when very many have come together', async () => {
    const { metadata, written } = buffered();
    for (const each of many.slice(0, 9_999)) metadata.touch(each);
    metadata.touch(many[0] as Digest);
    assert.equal(written.length, 0);
    metadata.touch(digest);
    assert.equal(written[0]?.length, 1_000);
    await turns();
    metadata.touch(digest);
    assert.equal(written.length, 1);
  });

  test('are written before it is asked what goes first', async () => {
    const { metadata, clock, written } = buffered();
    metadata.touch(digest);
    await metadata.leastRecentlyUsed(10);
    assert.deepEqual(written, [[[digest, clock.now()]], []]);
  });

  test('are written in pieces that do not hold up the event loop, and none of them twice', async () => {
    const { metadata, written } = buffered();
    for (const each of many.slice(0, 2_500)) metadata.touch(each);
    await metadata.leastRecentlyUsed(10);
    assert.deepEqual(
      written.map(pulls => pulls.length),
      [1_000, 1_000, 500, 0],
    );
    assert.deepEqual(new Set(written.flat().map(([each]) => each)), new Set(many.slice(0, 2_500)));
  });

  test('of what is removed are not written', async () => {
    const { metadata, written } = buffered();
    metadata.touch(digest);
    await metadata.remove([digest]);
    await metadata.leastRecentlyUsed(10);
    assert.deepEqual(written, [[]]);
  });

  test('that come while others are written are written next, also of the same content', async () => {
    const { metadata, clock, written, state } = buffered();
    let goOn = () => {};
    state.held = new Promise(resolve => {
      goOn = resolve;
    });
    metadata.touch(digest);
    metadata.touch(other);
    clock.advance(5_000);
    metadata.touch(digest);
    goOn();
    await turns();
    clock.advance(5_000);
    assert.deepEqual(written[1], [[digest, clock.now() - 5_000]]);
  });

  test('that cannot be written are written later', async () => {
    const { metadata, clock, written, state } = buffered();
    state.failure = new StorageFailure('the disk is full');
    metadata.touch(digest);
    const atMs = clock.now();
    clock.advance(5_000);
    await turns();
    // Eviction goes on: what it chooses is a little worse.
    assert.deepEqual(await metadata.leastRecentlyUsed(10), []);
    state.failure = undefined;
    written.length = 0;
    clock.advance(5_000);
    assert.deepEqual(written, [[[digest, atMs]]]);
  });

  test('that cannot be written are not kept without end, and bother no one who pulls', async () => {
    const { metadata, written, state } = buffered();
    state.failure = new StorageFailure('the disk is full');
    for (const each of many) metadata.touch(each);
    assert.equal(written.length, 1, 'one attempt at a time');
    assert.equal(written[0]?.length, 1_000);
    await turns();
    state.failure = undefined;
    written.length = 0;
    metadata.touch(digest);
    await metadata.leastRecentlyUsed(10);
    assert.equal(written[0]?.length, 1);
  });

  test('are written on close, which then ends the timer and closes the store', async () => {
    const { metadata, clock, written, state } = buffered();
    metadata.touch(digest);
    await metadata.close();
    assert.equal(written.length, 1);
    assert.ok(state.isClosed);
    metadata.touch(digest);
    clock.advance(5_000);
    assert.equal(written.length, 1);
  });

  test('that cannot be written do not keep the store from being closed', async () => {
    for (const failure of [new StorageFailure('the disk is full'), new Error('a bug')]) {
      const { metadata, state } = buffered();
      state.failure = failure;
      metadata.touch(digest);
      await metadata.close().catch(error => assert.equal(error, failure));
      assert.ok(state.isClosed);
    }
  });
});
