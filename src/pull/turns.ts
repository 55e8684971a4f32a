// Work on the same thing, one after another. A push of a tag and a question about it must not overlap: the
// answer to the question could be older than the push, and would be taken for newer.

export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Does the work when all that was handed in before under this key is done. */
  async take<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key);
    const turn = before === undefined ? work() : before.then(work, work);
    this.#last.set(key, turn);
    try {
      return await turn;
    } finally {
      if (this.#last.get(key) === turn) this.#last.delete(key);
    }
  }
}
