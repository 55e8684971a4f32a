// Whether an upstream may be asked at all: not while the config sets it offline, nor while it limits our rate. All times
// are durations, on the monotonic clock.
import type { Clock } from '../base/clock.ts';
import { RegistryError } from '../oci/errors.ts';
import { Trouble } from './transport/trouble.ts';

interface RateLimitOptions {
  readonly name: string;
  readonly offline: boolean;
  readonly clock: Pick<Clock, 'monotonic'>;
}

export class RateLimit {
  readonly #options: RateLimitOptions;
  #untilMs = 0;

  constructor(options: RateLimitOptions) {
    this.#options = options;
  }

  /** Throws UPSTREAM_UNAVAILABLE when the upstream is offline, TOOMANYREQUESTS while it limits our rate. */
  check(): void {
    const { name, offline, clock } = this.#options;
    if (offline) {
      const message = `${name} is set offline in the config (upstreams: ${name}: offline), so only what is cached can be served`;
      throw new Trouble('UPSTREAM_UNAVAILABLE', message, { of: 'host', mayRetry: false });
    }
    const retryAfterMs = this.#untilMs - clock.monotonic();
    if (retryAfterMs <= 0) return;
    throw new RegistryError(
      'TOOMANYREQUESTS',
      `${name} limits our requests; it will be asked again in ${Math.ceil(retryAfterMs / 1000)} s`,
      { retryAfterMs },
    );
  }

  /** The longest of several counts. */
  limited(retryAfterMs: number): void {
    this.#untilMs = Math.max(this.#untilMs, this.#options.clock.monotonic() + retryAfterMs);
  }
}
