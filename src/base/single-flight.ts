/** Deduplicates concurrent calls for the same key. */
export class SingleFlight<T> {
  readonly #running = new Map<string, Promise<T>>();

  /** Runs `work`, or joins the run that is in flight under this key; `joined` tells which. */
  run(key: string, work: () => Promise<T>): { result: Promise<T>; joined: boolean } {
    const running = this.#running.get(key);
    if (running !== undefined) return { result: running, joined: true };
    const result = work().finally(() => {
      if (this.#running.get(key) === result) this.#running.delete(key);
    });
    this.#running.set(key, result);
    return { result, joined: false };
  }

  /** Lets no one join the run in flight: its result may be out of date when it comes. */
  forget(key: string): void {
    this.#running.delete(key);
  }
}
