// What a cache takes from its process, so that tests can hand in their own.
import type { Clock, Random } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Timeouts } from '../upstream/transport/dialer.ts';

export interface Environment {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Of connections to upstreams, in place of those of the config. */
  readonly timeouts?: Timeouts;
  /** How many descriptors this process may have. Default: what the system says. */
  readonly descriptors?: number;
  /** Whether bodies may be sent by sendfile(2), where it is available. Default: true. */
  readonly sendfile?: boolean;
}
