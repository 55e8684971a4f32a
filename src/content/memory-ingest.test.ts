import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { turns } from '../../test/support/async.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { ALGORITHMS, digestOf } from '../oci/digest.ts';
import { StorageFailure } from './content.ts';
import type { Ingest } from './ingest.ts';
import { MemoryIngest } from './memory-ingest.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** What was stored before space ran out, as far as it is read; `perRead` bytes at a time at most. */
function storedOf(bytes: Buffer, perRead = 100_000) {
  const readers = { open: 0, opened: 0 };
  const stored: Pick<Ingest, 'writtenBytes' | 'reader'> = {
    writtenBytes: bytes.length,
    reader: () => {
      readers.open++;
      readers.opened++;
      return {
        read: async (into, position) =>
          bytes.copy(into, 0, position, Math.min(position + perRead, position + into.byteLength)),
        close: () => {
          readers.open--;
        },
      };
    },
  };
  return { stored: stored as Ingest, readers };
}

/** Reads on from `position` as far as is written, in pieces of `length`. */
async function readOn(ingest: MemoryIngest, position: number, length = 64 * KIB): Promise<Buffer> {
  const reader = ingest.reader();
  const pieces: Buffer[] = [];
  while (position < ingest.writtenBytes) {
    const into = Buffer.alloc(length);
    const count = await reader.read(into, position);
    assert.ok(count > 0);
    pieces.push(into.subarray(0, count));
    position += count;
  }
  reader.close();
  return Buffer.concat(pieces);
}

/** Whether a promise of the writer's has resolved by now. */
function watch(wait: Promise<void> | undefined) {
  const watched = { isOver: false };
  (wait ?? assert.fail('the writer is not asked to wait')).then(() => {
    watched.isOver = true;
  });
  return watched;
}

describe('an ingest in memory', () => {
  test('gives its bytes in order, whatever pieces they come and go in', async () => {
    const pieces = fc.array(fc.uint8Array({ minLength: 1, maxLength: 100 }), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(pieces, fc.integer({ min: 1, max: 150 }), fc.nat(3), async (chunks, length, every) => {
        const ingest = new MemoryIngest('sha256');
        const read: Buffer[] = [];
        let position = 0;
        for (const [i, chunk] of chunks.entries()) {
          assert.equal(ingest.write(chunk), undefined);
          if (i % (every + 1) !== 0) continue;
          read.push(await readOn(ingest, position, length));
          position = ingest.writtenBytes;
        }
        read.push(await readOn(ingest, position, length));
        const bytes = Buffer.concat(chunks);
        assert.deepEqual(Buffer.concat(read), bytes);
        assert.equal(ingest.writtenBytes, bytes.length);
        assert.equal(await ingest.finish(), digestOf(bytes));
      }),
    );
  });

  test('notifies of each write, when the bytes can be read', async () => {
    const ingest = new MemoryIngest('sha256');
    for (const [text, total] of [
      ['one', 3],
      ['two', 6],
      ['three', 11],
    ] as const) {
      const told = ingest.progress.wait(() => ingest.writtenBytes === total);
      ingest.write(Buffer.from(text));
      await told;
    }
    await ingest.flush();
    assert.equal((await readOn(ingest, 0)).toString(), 'onetwothree');
  });

  test('can be read once: not again, not further back, and not ahead', async () => {
    const ingest = new MemoryIngest('sha256');
    ingest.write(Buffer.from('bytes'));
    const reader = ingest.reader();
    const into = Buffer.alloc(2);
    const assertNot = (position: number) =>
      assert.rejects(reader.read(into, position), (error: unknown) => {
        assert.ok(error instanceof StorageFailure);
        assert.match(error.message, /cannot be sent again/);
        return true;
      });
    await assertNot(1);
    assert.equal(await reader.read(into, 0), 2);
    assert.equal(into.toString(), 'by');
    await assertNot(0);
    await assertNot(1);
    await assertNot(3);
    // None of that has moved it.
    assert.equal(await reader.read(into, 2), 2);
    assert.equal(into.toString(), 'te');
    reader.close();
    // Another reader goes on where the first was, and nowhere else.
    await assert.rejects(ingest.reader().read(into, 0), StorageFailure);
    assert.equal((await readOn(ingest, 4)).toString(), 's');
    await assertNot(5);
  });

  test('lets the writer go on while little waits, and asks it to wait when there is more', () => {
    const ingest = new MemoryIngest('sha256');
    for (let i = 0; i < 16; i++) assert.equal(ingest.write(Buffer.alloc(64 * KIB)), undefined);
    assert.ok(ingest.write(Buffer.alloc(1)) instanceof Promise);
  });

  test('lets the writer go on as soon as little waits again, and not before', async () => {
    const ingest = new MemoryIngest('sha256');
    ingest.write(Buffer.alloc(MIB));
    const writer = watch(ingest.write(Buffer.alloc(2 * KIB)));
    const reader = ingest.reader();
    for (let position = 0; position < 2 * KIB; position += KIB) {
      await turns();
      assert.equal(writer.isOver, false);
      assert.equal(await reader.read(Buffer.alloc(KIB), position), KIB);
    }
    await turns();
    assert.equal(writer.isOver, true);
    // And it can be asked again.
    const next = watch(ingest.write(Buffer.alloc(1)));
    await turns();
    assert.equal(next.isOver, false);
    await reader.read(Buffer.alloc(1), 2 * KIB);
    await turns();
    assert.equal(next.isOver, true);
  });

  test('asks the writer of one large chunk to wait too', async () => {
    const ingest = new MemoryIngest('sha256');
    const writer = watch(ingest.write(Buffer.alloc(3 * MIB)));
    const reader = ingest.reader();
    let position = 0;
    while (3 * MIB - position > MIB) {
      await turns();
      assert.equal(writer.isOver, false, `${position}`);
      position += await reader.read(Buffer.alloc(256 * KIB), position);
    }
    await turns();
    assert.equal(writer.isOver, true);
  });

  test('wakes the writer when it is aborted, and cannot be read then', async () => {
    const ingest = new MemoryIngest('sha256');
    const writer = watch(ingest.write(Buffer.alloc(2 * MIB)));
    const reader = ingest.reader();
    await turns();
    assert.equal(writer.isOver, false);
    await ingest.abort();
    await turns();
    assert.equal(writer.isOver, true);
    await assert.rejects(reader.read(Buffer.alloc(1), 0), StorageFailure);
    reader.close();
    await ingest.abort();
  });

  for (const algorithm of ALGORITHMS) {
    test(`is hashed as it comes by ${algorithm}, read or not, and by that alone`, async () => {
      const bytes = bytesOf(randomContent(300_000, 'hashed'));
      const ingest = new MemoryIngest(algorithm);
      ingest.write(bytes.subarray(0, 100_000));
      await readOn(ingest, 0);
      ingest.write(bytes.subarray(100_000));
      const digest = digestOf(bytes, algorithm);
      for (const asked of [undefined, algorithm, undefined]) assert.equal(await ingest.finish(asked), digest);
      const other = algorithm === 'sha256' ? 'sha512' : 'sha256';
      await assert.rejects(ingest.finish(other), (error: unknown) => {
        assert.ok(error instanceof StorageFailure);
        assert.match(error.message, new RegExp(`hashed by ${algorithm}.*digest-algorithm=${other}`));
        return true;
      });
      assert.equal(await ingest.finish(), digest);
    });
  }
});

describe('an ingest in memory after a part was stored', () => {
  for (const algorithm of ALGORITHMS) {
    test(`continues where that ends, and hashes both together by ${algorithm}`, async () => {
      const bytes = bytesOf(randomContent(700_000, 'both'));
      const { stored, readers } = storedOf(bytes.subarray(0, 650_000));
      const ingest = await MemoryIngest.after(algorithm, stored);
      assert.equal(ingest.writtenBytes, 650_000);
      assert.deepEqual(readers, { open: 0, opened: 1 });
      ingest.write(bytes.subarray(650_000));
      assert.equal(ingest.writtenBytes, 700_000);
      assert.equal(await ingest.finish(), digestOf(bytes, algorithm));
    });
  }

  test('is read across the seam, in whatever pieces', async () => {
    const bytes = bytesOf(randomContent(5000, 'seam'));
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: 5000 }),
        fc.integer({ min: 1, max: 6000 }),
        fc.integer({ min: 1, max: 6000 }),
        async (seam, length, perRead) => {
          const { stored, readers } = storedOf(bytes.subarray(0, seam), perRead);
          const ingest = await MemoryIngest.after('sha256', stored);
          ingest.write(bytes.subarray(seam));
          assert.deepEqual(await readOn(ingest, 0, length), bytes);
          assert.equal(readers.open, 0);
          assert.equal(await ingest.finish(), digestOf(bytes));
        },
      ),
    );
  });

  test('can read again what was stored, and nothing that was not', async () => {
    const { stored, readers } = storedOf(Buffer.from('stored'));
    const ingest = await MemoryIngest.after('sha256', stored);
    ingest.write(Buffer.from(' passed'));
    assert.equal((await readOn(ingest, 0)).toString(), 'stored passed');
    const reader = ingest.reader();
    const into = Buffer.alloc(100);
    for (const position of [0, 3, 0]) {
      const count = await reader.read(into, position);
      assert.equal(into.toString('utf8', 0, count), 'stored'.slice(position));
    }
    await assert.rejects(reader.read(into, 6), StorageFailure);
    reader.close();
    assert.equal(readers.open, 0);
  });

  test('counts only what waits in memory: what is stored makes no writer wait', async () => {
    const { stored } = storedOf(Buffer.alloc(3 * MIB), 3 * MIB);
    const ingest = await MemoryIngest.after('sha256', stored);
    assert.equal(ingest.write(Buffer.alloc(MIB)), undefined);
    const writer = watch(ingest.write(Buffer.alloc(1)));
    const reader = ingest.reader();
    await reader.read(Buffer.alloc(MIB), 0);
    await turns();
    assert.equal(writer.isOver, false, 'nothing of what waits in memory was read');
    await reader.read(Buffer.alloc(1), 3 * MIB);
    await turns();
    assert.equal(writer.isOver, true);
  });

  test('starts with nothing when nothing was stored', async () => {
    const { stored } = storedOf(Buffer.alloc(0));
    for (const ingest of [new MemoryIngest('sha256'), await MemoryIngest.after('sha256', stored)]) {
      assert.equal(ingest.writtenBytes, 0);
      ingest.write(Buffer.from('all'));
      assert.equal((await readOn(ingest, 0)).toString(), 'all');
      assert.equal(await ingest.finish(), digestOf(Buffer.from('all')));
    }
  });

  test('fails with what could not be read back, and leaves no reader', async () => {
    const { stored, readers } = storedOf(Buffer.from('stored'));
    const reader = stored.reader.bind(stored);
    const failure = new Error('EIO');
    stored.reader = () => ({ ...reader(), read: () => Promise.reject(failure) });
    await assert.rejects(MemoryIngest.after('sha256', stored), failure);
    assert.deepEqual(readers, { open: 0, opened: 1 });
  });

  test('fails when there is less than was recorded', async () => {
    const { stored } = storedOf(Buffer.from('stored'));
    Object.defineProperty(stored, 'writtenBytes', { value: 7 });
    await assert.rejects(MemoryIngest.after('sha256', stored), /cannot be read back/);
  });
});
