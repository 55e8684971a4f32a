import type { Clock, Random } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Timeouts } from '../upstream/transport/dialer.ts';

/** What a cache takes from the process that it runs in. */
export interface Environment {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Towards upstreams. Default: `defaultTimeouts`. */
  readonly timeouts?: Timeouts;
}
