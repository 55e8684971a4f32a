import type { Clock } from '../base/clock.ts';

/** How often a download is looked at. */
export const LOOK_MS = 1_000;
/** Who moves less than this in this time is slow: 64 KiB/s. */
const SLOW_BYTES = 256 * 1024;
const SLOW_MS = 4_000;

/** For so long at least it is seen how fast a connection is, and twice before it is called slow. */
const SEEN_MS = 200;
const SLOW_TIMES = 2;
/** 128 MiB/s: faster than most disks. */
const FAST_BYTES_PER_MS = 128 * 1024;

/** Whether the bytes of a download move, by looks at it. */
export class Progress {
  readonly #clock: Pick<Clock, 'monotonic'>;
  #seenMs = 0;
  #seenBytes = 0;
  #slowTimes = 0;
  /** How long none have come. */
  stillMs = 0;
  #bytes = 0;
  /** Where it stood at the last looks, the newest last: as many as it takes to tell who is slow. */
  #seen: number[] = [];

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
  }

  /** The first body begins. */
  begin(): void {
    this.#seenMs = this.#clock.monotonic();
  }

  /** Whether a connection has shown to be slower than a disk. To be asked often, with all that it has brought so far. */
  isSlowerThanDisk(bytes: number): boolean {
    const nowMs = this.#clock.monotonic();
    const elapsedMs = nowMs - this.#seenMs;
    if (elapsedMs >= SEEN_MS) {
      this.#slowTimes = bytes - this.#seenBytes < elapsedMs * FAST_BYTES_PER_MS ? this.#slowTimes + 1 : 0;
      this.#seenMs = nowMs;
      this.#seenBytes = bytes;
    }
    return this.#slowTimes >= SLOW_TIMES;
  }

  /** Each LOOK_MS, with all that have come so far. */
  look(bytes: number): void {
    this.stillMs = bytes > (this.#seen.at(-1) ?? 0) ? 0 : this.stillMs + LOOK_MS;
    this.#seen = [...this.#seen, bytes].slice(-1 - SLOW_MS / LOOK_MS);
    this.#bytes = bytes;
  }

  get isSlow(): boolean {
    const [oldest = 0] = this.#seen;
    return this.#seen.length > SLOW_MS / LOOK_MS && this.#bytes - oldest < SLOW_BYTES;
  }

  /** A new body begins, which is given its time. */
  restart(): void {
    this.#seen = [];
  }
}
