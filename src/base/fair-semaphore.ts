export interface FairSemaphoreOptions {
  readonly permits: number;
  /** So many further permits are for keys that hold none, so that such a key waits for no one. Default: none. */
  readonly reserve?: number;
}

/** What waits, by key; each runs when its permit is there. */
type Queues = Map<string, (() => void)[]>;

/**
 * Lets a bounded number work at a time. Those that wait are served round-robin by group, within a group by key, and in
 * order within a key.
 */
export class FairSemaphore {
  readonly #permits: number;
  readonly #limit: number;
  #inUse = 0;
  /** How many permits each key holds; keys without any are left out. */
  readonly #held = new Map<string, number>();
  /** By group. The first group, and in it the first key, are the next to be served. */
  readonly #waiting = new Map<string, Queues>();

  constructor({ permits, reserve = 0 }: FairSemaphoreOptions) {
    this.#permits = permits;
    this.#limit = permits + reserve;
  }

  /** Whether anyone waits. */
  get isContended(): boolean {
    return this.#waiting.size > 0;
  }

  /** Resolves to the function that releases the permit; calling it again does nothing. Rejects when aborted first. */
  async acquire(key: string, signal?: AbortSignal, group = ''): Promise<() => void> {
    signal?.throwIfAborted();
    const permit = this.tryAcquire(key);
    if (permit !== undefined) return permit;
    await this.#wait(key, group, signal);
    return this.#permit(key);
  }

  /** As acquire(), of a permit that is free; undefined when none is. */
  tryAcquire(key: string): (() => void) | undefined {
    if (!this.#isFreeFor(key)) return undefined;
    this.#take(key);
    return this.#permit(key);
  }

  #isFreeFor(key: string): boolean {
    return this.#inUse < this.#permits || (this.#inUse < this.#limit && !this.#held.has(key));
  }

  #take(key: string): void {
    this.#inUse++;
    this.#held.set(key, (this.#held.get(key) ?? 0) + 1);
  }

  #permit(key: string): () => void {
    let isHeld = true;
    return () => {
      if (isHeld) this.#release(key);
      isHeld = false;
    };
  }

  #release(key: string): void {
    this.#inUse--;
    const left = (this.#held.get(key) ?? 0) - 1;
    if (left > 0) this.#held.set(key, left);
    else this.#held.delete(key);
    this.#serveNext();
  }

  /** Serves the first that a permit is free for: while only the reserve is, that may not be the first of all. */
  #serveNext(): void {
    for (const [group, queues] of this.#waiting) {
      for (const [key, queue] of queues) {
        if (!this.#isFreeFor(key)) continue;
        const turn = queue.shift();
        putBehind(queues, key, queue, queue.length === 0);
        putBehind(this.#waiting, group, queues, queues.size === 0);
        this.#take(key);
        turn?.();
        return;
      }
    }
  }

  #wait(key: string, group: string, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const queues = this.#waiting.get(group) ?? new Map();
      this.#waiting.set(group, queues);
      const queue = queues.get(key) ?? [];
      queues.set(key, queue);
      const onTurn = () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = () => {
        queue.splice(queue.indexOf(onTurn), 1);
        if (queue.length === 0) queues.delete(key);
        if (queues.size === 0) this.#waiting.delete(group);
        reject(signal?.reason);
      };
      queue.push(onTurn);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}

/** Moves an entry behind the others, or removes it when it is empty. An only one stays where it is. */
function putBehind<V>(map: Map<string, V>, key: string, value: V, isEmpty: boolean): void {
  if (!isEmpty && map.size === 1) return;
  map.delete(key);
  if (!isEmpty) map.set(key, value);
}
