import { FairSemaphore } from './fair-semaphore.ts';

/** A number of permits for each key, handed out in the order in which they are asked for. */
export class KeyedSemaphore {
  readonly #permits: number;
  /** Of the keys that someone holds or waits for a permit of. */
  readonly #semaphores = new Map<string, { readonly semaphore: FairSemaphore; users: number }>();

  constructor(permits: number) {
    this.#permits = permits;
  }

  /** Does the work with a permit. Throws the signal's reason when it is aborted while this waits. */
  async run<T>(key: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const entry = this.#semaphores.get(key) ?? { semaphore: new FairSemaphore({ permits: this.#permits }), users: 0 };
    this.#semaphores.set(key, entry);
    entry.users++;
    try {
      const release = await entry.semaphore.acquire(key, signal);
      try {
        return await work();
      } finally {
        release();
      }
    } finally {
      entry.users--;
      if (entry.users === 0) this.#semaphores.delete(key);
    }
  }
}
