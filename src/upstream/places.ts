// The places for downloads of one upstream: so many at a time, and who waits is served in turn by
// repository, so that an image of a hundred layers does not keep a small one waiting.

export class Places {
  #free: number;
  /** Who waits, by repository; the first repository is the next to be served. */
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor(count: number) {
    this.#free = count;
  }

  /** Resolves to the function that gives the place back, to be called once; rejects when aborted first. */
  async take(repository: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free--;
    else await this.#wait(repository, signal);
    return () => this.#giveBack();
  }

  #wait(repository: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const queue = this.#waiting.get(repository) ?? [];
      this.#waiting.set(repository, queue);
      const onTurn = () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = () => {
        queue.splice(queue.indexOf(onTurn), 1);
        if (queue.length === 0) this.#waiting.delete(repository);
        reject(signal.reason);
      };
      queue.push(onTurn);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  #giveBack(): void {
    const next = this.#waiting.entries().next().value;
    if (next === undefined) {
      this.#free++;
      return;
    }
    const [repository, queue] = next;
    const turn = queue.shift();
    this.#waiting.delete(repository);
    if (queue.length > 0) this.#waiting.set(repository, queue);
    turn?.();
  }
}
