// Buffers that connections read into, and that are reused once everything read into them was released. A pull is bound
// by the CPU, and reading 64 KiB at a time into new memory costs it a fifth more.
//
// A buffer is never read into again while a byte of it is in use. Bytes that are never released, or not all of a
// buffer, are left to V8, with the buffer.

const BUFFER_BYTES = 512 * 1024;
/** A read that fills its space may be followed by one that is so much larger: the first bytes do not wait for many. */
const GROWTH = 4;
/**
 * A read that brings less, though there was space, is the last for now: the next may begin with the head of a response,
 * which is never released, so it is not read into a buffer that is reused.
 */
const LAST_BYTES = 256 * 1024;
/** A buffer with less space than this is not read into any more. */
const SPACE_BYTES = 64 * 1024;
/** How many unused buffers are kept. */
const KEPT = 16;

interface Slab {
  readonly bytes: Buffer<ArrayBuffer>;
  /** How many bytes were read into it, and how many of these were released. */
  readBytes: number;
  releasedBytes: number;
  /** Whether nothing more is read into it. */
  isClosed: boolean;
}

const slabs = new WeakMap<ArrayBufferLike, Slab>();
const kept: Slab[] = [];
/** Where all connections read until there is much to read; what that brings is copied at once. */
const shared = Buffer.allocUnsafeSlow(16 * 1024);

/** The memory that one connection reads into. */
export class ReceiveBuffer {
  #slab: Slab | undefined;
  /** How much the next read may bring, into the slab; 0 when it goes into what is shared. */
  #nextBytes = 0;

  /** Where the next read goes. What it brings must be taken before anything else is read. */
  space(): Buffer {
    if (this.#slab === undefined || this.#nextBytes === 0) return shared;
    const { bytes, readBytes } = this.#slab;
    return bytes.subarray(readBytes, readBytes + this.#nextBytes);
  }

  /** The `count` bytes that a read has brought into the space: they belong to the caller, who may release them. */
  take(count: number): Buffer {
    const space = this.space();
    const bytes = this.#bytes(space, count);
    const isLast = count < Math.min(space.byteLength, LAST_BYTES);
    const isLittle = count < shared.byteLength;
    if (isLittle || BUFFER_BYTES - (this.#slab?.readBytes ?? 0) < SPACE_BYTES) this.close();
    if (!isLast) this.#slab ??= takeSlab();
    this.#nextBytes = isLast ? 0 : count * GROWTH;
    return bytes;
  }

  /** Nothing more is read. */
  close(): void {
    if (this.#slab === undefined) return;
    this.#slab.isClosed = true;
    reuse(this.#slab);
    this.#slab = undefined;
  }

  #bytes(space: Buffer, count: number): Buffer {
    const bytes = space.subarray(0, count);
    if (this.#slab !== undefined && space !== shared) {
      this.#slab.readBytes += count;
      return bytes;
    }
    const copy = Buffer.allocUnsafeSlow(count);
    copy.set(bytes);
    return copy;
  }
}

/**
 * To be called once for bytes that are not going to be looked at again. Their memory is reused when it is a slab's; it
 * goes back to the system when they are all that their ArrayBuffer holds, since V8 collects such memory only when some
 * 32 MB of it have come together.
 */
export function releaseBuffer({ buffer, byteLength }: Uint8Array): void {
  const slab = slabs.get(buffer);
  if (slab !== undefined) {
    slab.releasedBytes += byteLength;
    reuse(slab);
  } else if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) {
    buffer.transfer(0);
  }
}

function takeSlab(): Slab {
  const slab = kept.pop() ?? newSlab();
  slab.readBytes = 0;
  slab.releasedBytes = 0;
  return slab;
}

function newSlab(): Slab {
  const bytes = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  const slab = { bytes, readBytes: 0, releasedBytes: 0, isClosed: false };
  slabs.set(bytes.buffer, slab);
  return slab;
}

/** Keeps a slab for others, as soon as nothing more is read into it and all of it was released. */
function reuse(slab: Slab): void {
  if (!slab.isClosed || slab.releasedBytes < slab.readBytes) return;
  slab.isClosed = false;
  if (kept.length < KEPT) kept.push(slab);
  else slab.bytes.buffer.transfer(0);
}
