// File descriptors: how many this process may have, what that means for what it keeps open, and what is done when none is
// left: what is open for the future alone is closed, and the log says so.
import { readFileSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { isOutOfDescriptors, OutOfDescriptors } from '../oci/errors.ts';

/** Fewer than these may not be enough for a busy cache. */
const ENOUGH = 4_096;
/** Files of content that stay open without a reader: the layers of some ten images. */
const KEPT_FILES = 256;
/** Where none is left for a client, nobody can tell it; for files and connections to upstreams, which have the rest, 503 does. */
const CONNECTIONS_SHARE = 1 / 2;
const KEPT_FILES_SHARE = 1 / 8;
const LOGGED_EVERY_MS = 10_000;
const REMEDY = `raise the limit to ${ENOUGH} or more (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of docker)`;

export class Descriptors {
  /** How many files of content may stay open without a reader. */
  readonly keptFiles: number;
  /** How many clients may be connected at a time; Infinity when no limit is known. */
  readonly maxConnections: number;
  readonly #limit: number | undefined;
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #log: Pick<Log, 'warn'>;
  readonly #shrinking: (() => void)[] = [];
  #loggedAtMs = -Infinity;

  /** `limit`: how many this process may have; undefined where that is not known. */
  constructor(limit: number | undefined, clock: Pick<Clock, 'monotonic'>, log: Pick<Log, 'warn'>) {
    this.#limit = limit;
    this.#clock = clock;
    this.#log = log;
    this.keptFiles = Math.max(1, Math.min(KEPT_FILES, Math.floor((limit ?? Infinity) * KEPT_FILES_SHARE)));
    this.maxConnections = Math.max(1, Math.floor((limit ?? Infinity) * CONNECTIONS_SHARE));
    if (limit !== undefined && limit < ENOUGH) {
      const what = `this process may have ${limit} files and connections open at a time, which is little`;
      log.warn({ limit }, `${what}: at most ${this.maxConnections} clients can be connected; ${REMEDY}`);
    }
  }

  /** What closes files and connections that are open for the future alone. */
  onShrink(shrink: () => void): void {
    this.#shrinking.push(shrink);
  }

  /** None is left: another attempt may find one. */
  exhausted = (): void => {
    for (const shrink of this.#shrinking) shrink();
    this.#warn('no file or connection can be opened, since too many are open');
  };

  /** A client was turned away, since as many are connected as may be. */
  turnedAway = (): void => {
    this.#warn(`a client was turned away, since ${this.maxConnections} are connected`);
  };

  /** The error for the client, where this one comes of descriptors that are lacking; else the error itself. */
  explain = (error: unknown): unknown => {
    if (!isOutOfDescriptors(error)) return error;
    this.exhausted();
    return error instanceof OutOfDescriptors ? error : new OutOfDescriptors(error);
  };

  /** At most once in ten seconds. */
  #warn(what: string): void {
    const nowMs = this.#clock.monotonic();
    if (nowMs - this.#loggedAtMs < LOGGED_EVERY_MS) return;
    this.#loggedAtMs = nowMs;
    this.#log.warn({ limit: this.#limit }, `${what} (limit: ${this.#limit ?? 'unknown'}); ${REMEDY}`);
  }
}

/** How many descriptors this process may have. Node has raised the soft limit to the hard one. */
export function descriptorLimit(): number | undefined {
  try {
    const limits = readFileSync('/proc/self/limits', 'utf8');
    const [, soft] = /^Max open files +(\d+)/m.exec(limits) ?? [];
    return soft === undefined ? undefined : Number(soft);
  } catch {
    // Not Linux.
    return undefined;
  }
}
