// What can be read, and the loops that read it, each of which ends also when a source is shorter than it should be.
import type { DigestHasher } from '../oci/digest.ts';

/** Bytes that can be read from any position. */
export interface Source {
  readonly sizeBytes: number;
  /** All bytes, verified and not to be changed, where they are in memory anyway. */
  readonly bytes?: Buffer;
  /** The most that one read gives, if that is little: a larger buffer is of no use. */
  readonly readLimitBytes?: number;
  /**
   * Fills the front of `into` with bytes from `position` on; resolves to how many, at least 1 unless
   * `position` is the end. It may wait for bytes that are still to come. `into` belongs to the source until then.
   */
  read(into: Uint8Array, position: number): Promise<number>;
  /**
   * Lends the file that holds the bytes from `position` on, which must not be the end, to a caller that can use them
   * without reading them. Undefined where there is none, or none for these bytes. It may wait, and throw, as a read may.
   */
  lend?(position: number): Promise<LentFile | undefined>;
  /** Must be called once, when no further read is wanted. */
  close(): void;
}

/** A source as far as it can be read while its size is not known. */
export type Reader = Pick<Source, 'read' | 'lend' | 'close'>;

/** An open file whose bytes up to `end` are those of a source, at the same positions. */
export interface LentFile {
  readonly fd: number;
  readonly end: number;
  /** Must be called once. Until then the descriptor is valid, whatever is closed or removed. */
  release(): void;
}

const HASH_READ_BYTES = 512 * 1024;

/** Fills `into` with bytes from `position` on; resolves to how many, fewer than fit when the source ends before. */
export async function readFully(source: Pick<Source, 'read'>, into: Uint8Array, position = 0): Promise<number> {
  let filled = 0;
  while (filled < into.byteLength) {
    const count = await source.read(into.subarray(filled), position + filled);
    if (count === 0) break;
    filled += count;
  }
  return filled;
}

/** Feeds the bytes up to `end`, or to the end of the source, to a hasher; resolves to how many there were. */
export async function hashInto(hasher: DigestHasher, source: Pick<Source, 'read'>, end = Infinity): Promise<number> {
  const buffer = Buffer.allocUnsafe(Math.min(HASH_READ_BYTES, end));
  let position = 0;
  while (position < end) {
    const left = end - position;
    const into = left < buffer.byteLength ? buffer.subarray(0, left) : buffer;
    const count = await source.read(into, position);
    if (count === 0) break;
    hasher.update(into.subarray(0, count));
    position += count;
  }
  return position;
}
