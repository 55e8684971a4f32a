// Work that several ask for at the same time and that is done once.

export class Shared<T> {
  readonly #running = new Map<string, Promise<T>>();

  /** Does the work unless it is being done under this key; `joined` tells whether it was. */
  run(key: string, work: () => Promise<T>): { result: Promise<T>; joined: boolean } {
    const running = this.#running.get(key);
    if (running !== undefined) return { result: running, joined: true };
    const result = work().finally(() => {
      if (this.#running.get(key) === result) this.#running.delete(key);
    });
    this.#running.set(key, result);
    return { result, joined: false };
  }

  /** Nobody joins what is being done now: its result may be out of date when it comes. */
  forget(key: string): void {
    this.#running.delete(key);
  }
}
