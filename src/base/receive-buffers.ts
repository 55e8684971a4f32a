// Memory for bytes that come in: slabs, into which a connection reads as much as there is at a time, and which are used
// again. A pull is bound by the CPU, and that is a fifth less of it than 64 KiB at a time in memory that is new.

/** What one read may bring. */
const SLAB_BYTES = 512 * 1024;
/** A read that fills its room may be followed by one that is so much larger: the first bytes are not to wait for many. */
const GROWTH = 4;
/**
 * A read that brings less, though there was room, is the last for now: the next may begin with the head of an answer,
 * which nobody gives back, so it does not go into a slab.
 */
const LAST_BYTES = 256 * 1024;
/** A slab with less room than this is not read into any more. */
const ROOM_BYTES = 64 * 1024;
/** So many are kept when nobody uses them. */
const KEPT = 16;

interface Slab {
  readonly bytes: Buffer<ArrayBuffer>;
  /** How many bytes were read into it, and how many of these nobody needs any more. */
  taken: number;
  givenBack: number;
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
  room(): Buffer {
    if (this.#slab === undefined || this.#nextBytes === 0) return shared;
    const { bytes, taken } = this.#slab;
    return bytes.subarray(taken, taken + this.#nextBytes);
  }

  /** The `count` bytes that a read has brought into the room: they are the caller's, and may be given back. */
  take(count: number): Buffer {
    const room = this.room();
    const bytes = this.#bytes(room, count);
    const isLast = count < Math.min(room.byteLength, LAST_BYTES);
    const isLittle = count < shared.byteLength;
    if (isLittle || SLAB_BYTES - (this.#slab?.taken ?? 0) < ROOM_BYTES) this.close();
    if (!isLast) this.#slab ??= takeSlab();
    this.#nextBytes = isLast ? 0 : count * GROWTH;
    return bytes;
  }

  /** Nothing more is read. */
  close(): void {
    if (this.#slab === undefined) return;
    this.#slab.isClosed = true;
    useAgain(this.#slab);
    this.#slab = undefined;
  }

  #bytes(room: Buffer, count: number): Buffer {
    const bytes = room.subarray(0, count);
    if (this.#slab !== undefined && room !== shared) {
      this.#slab.taken += count;
      return bytes;
    }
    const copy = Buffer.allocUnsafeSlow(count);
    copy.set(bytes);
    return copy;
  }
}

/**
 * To be called once for bytes that nobody is going to look at again. Their memory is used for others, when it is a
 * slab, or else goes back to the system, when they are all that their buffer holds: V8 looks after buffers outside of
 * its heap when there are some 32 MB of them. Bytes that are not given back, or not all of a slab, are left to V8.
 */
export function releaseBuffer({ buffer, byteLength }: Uint8Array): void {
  const slab = slabs.get(buffer);
  if (slab !== undefined) {
    slab.givenBack += byteLength;
    useAgain(slab);
  } else if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) {
    buffer.transfer(0);
  }
}

function takeSlab(): Slab {
  const slab = kept.pop() ?? newSlab();
  slab.taken = 0;
  slab.givenBack = 0;
  return slab;
}

function newSlab(): Slab {
  const bytes = Buffer.allocUnsafeSlow(SLAB_BYTES);
  const slab = { bytes, taken: 0, givenBack: 0, isClosed: false };
  slabs.set(bytes.buffer, slab);
  return slab;
}

/** As soon as nothing more is read into it, and nobody needs any of it. */
function useAgain(slab: Slab): void {
  if (!slab.isClosed || slab.givenBack < slab.taken) return;
  slab.isClosed = false;
  if (kept.length < KEPT) kept.push(slab);
  else slab.bytes.buffer.transfer(0);
}
