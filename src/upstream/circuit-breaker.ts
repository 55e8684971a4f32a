// Circuit breaker for one upstream: open while it is offline, rate-limiting us, or failing. While it is open requests
// fail at once, without a connection and without a wait. All its times are durations, on the monotonic clock.
import type { Clock } from '../base/clock.ts';
import { RegistryError } from '../oci/errors.ts';

const FAILURES_LIMIT = 3;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

interface CircuitBreakerOptions {
  readonly name: string;
  readonly offline: boolean;
  readonly clock: Pick<Clock, 'monotonic'>;
}

export class CircuitBreaker {
  readonly #options: CircuitBreakerOptions;
  #limitedUntilMs = 0;
  #failures = 0;
  #pauseMs = FIRST_PAUSE_MS;
  #openUntilMs = 0;
  #isProbing = false;
  #lastFailure = '';

  constructor(options: CircuitBreakerOptions) {
    this.#options = options;
  }

  /**
   * Returns when a request may be sent, whose end must be reported by one of the methods below. Throws
   * UPSTREAM_UNAVAILABLE when the upstream is offline or failing, TOOMANYREQUESTS while it limits our rate.
   */
  check(): void {
    const { name, offline, clock } = this.#options;
    if (offline) {
      throw new RegistryError(
        'UPSTREAM_UNAVAILABLE',
        `${name} is set offline in the config (upstreams: ${name}: offline), so only what is cached can be served`,
      );
    }
    const nowMs = clock.monotonic();
    if (nowMs < this.#limitedUntilMs) {
      const retryAfterMs = this.#limitedUntilMs - nowMs;
      throw new RegistryError(
        'TOOMANYREQUESTS',
        `${name} limits our requests; it will be asked again in ${Math.ceil(retryAfterMs / 1000)} s`,
        { retryAfterMs },
      );
    }
    if (this.#failures < FAILURES_LIMIT) return;
    if (nowMs < this.#openUntilMs) {
      throw new RegistryError(
        'UPSTREAM_UNAVAILABLE',
        `${name} is failing and is left alone for a moment: ${this.#lastFailure}`,
        { retryAfterMs: this.#openUntilMs - nowMs },
      );
    }
    // This request is the probe; the others wait for its report, or for another pause to pass.
    this.#isProbing = true;
    this.#openUntilMs = nowMs + this.#pauseMs;
  }

  /** The upstream answered, even if with an error response. */
  succeeded(): void {
    this.#failures = 0;
    this.#isProbing = false;
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  failed(error: RegistryError): void {
    // A timeout has cost someone seconds already: one is enough.
    this.#failures += error.code === 'UPSTREAM_TIMEOUT' ? FAILURES_LIMIT : 1;
    this.#lastFailure = error.message;
    if (this.#failures < FAILURES_LIMIT) return;
    // A failed probe makes the pause longer; requests that were in flight when the breaker opened do not.
    if (this.#isProbing) this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
    this.#isProbing = false;
    this.#openUntilMs = this.#options.clock.monotonic() + this.#pauseMs;
  }

  rateLimited(retryAfterMs: number): void {
    this.#limitedUntilMs = Math.max(this.#limitedUntilMs, this.#options.clock.monotonic() + retryAfterMs);
  }
}
