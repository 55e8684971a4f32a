// Time that passes when the test says so. Sleeps end at once, and take no time.
import type { Clock, Random } from '../../src/base/clock.ts';

export class TestClock implements Clock {
  #wallMs = Date.parse('2026-01-01T00:00:00Z');
  #monotonicMs = 0;
  readonly #timers = new Set<{ ms: number; work: () => void; dueMs: number }>();
  /** Every sleep, in the order in which they began. */
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

  /** Lets time pass; what is to be done from time to time is done once, if it is due. */
  advance(ms: number): void {
    this.#wallMs += ms;
    this.#monotonicMs += ms;
    for (const timer of this.#timers) {
      if (timer.dueMs > this.#monotonicMs) continue;
      timer.dueMs = this.#monotonicMs + timer.ms;
      timer.work();
    }
  }

  /** Somebody sets the clock of the machine, by so much forward, or back if it is negative. */
  set(byMs: number): void {
    this.#wallMs += byMs;
  }
}

/** Chance that is the same each time: jitter of exactly one, and names that count. */
export function testRandom(): Random {
  let names = 0;
  return { fraction: () => 0.5, uuid: () => `00000000-0000-4000-8000-${String(++names).padStart(12, '0')}` };
}
