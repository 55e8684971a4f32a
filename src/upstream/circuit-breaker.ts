// Whether an upstream may be asked now. Three things close the gate: the configuration (offline), a rate
// limit that the upstream announced, and the breaker, after it failed several times in a row. While it is
// closed a request fails at once, without a connection and without a wait.
import type { Clock } from '../base/clock.ts';
import { RegistryError } from '../oci/errors.ts';

const FAILURES_LIMIT = 3;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

export class CircuitBreaker {
  readonly #name: string;
  readonly #offline: boolean;
  readonly #clock: Clock;
  #limitedUntilMs = 0;
  #failures = 0;
  #pauseMs = FIRST_PAUSE_MS;
  #brokenUntilMs = 0;
  #isTrying = false;
  #lastFailure = '';

  constructor(options: { name: string; offline: boolean; clock: Clock }) {
    this.#name = options.name;
    this.#offline = options.offline;
    this.#clock = options.clock;
  }

  /** Passes when a request may go out; it is then owed one of the three reports below. */
  check(): void {
    if (this.#offline) {
      throw new RegistryError(
        'UPSTREAM_UNAVAILABLE',
        `${this.#name} is set offline in the config (upstreams: ${this.#name}: offline), so only what is cached can be served`,
      );
    }
    const now = this.#clock.now();
    if (now < this.#limitedUntilMs) {
      const retryAfterMs = this.#limitedUntilMs - now;
      throw new RegistryError(
        'TOOMANYREQUESTS',
        `${this.#name} limits our requests; it will be asked again in ${Math.ceil(retryAfterMs / 1000)} s`,
        { retryAfterMs },
      );
    }
    if (this.#failures < FAILURES_LIMIT) return;
    if (now < this.#brokenUntilMs) {
      throw new RegistryError(
        'UPSTREAM_UNAVAILABLE',
        `${this.#name} is failing and is left alone for a moment: ${this.#lastFailure}`,
        { retryAfterMs: this.#brokenUntilMs - now },
      );
    }
    // This one goes out to try; the others wait for its report, or for another pause to pass.
    this.#isTrying = true;
    this.#brokenUntilMs = now + this.#pauseMs;
  }

  /** The upstream answered, be it with a refusal. */
  answered(): void {
    this.#failures = 0;
    this.#isTrying = false;
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  failed(error: RegistryError): void {
    // A time-out has cost somebody seconds already: one is enough.
    this.#failures += error.code === 'UPSTREAM_TIMEOUT' ? FAILURES_LIMIT : 1;
    this.#lastFailure = error.message;
    if (this.#failures < FAILURES_LIMIT) return;
    // A try that failed makes the pause longer; those that were under way when it broke do not.
    if (this.#isTrying) this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
    this.#isTrying = false;
    this.#brokenUntilMs = this.#clock.now() + this.#pauseMs;
  }

  limited(retryAfterMs: number): void {
    this.#limitedUntilMs = Math.max(this.#limitedUntilMs, this.#clock.now() + retryAfterMs);
  }
}
