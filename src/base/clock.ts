// Time and chance, handed in: no module reads a clock, sleeps or draws a random number on its own, so tests
// can move the one and fix the other.
import { randomUUID } from 'node:crypto';

export interface Clock {
  /** Wall time, in milliseconds since the epoch. It can be set at any moment, so it is only for what is stored or shown. */
  now(): number;
  /** Milliseconds of a clock that is never set, from an arbitrary zero: what every duration is measured on. */
  monotonic(): number;
  /** Resolves after `ms`; rejects with the signal's reason when it is aborted first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `work` each `ms` until the returned function is called. Keeps no process alive. */
  every(ms: number, work: () => void): () => void;
}

export interface Random {
  /** From 0, inclusive, to 1. */
  fraction(): number;
  /** A name that nothing else has. */
  uuid(): string;
}

export const systemClock: Clock = {
  now: Date.now,
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }, ms);
      signal?.addEventListener('abort', onAbort, { once: true });
    }),
  every: (ms, work) => {
    const timer = setInterval(work, ms).unref();
    return () => clearInterval(timer);
  },
};

export const systemRandom: Random = { fraction: Math.random, uuid: randomUUID };
