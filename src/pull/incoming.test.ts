// Incoming over an ingest in memory, whose readers refuse what the contract forbids: to be read where
// nothing is written yet, or after they were closed.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { stateOf, turns } from '../../test/support/async.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { Condition } from '../base/condition.ts';
import type { Reader } from '../content/content.ts';
import type { Ingest } from '../content/ingest.ts';
import { HOLD_BACK_BYTES, Incoming } from './hold-back.ts';

class MemoryIngest implements Ingest {
  endOf = (position: number) => Math.max(position, this.writtenBytes);
  writtenBytes = 0;
  openReaders = 0;
  readonly progress = new Condition();
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The next so many of the bytes have come in. */
  grow(count: number): void {
    this.writtenBytes = Math.min(this.#bytes.length, this.writtenBytes + count);
    this.progress.notify();
  }

  reader(): Reader {
    let isOpen = true;
    this.openReaders++;
    return {
      read: async (into, position) => {
        assert.ok(isOpen, 'read after close');
        assert.ok(position >= 0 && position < this.writtenBytes, `read at ${position} of ${this.writtenBytes}`);
        const part = this.#bytes.subarray(position, Math.min(position + into.length, this.writtenBytes));
        into.set(part);
        return part.length;
      },
      close: () => {
        assert.ok(isOpen, 'closed twice');
        isOpen = false;
        this.openReaders--;
      },
    };
  }

  write = () => assert.fail();
  flush = () => assert.fail();
  finish = () => assert.fail();
  rest = () => assert.fail();
  suspend = () => assert.fail();
  abort = () => assert.fail();
}

function setUp(sizeBytes: number) {
  const bytes = bytesOf(randomContent(sizeBytes));
  const ingest = new MemoryIngest(bytes);
  return { bytes, ingest, incoming: new Incoming(ingest) };
}

const LARGE = 3 * HOLD_BACK_BYTES;

describe('a follower', () => {
  test('begins when there is a byte that it may have, and knows the size then', async () => {
    const { incoming, ingest } = setUp(LARGE);
    const following = incoming.follow();
    assert.equal(await stateOf(following), 'pending');
    incoming.expect(LARGE);
    assert.equal(await stateOf(following), 'pending');
    ingest.grow(1);
    assert.equal((await following).sizeBytes, LARGE);
  });

  test('reads what is there, waits where it ends, and goes on as more comes', async () => {
    const { incoming, ingest, bytes } = setUp(LARGE);
    incoming.expect(LARGE);
    ingest.grow(1000);
    const source = await incoming.follow();
    const into = Buffer.alloc(5000);
    assert.equal(await source.read(into, 0), 1000);
    assert.deepEqual(into.subarray(0, 1000), bytes.subarray(0, 1000));
    const waiting = source.read(into, 1000);
    assert.equal(await stateOf(waiting), 'pending');
    ingest.grow(500);
    assert.equal(await waiting, 500);
    assert.deepEqual(into.subarray(0, 500), bytes.subarray(1000, 1500));
    source.close();
    assert.equal(ingest.openReaders, 0);
  });

  test('of a range waits for its own bytes only, and not for those before it to be read', async () => {
    const { incoming, ingest, bytes } = setUp(LARGE);
    incoming.expect(LARGE);
    ingest.grow(1);
    const source = await incoming.follow();
    const into = Buffer.alloc(10);
    const waiting = source.read(into, 50_000);
    ingest.grow(49_999);
    assert.equal(await stateOf(waiting), 'pending');
    ingest.grow(10);
    assert.equal(await waiting, 10);
    assert.deepEqual(into, bytes.subarray(50_000, 50_010));
    assert.equal(await source.read(into, 0), 10);
    assert.deepEqual(into, bytes.subarray(0, 10));
  });

  for (const sizeBytes of [1, 100, HOLD_BACK_BYTES]) {
    test(`of ${sizeBytes} bytes, no more than are held back, does not begin before they are verified`, async () => {
      const { incoming, ingest, bytes } = setUp(sizeBytes);
      incoming.expect(sizeBytes);
      const following = incoming.follow();
      ingest.grow(sizeBytes);
      assert.equal(await stateOf(following), 'pending');
      incoming.verified();
      const source = await following;
      const into = Buffer.alloc(sizeBytes);
      assert.equal(await source.read(into, 0), sizeBytes);
      assert.deepEqual(into, bytes);
    });
  }

  test('of nothing begins when that is verified, and is at the end', async () => {
    const { incoming } = setUp(0);
    incoming.expect(0);
    const following = incoming.follow();
    assert.equal(await stateOf(following), 'pending');
    incoming.verified();
    const source = await following;
    assert.equal(source.sizeBytes, 0);
    assert.equal(await source.read(Buffer.alloc(1), 0), 0);
  });

  test('of an unknown size gets no byte before it is verified, and then the size', async () => {
    const { incoming, ingest } = setUp(LARGE);
    const following = incoming.follow();
    ingest.grow(LARGE);
    assert.equal(await stateOf(following), 'pending');
    incoming.verified();
    assert.equal((await following).sizeBytes, LARGE);
  });

  test('is given the held back bytes once they are verified, and then the end', async () => {
    const { incoming, ingest } = setUp(LARGE);
    incoming.expect(LARGE);
    ingest.grow(LARGE);
    const source = await incoming.follow();
    const into = Buffer.alloc(LARGE);
    assert.equal(await source.read(into, 0), LARGE - HOLD_BACK_BYTES);
    const [rest, end] = [source.read(into, LARGE - HOLD_BACK_BYTES), source.read(into, LARGE)];
    assert.deepEqual([await stateOf(rest), await stateOf(end)], ['pending', 'pending']);
    incoming.verified();
    assert.equal(await rest, HOLD_BACK_BYTES);
    assert.equal(await end, 0);
  });

  test('may come when all is verified', async () => {
    const { incoming, ingest, bytes } = setUp(LARGE);
    incoming.expect(LARGE);
    ingest.grow(LARGE);
    incoming.verified();
    const source = await incoming.follow();
    const into = Buffer.alloc(LARGE);
    assert.equal(await source.read(into, 0), LARGE);
    assert.deepEqual(into, bytes);
  });

  test('can leave, and the others do not notice', async () => {
    const { incoming, ingest } = setUp(LARGE);
    incoming.expect(LARGE);
    ingest.grow(10);
    const [leaver, stayer] = [await incoming.follow(), await incoming.follow()];
    const waiting = stayer.read(Buffer.alloc(10), 10);
    leaver.close();
    ingest.grow(5);
    assert.equal(await waiting, 5);
    assert.equal(ingest.openReaders, 1);
  });
});

describe('a failure', () => {
  const failure = new Error('wrong bytes');

  test('goes to all that follow, wait or come later, at once', async () => {
    const { incoming, ingest } = setUp(LARGE);
    const early = incoming.follow();
    incoming.expect(LARGE);
    ingest.grow(1000);
    const source = await early;
    const into = Buffer.alloc(10);
    const waits = [1000, 100_000, LARGE - 1, LARGE].map(position => source.read(into, position));
    incoming.fail(failure);
    for (const wait of waits) await assert.rejects(wait, failure);
    // Also for bytes that are there.
    await assert.rejects(source.read(into, 0), failure);
    await assert.rejects(incoming.follow(), failure);
    source.close();
    assert.equal(ingest.openReaders, 0);
  });

  test('goes to a follower that waits for the first byte', async () => {
    const { incoming } = setUp(LARGE);
    const following = incoming.follow();
    incoming.fail(failure);
    await assert.rejects(following, failure);
  });

  test('after all is verified takes nothing away', async () => {
    const { incoming, ingest } = setUp(LARGE);
    incoming.expect(LARGE);
    ingest.grow(LARGE);
    incoming.verified();
    incoming.fail(failure);
    const source = await incoming.follow();
    assert.equal(await source.read(Buffer.alloc(LARGE), 0), LARGE);
  });
});

test('whatever comes when: nothing of the final stretch is read before it is verified, then all is, or every follower fails', async () => {
  const followers = fc.array(
    fc.record({
      after: fc.nat({ max: 12 }),
      start: fc.double({ min: 0, max: 1, noNaN: true }),
      bufferBytes: fc.integer({ min: 1000, max: 100_000 }),
    }),
    { minLength: 1, maxLength: 4 },
  );
  const growths = fc.array(fc.integer({ min: 0, max: 60_000 }), { maxLength: 10 });
  const sizes = fc.oneof(fc.nat({ max: 200_000 }), fc.constantFrom(...[-1, 0, 1].map(n => HOLD_BACK_BYTES + n)));
  await fc.assert(
    fc.asyncProperty(
      sizes,
      growths,
      followers,
      fc.boolean(),
      fc.boolean(),
      async (sizeBytes, steps, clients, told, good) => {
        const { incoming, ingest, bytes } = setUp(sizeBytes);
        const failure = new Error('wrong bytes');
        let isVerified = false;
        const follow = async (start: number, bufferBytes: number): Promise<Buffer> => {
          const source = await incoming.follow();
          const pieces: Buffer[] = [];
          try {
            for (let position = start; ; ) {
              const into = Buffer.alloc(bufferBytes);
              const count = await source.read(into, position);
              assert.ok(isVerified || (count > 0 && position + count <= sizeBytes - HOLD_BACK_BYTES));
              if (count === 0) return Buffer.concat(pieces);
              pieces.push(into.subarray(0, count));
              position += count;
            }
          } finally {
            source.close();
          }
        };
        const running: { start: number; result: Promise<Buffer> }[] = [];
        const join = (step: number) => {
          for (const { after, start, bufferBytes } of clients) {
            if (after !== step) continue;
            const from = Math.floor(start * sizeBytes);
            const result = follow(from, bufferBytes);
            result.catch(() => {});
            running.push({ start: from, result });
          }
        };
        if (told) incoming.expect(sizeBytes);
        for (const [step, growth] of [...steps, sizeBytes].entries()) {
          join(step);
          ingest.grow(growth);
          await turns();
        }
        if (good) {
          isVerified = true;
          incoming.verified();
        } else incoming.fail(failure);
        for (let step = steps.length + 1; step <= 12; step++) join(step);
        for (const { start, result } of running) {
          if (good) assert.ok((await result).equals(bytes.subarray(start)));
          else await assert.rejects(result, failure);
        }
        assert.equal(ingest.openReaders, 0);
      },
    ),
    { numRuns: 150 },
  );
});
