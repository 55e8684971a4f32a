// How much is free where content is stored. The disk is asked when that has to be known, or a moment earlier: a pull asks
// while its upstream is being asked, so that no byte waits for the disk's answer.
import type { Clock } from '../base/clock.ts';
import type { Content } from '../content/content.ts';

export type Free = Awaited<ReturnType<Content['free']>>;

/** For so long an early answer is of use: upstreams rarely take longer. Until then it is asked for anew by who comes later. */
const EARLY_MS = 2_000;
const ANEW_MS = 100;

interface Early {
  readonly answer: Promise<Free>;
  readonly askedAtMs: number;
  /** What had been taken before that. */
  readonly takenBytes: number;
}

export class FreeSpace {
  readonly #content: Pick<Content, 'free'>;
  readonly #clock: Pick<Clock, 'monotonic'>;
  /** In all, of what was free. */
  #takenBytes = 0;
  #early: Early | undefined;

  constructor(content: Pick<Content, 'free'>, clock: Pick<Clock, 'monotonic'>) {
    this.#content = content;
    this.#clock = clock;
  }

  /** So much more is about to be written. */
  take(bytes: number): void {
    this.#takenBytes += bytes;
  }

  ask(): Promise<Free> {
    return this.#content.free();
  }

  /** Asks for what atLeast() is going to tell. */
  askEarly(): void {
    if (this.#askedWithin(ANEW_MS) !== undefined) return;
    const answer = this.ask();
    answer.catch(() => {});
    this.#early = { answer, askedAtMs: this.#clock.monotonic(), takenBytes: this.#takenBytes };
  }

  /** What is free at least, without what has been taken since the disk was asked; undefined where it was not lately. */
  async atLeast(): Promise<Free | undefined> {
    const early = this.#askedWithin(EARLY_MS);
    if (early === undefined) return undefined;
    const { bytes, files } = await early.answer;
    return { bytes: bytes - (this.#takenBytes - early.takenBytes), files };
  }

  #askedWithin(ms: number): Early | undefined {
    const early = this.#early;
    return early && this.#clock.monotonic() - early.askedAtMs <= ms ? early : undefined;
  }
}
