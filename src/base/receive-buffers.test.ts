import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReceiveBuffer, releaseBuffer } from './receive-buffers.ts';

const KIB = 1024;

/** Reads so many bytes of one value, as a connection does; unless told as many as there is room for. */
function read(inlet: ReceiveBuffer, value: number, count = inlet.room().byteLength): Buffer {
  const room = inlet.room();
  assert(room.byteLength >= count, `room for ${room.byteLength}, not for ${count}`);
  room.fill(value, 0, count);
  return inlet.take(count);
}

/** An inlet whose last read has shown that there is more to come, and what the next goes into. */
function openInlet() {
  const inlet = new ReceiveBuffer();
  releaseBuffer(read(inlet, 0));
  const { buffer, byteLength } = inlet.room();
  assert.equal(byteLength, 64 * KIB);
  return { inlet, buffer };
}

function isAll(bytes: Uint8Array, value: number): boolean {
  return bytes.length > 0 && bytes.every(byte => byte === value);
}

/** Whether a connection that begins gets that memory, of as many as there may be in store. */
function isUsedAgain(buffer: ArrayBufferLike): boolean {
  return Array.from({ length: 100 }, () => openInlet().buffer).includes(buffer);
}

test('little at a time is copied out of one place for all connections', () => {
  const [one, other] = [new ReceiveBuffer(), new ReceiveBuffer()];
  assert.equal(one.room().buffer, other.room().buffer);
  const first = read(one, 1, 100);
  const second = read(other, 2, 16 * KIB - 1);
  assert.equal(one.room().buffer, other.room().buffer);
  assert(isAll(first, 1) && isAll(second, 2));
  assert.equal(first.buffer.byteLength, 100);
});

test('much at a time stays where it was read, each read larger than the one before', () => {
  const { inlet, buffer } = openInlet();
  const chunks = [1, 2, 3].map(value => read(inlet, value));
  assert.deepEqual(
    chunks.map(chunk => chunk.byteLength / KIB),
    [64, 256, 192],
  );
  assert(chunks.every((chunk, i) => chunk.buffer === buffer && isAll(chunk, i + 1)));
  // That was all of it.
  assert.notEqual(inlet.room().buffer, buffer);
  assert.equal(inlet.room().byteLength, 512 * KIB);
  chunks.forEach(releaseBuffer);
  assert(isUsedAgain(buffer));
});

test('what comes after a pause is copied, since nobody may give all of it back; then the memory is gone on with', () => {
  const { inlet, buffer } = openInlet();
  const before = read(inlet, 1, 20 * KIB);
  const head = read(inlet, 2);
  assert.notEqual(head.buffer, buffer);
  const after = read(inlet, 3);
  assert.equal(after.buffer, buffer);
  assert(isAll(before, 1) && isAll(head, 2) && isAll(after, 3));
  read(inlet, 4, 100);
  inlet.close();
  assert(!isUsedAgain(buffer));
});

test('memory is not used again while anybody needs a byte of it', () => {
  const { inlet, buffer } = openInlet();
  const [kept, rest] = [read(inlet, 1), read(inlet, 2)];
  inlet.close();
  releaseBuffer(rest);
  releaseBuffer(kept.subarray(1));
  assert(!isUsedAgain(buffer));
  assert(isAll(kept, 1) && isAll(rest, 2));
  releaseBuffer(kept.subarray(0, 1));
  assert(isUsedAgain(buffer));
});

test('memory is not used again while the connection reads into it', () => {
  const { inlet, buffer } = openInlet();
  releaseBuffer(read(inlet, 1, 20 * KIB));
  assert(!isUsedAgain(buffer));
  // The connection has little to say now.
  releaseBuffer(read(inlet, 2, 1));
  assert(isUsedAgain(buffer));
});

test('a connection that ends lets go of its memory, once', () => {
  const { inlet, buffer } = openInlet();
  inlet.close();
  inlet.close();
  const next = Array.from({ length: 100 }, () => openInlet().buffer);
  assert.equal(next.filter(other => other === buffer).length, 1);
});

test('what has a buffer to itself goes back to the system, and a part of one is left alone', () => {
  const whole = Buffer.allocUnsafeSlow(10);
  releaseBuffer(whole);
  assert.equal(whole.byteLength, 0);
  const part = Buffer.alloc(10, 1).subarray(1);
  releaseBuffer(part);
  assert(isAll(part, 1));
});
