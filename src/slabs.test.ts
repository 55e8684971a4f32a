import assert from 'node:assert/strict';
import { test } from 'node:test';
import { giveBack, Inlet } from './slabs.ts';

const KIB = 1024;

/** Reads so many bytes of one value, as a connection does. */
function read(inlet: Inlet, count: number, value: number): Buffer {
  const room = inlet.room();
  assert(room.byteLength >= count, `room for ${room.byteLength}, not for ${count}`);
  room.fill(value, 0, count);
  return inlet.take(count);
}

/** An inlet whose last read has shown that there is more to come. */
function largeInlet(): Inlet {
  const inlet = new Inlet();
  giveBack(read(inlet, 16 * KIB, 0));
  return inlet;
}

function isAll(bytes: Uint8Array, value: number): boolean {
  return bytes.length > 0 && bytes.every(byte => byte === value);
}

test('little at a time is copied out of one place for all connections', () => {
  const [one, other] = [new Inlet(), new Inlet()];
  assert.equal(one.room().buffer, other.room().buffer);
  const first = read(one, 100, 1);
  const second = read(other, 16 * KIB - 1, 2);
  assert.equal(one.room().buffer, other.room().buffer);
  assert(isAll(first, 1) && isAll(second, 2));
  assert.equal(first.buffer.byteLength, 100);
});

test('much at a time stays where it was read, and memory whose bytes were all given back is used again', () => {
  const inlet = largeInlet();
  const { buffer } = inlet.room();
  const chunks = [read(inlet, 300 * KIB, 1), read(inlet, 180 * KIB, 2)];
  assert(chunks.every(chunk => chunk.buffer === buffer));
  // There was little room left.
  assert.notEqual(inlet.room().buffer, buffer);
  chunks.forEach(giveBack);
  assert.equal(largeInlet().room().buffer, buffer);
});

test('memory is not used again while anybody needs a byte of it', () => {
  const inlet = largeInlet();
  const { buffer } = inlet.room();
  const kept = read(inlet, 20 * KIB, 1);
  const rest = read(inlet, 480 * KIB, 2);
  giveBack(rest.subarray(1));
  giveBack(kept.subarray(0, 19 * KIB));
  for (let i = 0; i < 100; i++) assert.notEqual(largeInlet().room().buffer, buffer);
  assert(isAll(kept, 1) && isAll(rest, 2));
});

test('memory is not used again while the connection reads into it', () => {
  const inlet = largeInlet();
  const { buffer } = inlet.room();
  giveBack(read(inlet, 20 * KIB, 1));
  for (let i = 0; i < 100; i++) assert.notEqual(largeInlet().room().buffer, buffer);
  // A small read ends it, and the end of the connection would.
  giveBack(read(inlet, 1, 2));
  assert.equal(largeInlet().room().buffer, buffer);
});

test('a connection that ends lets go of its memory, once', () => {
  const inlet = largeInlet();
  const { buffer } = inlet.room();
  inlet.close();
  inlet.close();
  assert.equal(largeInlet().room().buffer, buffer);
  assert.notEqual(largeInlet().room().buffer, buffer);
});

test('what has a buffer to itself goes back to the system, and a part of one is left alone', () => {
  const whole = Buffer.allocUnsafeSlow(10);
  giveBack(whole);
  assert.equal(whole.byteLength, 0);
  const part = Buffer.alloc(10, 1).subarray(1);
  giveBack(part);
  assert(isAll(part, 1));
});
