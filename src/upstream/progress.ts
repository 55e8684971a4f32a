import type { Clock } from '../base/clock.ts';

/** How often a download is looked at. */
export const LOOK_MS = 1_000;
/** Who moves less than this in this time is slow: 64 KiB/s. */
const SLOW_BYTES = 256 * 1024;
const SLOW_MS = 4_000;

/** After so long it is known how fast a connection is. */
const SHOWN_MS = 200;
/** 128 MiB/s: faster than most disks. */
const FAST_BYTES_PER_MS = 128 * 1024;

/** Whether the bytes of a download move, by looks at it. */
export class Progress {
  readonly #clock: Pick<Clock, 'monotonic'>;
  #beganMs = 0;
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
    this.#beganMs = this.#clock.monotonic();
  }

  /** Whether a connection that has brought so many bytes since the beginning has shown to be slower than a disk. */
  isSlowerThanDisk(bytes: number): boolean {
    const elapsedMs = this.#clock.monotonic() - this.#beganMs;
    return elapsedMs >= SHOWN_MS && bytes < elapsedMs * FAST_BYTES_PER_MS;
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
