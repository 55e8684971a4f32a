/** Lets a fixed number work at a time. Those that wait are served round-robin by key, and in order within a key. */
export class FairSemaphore {
  #free: number;
  /** Waiters by key; the first key is the next to be served. */
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor(permits: number) {
    this.#free = permits;
  }

  /** Resolves to the function that releases the permit, to be called once; rejects when aborted first. */
  async acquire(key: string, signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.#free > 0) this.#free--;
    else await this.#wait(key, signal);
    return () => this.#release();
  }

  #wait(key: string, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const queue = this.#waiting.get(key) ?? [];
      this.#waiting.set(key, queue);
      const onTurn = () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = () => {
        queue.splice(queue.indexOf(onTurn), 1);
        if (queue.length === 0) this.#waiting.delete(key);
        reject(signal?.reason);
      };
      queue.push(onTurn);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  #release(): void {
    const next = this.#waiting.entries().next().value;
    if (next === undefined) {
      this.#free++;
      return;
    }
    const [key, queue] = next;
    const turn = queue.shift();
    // Behind the other keys, if there are any.
    if (queue.length === 0 || this.#waiting.size > 1) this.#waiting.delete(key);
    if (queue.length > 0) this.#waiting.set(key, queue);
    turn?.();
  }
}
