// The connections to one upstream beyond the one that each download has: for further segments of large blobs, and for blobs
// that are fetched ahead of their clients. How many there may be is found out by trying: more as long as that gives more
// bytes in all, fewer when fewer give as many. A link that is full by itself so soon has none, and one that limits each
// connection has many. They take nothing from anyone: there is none while other work waits for a permit.
//
// It looks four times a second, while there are downloads.
import type { Clock } from '../base/clock.ts';
import type { Permit } from './permits.ts';

/** How many bytes came, and how long connections were open for that, taken together. */
export interface Received {
  readonly bytes: number;
  readonly openMs: number;
}

/** A download, or a queue of them. */
export interface SpareUser {
  /** Whether it is for clients that wait now; they are served first. */
  readonly isAwaited: boolean;
  /** So far. */
  readonly received: Received;
  /** Whether it could use one more now. */
  wants(): boolean;
  /** Uses one more, until it releases the permit. */
  grow(permit: Permit): void;
}

export interface SpareConnectionsOptions {
  readonly clock: Pick<Clock, 'every' | 'monotonic'>;
  /** The most that one blob may have, beside its first one. */
  readonly perBlob: number;
  /** Whether other work waits for a permit. */
  readonly isContended: () => boolean;
}

/** What came in a window, and over how many connections. */
interface Measured {
  readonly connections: number;
  readonly bytesPerMs: number;
}

interface Trial {
  readonly before: Measured;
  readonly limitBefore: number;
  windows: number;
}

const WINDOW_MS = 250;
const FIRST_LIMIT = 8;
const LIMIT = 32;
/** What connections gave is told by the last windows, after others in which they are made. */
const MEASURED_WINDOWS = 2;
const TRIAL_WINDOWS = 3;
/** In a trial of fewer, those in use have to come to the end of their segments first. */
const ENDING_WINDOWS = 40;
/** Connections pay when they bring this much of what as many brought before. */
const PAYING = 0.4;
/** So many more, or fewer, at least tell anything. */
const TELLING = 1.15;
const HOLD_MS = { first: 5_000, longest: 120_000, limited: 30_000 };
const LIMITED_MS = 2_000;
/** How long it counts that an upstream does not honour ranges. */
const NO_RANGES_MS = 3_600_000;

const NOTHING: Received = { bytes: 0, openMs: 0 };

export class SpareConnections {
  readonly perBlob: number;
  readonly #options: SpareConnectionsOptions;
  /** In the order in which they are served. */
  readonly #users = new Set<SpareUser>();
  #stopLooking: (() => void) | undefined;
  #noRangesUntilMs = 0;
  #limit = FIRST_LIMIT;
  #inUse = 0;
  #wasShort = false;
  #trial: Trial | undefined;
  #holdUntilMs = 0;
  #limitedUntilMs = 0;
  #holdMs = HOLD_MS.first;
  #windows: Measured[] = [];
  /** Of users that are here at the last look, and of those that have left since. */
  readonly #seen = new Map<SpareUser, Received>();
  #left = NOTHING;
  #lookedMs = 0;

  constructor(options: SpareConnectionsOptions) {
    this.#options = options;
    this.perBlob = options.perBlob;
  }

  /** Has the user served until the function is called that this returns. */
  join(user: SpareUser): () => void {
    this.#users.add(user);
    this.#seen.set(user, user.received);
    if (this.#stopLooking === undefined) this.#begin();
    return () => {
      if (!this.#users.delete(user)) return;
      this.#left = sumOf(this.#left, user.received, this.#seen.get(user));
      this.#seen.delete(user);
      if (this.#users.size === 0) this.#rest();
    };
  }

  /** Serves those who want more, as far as there is more. */
  serve(): void {
    const waiting = [...this.#users].sort((a, b) => Number(b.isAwaited) - Number(a.isAwaited));
    for (let served = true; served; ) {
      served = false;
      for (const user of waiting) {
        if (!user.wants()) continue;
        const permit = this.#tryAcquire();
        if (permit === undefined) return;
        user.grow(permit);
        served = true;
      }
    }
  }

  /** Whether there are more than there may be by now. */
  get isOverLimit(): boolean {
    return this.#inUse > this.#limit || this.#options.isContended();
  }

  /** Whether the upstream gives ranges, as far as is known. */
  get hasRanges(): boolean {
    return this.#options.clock.monotonic() >= this.#noRangesUntilMs;
  }

  /** The upstream was asked for a range and gave something else. */
  gaveNoRange(): void {
    this.#noRangesUntilMs = this.#options.clock.monotonic() + NO_RANGES_MS;
  }

  /** The upstream limits our rate, or is overloaded. */
  limited(): void {
    const nowMs = this.#options.clock.monotonic();
    // One moment of trouble meets several connections; and after it there are no others for a moment.
    if (nowMs < this.#limitedUntilMs) return;
    this.#limitedUntilMs = nowMs + LIMITED_MS;
    this.#limit = Math.floor(this.#limit / 2);
    this.#trial = undefined;
    this.#holdUntilMs = nowMs + HOLD_MS.limited;
  }

  #tryAcquire(): Permit | undefined {
    const { isContended, clock } = this.#options;
    if (isContended() || clock.monotonic() < this.#limitedUntilMs) return undefined;
    if (this.#inUse >= this.#limit) {
      this.#wasShort = true;
      return undefined;
    }
    this.#inUse++;
    let isHeld = true;
    return {
      isForSmall: false,
      get isAwaited() {
        return isContended();
      },
      release: () => {
        if (isHeld) this.#inUse--;
        isHeld = false;
      },
    };
  }

  #look(): void {
    this.#windows = [...this.#windows, this.#measure()].slice(-MEASURED_WINDOWS);
    if (this.#trial !== undefined) this.#judge(this.#trial);
    else if (this.#wasShort && this.#mayTryMore()) this.#try(this.#limit * 2 || 1);
    this.#wasShort = false;
    this.serve();
  }

  #measure(): Measured {
    let all = this.#left;
    this.#left = NOTHING;
    for (const user of this.#users) {
      const { received } = user;
      all = sumOf(all, received, this.#seen.get(user));
      this.#seen.set(user, received);
    }
    const nowMs = this.#options.clock.monotonic();
    const elapsedMs = nowMs - this.#lookedMs;
    this.#lookedMs = nowMs;
    return { connections: all.openMs / elapsedMs, bytesPerMs: all.bytes / elapsedMs };
  }

  #mayTryMore(): boolean {
    if (this.#limit === LIMIT || this.#options.clock.monotonic() < this.#holdUntilMs) return false;
    return this.#windows.length === MEASURED_WINDOWS && this.#windows.every(({ connections }) => connections > 0);
  }

  #try(limit: number): void {
    this.#trial = { before: averageOf(this.#windows), limitBefore: this.#limit, windows: 0 };
    this.#limit = Math.min(limit, LIMIT);
  }

  #judge(trial: Trial): void {
    trial.windows++;
    const { before, limitBefore } = trial;
    const after = averageOf(this.#windows);
    const growth = after.connections / before.connections;
    const isFewer = this.#limit < limitBefore;
    if (isFewer ? growth > 1 / TELLING : trial.windows < TRIAL_WINDOWS) {
      if (trial.windows > ENDING_WINDOWS) this.#trial = undefined;
      return;
    }
    this.#trial = undefined;
    // They could not be used.
    if (!isFewer && growth < TELLING) return;
    const gain = after.bytesPerMs / before.bytesPerMs;
    const isPaying = (gain - 1) / (growth - 1) >= PAYING;
    // More that bring nothing, or fewer where those that were given up did.
    if (isFewer === isPaying) {
      this.#limit = limitBefore;
      this.#hold();
    } else if (isPaying) this.#holdMs = HOLD_MS.first;
    if (!isPaying && this.#limit > 0) this.#try(Math.floor(this.#limit / 2));
  }

  #hold(): void {
    this.#holdUntilMs = this.#options.clock.monotonic() + this.#holdMs;
    this.#holdMs = Math.min(this.#holdMs * 2, HOLD_MS.longest);
  }

  #begin(): void {
    const { clock } = this.#options;
    this.#lookedMs = clock.monotonic();
    this.#stopLooking = clock.every(WINDOW_MS, () => this.#look());
  }

  #rest(): void {
    this.#stopLooking?.();
    this.#stopLooking = undefined;
    this.#trial = undefined;
    this.#windows = [];
    this.#left = NOTHING;
  }
}

/** The sum, and what has come since it was seen. */
function sumOf(sum: Received, { bytes, openMs }: Received, seen = NOTHING): Received {
  return { bytes: sum.bytes + bytes - seen.bytes, openMs: sum.openMs + openMs - seen.openMs };
}

function averageOf(windows: readonly Measured[]): Measured {
  const sum = (of: (each: Measured) => number) => windows.reduce((total, each) => total + of(each), 0) / windows.length;
  return { connections: sum(each => each.connections), bytesPerMs: sum(each => each.bytesPerMs) };
}
