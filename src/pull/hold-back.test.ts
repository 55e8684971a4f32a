// What every user of a hold-back relies on; what it means to followers of an ingest is in incoming.test.ts.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { Condition } from '../base/condition.ts';
import type { Reader } from '../content/content.ts';
import { HOLD_BACK_BYTES, HoldBack } from './hold-back.ts';

const SIZE = HOLD_BACK_BYTES + 1000;

function setUp() {
  const progress = new Condition();
  const state = { available: 0, released: 0, closed: 0 };
  const holdBack = new HoldBack(progress, () => state.available);
  const grow = (to: number) => {
    state.available = to;
    progress.notify();
  };
  const reader: Reader = {
    read: async into => into.byteLength,
    lend: async () => ({ fd: 1, end: state.available, release: () => state.released++ }),
    close: () => state.closed++,
  };
  return { holdBack, grow, reader, state };
}

async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let isOver = false;
  const end = () => {
    isOver = true;
  };
  promise.then(end, end);
  await turns();
  return !isOver;
}

describe('a hold-back', () => {
  test('lets nothing go while the size is not known, then all but the last 64 KiB, then all', async () => {
    const { holdBack, grow } = setUp();
    const first = holdBack.until(0);
    grow(SIZE);
    assert.ok(await isPending(first));
    assert.equal(holdBack.sizeBytes, 0);
    holdBack.expect(SIZE);
    assert.equal(await first, 1000);
    const last = holdBack.until(1000);
    assert.ok(await isPending(last));
    holdBack.verified();
    assert.equal(await last, SIZE);
    assert.equal(await holdBack.until(SIZE), SIZE);
    assert.equal(holdBack.sizeBytes, SIZE);
  });

  test('waits for the byte that is asked for', async () => {
    const { holdBack, grow } = setUp();
    holdBack.expect(SIZE);
    const waiting = holdBack.until(500);
    grow(500);
    assert.ok(await isPending(waiting));
    grow(501);
    assert.equal(await waiting, 501);
  });

  test('throws what it failed with, whatever is asked for, unless all was verified before', async () => {
    const { holdBack, grow } = setUp();
    const failure = new Error('wrong bytes');
    holdBack.expect(SIZE);
    grow(SIZE);
    const waiting = holdBack.until(SIZE - 1);
    holdBack.fail(failure);
    await assert.rejects(waiting, failure);
    for (const position of [0, 1000, SIZE]) await assert.rejects(holdBack.until(position), failure);
    const other = setUp();
    other.grow(SIZE);
    other.holdBack.verified();
    other.holdBack.fail(failure);
    assert.equal(await other.holdBack.until(0), SIZE);
  });
});

describe('a source that is held back', () => {
  test('reads no further than may be read, and is at its end when that is verified', async () => {
    const { holdBack, grow, reader, state } = setUp();
    holdBack.expect(SIZE);
    grow(SIZE);
    const source = holdBack.clip(reader);
    assert.equal(source.sizeBytes, SIZE);
    assert.equal(await source.read(Buffer.alloc(SIZE), 0), 1000);
    assert.equal(await source.read(Buffer.alloc(10), 0), 10);
    assert.equal(await source.read(Buffer.alloc(SIZE), 400), 600);
    const atEnd = source.read(Buffer.alloc(10), SIZE);
    assert.ok(await isPending(atEnd));
    holdBack.verified();
    assert.equal(await atEnd, 0);
    assert.equal(await source.read(Buffer.alloc(SIZE), 1000), HOLD_BACK_BYTES);
    source.close();
    assert.equal(state.closed, 1);
  });

  test('lends no more than may be read, and what is lent is released as ever', async () => {
    const { holdBack, grow, reader, state } = setUp();
    holdBack.expect(SIZE);
    grow(SIZE);
    const source = holdBack.clip(reader);
    const early = await source.lend?.(0);
    assert.equal(early?.end, 1000);
    early.release();
    assert.equal(state.released, 1);
    const late = source.lend?.(1000) ?? assert.fail();
    assert.ok(await isPending(late));
    holdBack.verified();
    assert.equal((await late)?.end, SIZE);
    assert.equal(await holdBack.clip({ read: reader.read, close: reader.close }).lend?.(0), undefined);
  });

  test('throws what it failed with', async () => {
    const { holdBack, grow, reader } = setUp();
    holdBack.expect(SIZE);
    grow(SIZE);
    const source = holdBack.clip(reader);
    const failure = new Error('wrong bytes');
    holdBack.fail(failure);
    await assert.rejects(source.read(Buffer.alloc(1), 0), failure);
    await assert.rejects(source.lend?.(0) ?? assert.fail(), failure);
  });
});
