import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReceiveBuffer, releaseBuffer } from './receive-buffers.ts';

const KIB = 1024;

/** Reads so many bytes of one value, as a connection does; by default as many as there is space for. */
function read(receiver: ReceiveBuffer, value: number, count = receiver.space().byteLength): Buffer {
  const space = receiver.space();
  assert(space.byteLength >= count, `space for ${space.byteLength}, not for ${count}`);
  space.fill(value, 0, count);
  return receiver.take(count);
}

/** A receiver whose last read has shown that there is more to come, and what the next goes into. */
function openInlet() {
  const receiver = new ReceiveBuffer();
  releaseBuffer(read(receiver, 0));
  const { buffer, byteLength } = receiver.space();
  assert.equal(byteLength, 64 * KIB);
  return { receiver, buffer };
}

function isAll(bytes: Uint8Array, value: number): boolean {
  return bytes.length > 0 && bytes.every(byte => byte === value);
}

/** Whether a new connection gets that memory, of as many buffers as may be kept. */
function isReused(buffer: ArrayBufferLike): boolean {
  return Array.from({ length: 100 }, () => openInlet().buffer).includes(buffer);
}

test('little at a time is copied out of one place for all connections', () => {
  const [one, other] = [new ReceiveBuffer(), new ReceiveBuffer()];
  assert.equal(one.space().buffer, other.space().buffer);
  const first = read(one, 1, 100);
  const second = read(other, 2, 16 * KIB - 1);
  assert.equal(one.space().buffer, other.space().buffer);
  assert(isAll(first, 1) && isAll(second, 2));
  assert.equal(first.buffer.byteLength, 100);
});

test('much at a time stays where it was read, each read larger than the one before', () => {
  const { receiver, buffer } = openInlet();
  const chunks = [1, 2, 3].map(value => read(receiver, value));
  assert.deepEqual(
    chunks.map(chunk => chunk.byteLength / KIB),
    [64, 256, 192],
  );
  assert(chunks.every((chunk, i) => chunk.buffer === buffer && isAll(chunk, i + 1)));
  // That was all of it.
  assert.notEqual(receiver.space().buffer, buffer);
  assert.equal(receiver.space().byteLength, 512 * KIB);
  chunks.forEach(releaseBuffer);
  assert(isReused(buffer));
});

test('what comes after a pause is copied, since it may never be released; then the memory is read into further', () => {
  const { receiver, buffer } = openInlet();
  const before = read(receiver, 1, 20 * KIB);
  const head = read(receiver, 2);
  assert.notEqual(head.buffer, buffer);
  const after = read(receiver, 3);
  assert.equal(after.buffer, buffer);
  assert(isAll(before, 1) && isAll(head, 2) && isAll(after, 3));
  read(receiver, 4, 100);
  receiver.close();
  assert(!isReused(buffer));
});

test('memory is not reused while a byte of it is in use', () => {
  const { receiver, buffer } = openInlet();
  const [kept, rest] = [read(receiver, 1), read(receiver, 2)];
  receiver.close();
  releaseBuffer(rest);
  releaseBuffer(kept.subarray(1));
  assert(!isReused(buffer));
  assert(isAll(kept, 1) && isAll(rest, 2));
  releaseBuffer(kept.subarray(0, 1));
  assert(isReused(buffer));
});

test('memory is not reused while the connection reads into it', () => {
  const { receiver, buffer } = openInlet();
  releaseBuffer(read(receiver, 1, 20 * KIB));
  assert(!isReused(buffer));
  // The connection has little to say now.
  releaseBuffer(read(receiver, 2, 1));
  assert(isReused(buffer));
});

test('a connection that ends releases its memory, once', () => {
  const { receiver, buffer } = openInlet();
  receiver.close();
  receiver.close();
  const next = Array.from({ length: 100 }, () => openInlet().buffer);
  assert.equal(next.filter(other => other === buffer).length, 1);
});

test('memory that is all of an ArrayBuffer goes back to the system, and a part of one is left alone', () => {
  const whole = Buffer.allocUnsafeSlow(10);
  releaseBuffer(whole);
  assert.equal(whole.byteLength, 0);
  const part = Buffer.alloc(10, 1).subarray(1);
  releaseBuffer(part);
  assert(isAll(part, 1));
});
