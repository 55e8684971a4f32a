// The memory of bodies that are read whole, of all upstreams together. Nothing waits for it: a body that does not fit is
// given up. Small ones, as manifests and tokens are, have a part of their own that large ones cannot use up.
import { ByteLimit } from '../../base/byte-limit.ts';
import { RegistryError } from '../../oci/errors.ts';

const SMALL_BYTES = 256 * 1024;
const ALL_SMALL_BYTES = 16 * 1024 * 1024;
const ALL_LARGE_BYTES = 48 * 1024 * 1024;
/** A body is read within moments, unless its sender stalls. */
const RETRY_AFTER_MS = 1_000;

export class ResponseMemory {
  readonly #small: ByteLimit;
  readonly #large: ByteLimit;

  constructor(smallBytes = ALL_SMALL_BYTES, largeBytes = ALL_LARGE_BYTES) {
    this.#small = new ByteLimit(smallBytes);
    this.#large = new ByteLimit(largeBytes);
  }

  /** For one body, or for all that is kept of several. To be disposed of when nothing of it is held any more. */
  room(): Room {
    return new Room(this.#small, this.#large);
  }
}

export class Room implements Disposable {
  readonly #small: ByteLimit;
  readonly #large: ByteLimit;
  #bytes = 0;
  #isLarge = false;

  constructor(small: ByteLimit, large: ByteLimit) {
    this.#small = small;
    this.#large = large;
  }

  /** Throws UNAVAILABLE when so many more bytes cannot be held now. */
  take(bytes: number): void {
    const total = this.#bytes + bytes;
    if (!this.#isLarge && (total > SMALL_BYTES || !this.#small.take(bytes))) {
      this.#takeLarge(total);
      this.#small.release(this.#bytes);
      this.#isLarge = true;
    } else if (this.#isLarge) {
      this.#takeLarge(bytes);
    }
    this.#bytes = total;
  }

  [Symbol.dispose](): void {
    (this.#isLarge ? this.#large : this.#small).release(this.#bytes);
    this.#bytes = 0;
  }

  #takeLarge(bytes: number): void {
    if (this.#large.take(bytes)) return;
    const why = 'too many large answers of upstreams are being read at once; try again in a moment';
    throw new RegistryError('UNAVAILABLE', why, { retryAfterMs: RETRY_AFTER_MS });
  }
}

/** Of this process. */
export const responseMemory = new ResponseMemory();
