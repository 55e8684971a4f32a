import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Copied } from './pending.ts';
import type { SharedFile } from './shared-file.ts';
import { Writer } from './writer.ts';

const PIECE = Buffer.alloc(64 * 1024);
const MIB = 1024 ** 2;

/** Writers of a disk that writes nothing until it is told to, each with a first call to it under way. */
async function setUp(count: number) {
  const disk = Promise.withResolvers<void>();
  const file = { write: () => disk.promise } as unknown as SharedFile;
  const events = {
    failure: () => undefined,
    begins: () => {},
    isWriting: () => {},
    hasWritten: () => {},
    ends: () => {},
  };
  const writers = Array.from({ length: count }, () => new Writer(file, MIB, new Copied(), events));
  for (const writer of writers) writer.write(PIECE);
  await new Promise(setImmediate);
  const finish = async () => {
    disk.resolve();
    await Promise.all(writers.map(writer => writer.flushing));
  };
  return { writers, finish };
}

/** Hands in more until it asks for time; how many bytes that was. */
function fill(writer: Writer): number {
  for (let bytes = PIECE.length; ; bytes += PIECE.length) if (writer.write(PIECE) !== undefined) return bytes;
}

test('what waits for a slow disk is bounded, the less each the more writers there are', async () => {
  for (const [count, eachBytes] of [
    [1, 512 * 1024],
    [16, 512 * 1024],
    [32, 256 * 1024],
    [64, 128 * 1024],
    [500, 64 * 1024],
  ] as const) {
    const { writers, finish } = await setUp(count);
    for (const writer of writers) assert.equal(fill(writer), eachBytes + PIECE.length, `${count} writers`);
    await finish();
  }
});
