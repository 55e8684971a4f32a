import { abortable } from '../base/abortable.ts';
import type { Source } from '../content/content.ts';
import type { Ingest } from '../content/ingest.ts';
import { Incoming } from './hold-back.ts';

/** One attempt of a flight to fetch its blob: the ingest that it fills, once that is open, and those who follow it. */
export class Attempt<I extends Ingest = Ingest> {
  readonly #begin: () => Promise<I>;
  readonly #incoming = Promise.withResolvers<Incoming<I>>();
  #isOpening = false;
  #ingest: I | undefined;
  /** Whether any client has been given a byte of it. */
  wasSeen = false;
  #isOver = false;

  constructor(begin: () => Promise<I>) {
    this.#begin = begin;
    // Its followers are told; without followers it is not unhandled.
    this.#incoming.promise.catch(() => {});
  }

  /** How many bytes there are. */
  get writtenBytes(): number {
    return this.#ingest?.writtenBytes ?? 0;
  }

  /** Begins the ingest, the first time. Throws StorageFailure, and what the attempt failed with before. */
  open(): Promise<Incoming<I>> {
    if (!this.#isOpening) {
      this.#isOpening = true;
      const opening = this.#begin().then(ingest => {
        this.#ingest = ingest;
        return new Incoming(ingest);
      });
      this.#incoming.resolve(opening);
    }
    return this.#incoming.promise;
  }

  /**
   * A follower, once there is something that it may have; undefined when that has become content, or was to. Throws what
   * the attempt failed with, and the reason of `gone` when that is aborted first.
   */
  async follow(gone: AbortSignal | undefined): Promise<Source | undefined> {
    const incoming = await abortable(this.#incoming.promise, gone);
    await incoming.until(0, gone);
    if (this.#isOver) {
      // What became of it is known, or about to be.
      await incoming.until(Infinity, gone);
      return undefined;
    }
    this.wasSeen = true;
    return incoming.source();
  }

  /** The ingest ends: those who follow go on, and no one else begins to. */
  end(): void {
    this.#isOver = true;
  }

  /** Its ingest is not going to be published: hands it to `end`, if there is one. To be told by fail() afterwards. */
  async giveUp(end: (ingest: I) => Promise<void>): Promise<void> {
    this.end();
    const incoming = await this.#opened();
    if (incoming !== undefined) await end(incoming.ingest);
  }

  /** Tells those who follow or wait that it failed. */
  async fail(error: Error): Promise<void> {
    const incoming = await this.#opened();
    if (incoming === undefined) this.#incoming.reject(error);
    else incoming.fail(error);
  }

  /** Undefined when there is no ingest, because none was needed or none could be had. */
  async #opened(): Promise<Incoming<I> | undefined> {
    if (!this.#isOpening) return undefined;
    return this.#incoming.promise.catch(() => undefined);
  }
}
