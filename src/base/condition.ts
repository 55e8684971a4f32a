interface Waiter {
  readonly until: () => boolean;
  readonly wake: () => void;
}

/** A condition variable: waits for a predicate over state that others change, and then notify. */
export class Condition {
  readonly #waiters = new Set<Waiter>();

  /**
   * Resolves once `until()` holds, which is asked at once and after each notify(); it must be cheap and must not
   * throw. Whoever goes on does so in a later microtask, so it has to look again at what others may have changed.
   * Rejects with the signal's reason when it is aborted first.
   */
  async wait(until: () => boolean, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (until()) return;
    await new Promise<void>((wake, reject) => {
      const waiter = {
        until,
        wake: () => {
          signal?.removeEventListener('abort', onAbort);
          wake();
        },
      };
      const onAbort = () => {
        this.#waiters.delete(waiter);
        reject(signal?.reason);
      };
      this.#waiters.add(waiter);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** To be called after each change that a predicate may depend on. Wakes only those whose predicate holds. */
  notify(): void {
    for (const waiter of this.#waiters) {
      if (!waiter.until()) continue;
      this.#waiters.delete(waiter);
      waiter.wake();
    }
  }
}
