// A clock that advances only when the test says so, and randomness that is the same in each run. Sleeps end at once and
// take no time.
import type { Clock, Random } from '../../src/base/clock.ts';

export class TestClock implements Clock {
  #wallMs = Date.parse('2026-01-01T00:00:00Z');
  #monotonicMs = 0;
  readonly #timers = new Set<{ ms: number; work: () => void; dueMs: number }>();
  /** The length of every sleep, in order of their start. */
  readonly sleptMs: number[] = [];
  readonly now = () => this.#wallMs;
  readonly monotonic = () => this.#monotonicMs;

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.sleptMs.push(ms);
    await new Promise(resolve => setImmediate(resolve));
    signal?.throwIfAborted();
  }

  every(ms: number, work: () => void): () => void {
    const timer = { ms, work, dueMs: this.#monotonicMs + ms };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Lets time pass on both clocks; periodic work that is due runs once. */
  advance(ms: number): void {
    this.#wallMs += ms;
    this.#monotonicMs += ms;
    for (const timer of this.#timers) {
      if (timer.dueMs > this.#monotonicMs) continue;
      timer.dueMs = this.#monotonicMs + timer.ms;
      timer.work();
    }
  }

  /** Lets so many seconds pass, one after another, and work in progress go on after each. */
  async pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      this.advance(1_000);
      for (let turn = 0; turn < 5; turn++) await new Promise(resolve => setImmediate(resolve));
    }
  }

  /** Changes the wall clock alone, as setting the machine's clock does: forward, or back if negative. */
  set(byMs: number): void {
    this.#wallMs += byMs;
  }
}

/** A clock on which sleeps take their time, and end at once all the same. */
export class PassingClock extends TestClock {
  override async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    await super.sleep(ms, signal);
    this.advance(Math.ceil(ms));
  }
}

/** The same in each run: a fraction that makes jitter a factor of one, and UUIDs that count up. */
export function testRandom(): Random {
  let count = 0;
  return { fraction: () => 0.5, uuid: () => `00000000-0000-4000-8000-${String(++count).padStart(12, '0')}` };
}
