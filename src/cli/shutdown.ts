// How `serve` ends: at a signal, or when npm, which started it, is gone. It says what it waits for, and what became of it.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { RunningCache } from '../compose/cache.ts';
import { exit } from './exit.ts';

/** How long requests in flight may take to finish after a signal; docker kills after 10 s. */
const GRACE_MS = 8_000;
/** How often it is looked whether npm is still there. */
const PARENT_MS = 1_000;
/** A terminal interrupts npm and us, and npm hands that on: for so long the second signal is the first one again. */
const HANDED_ON_MS = 500;

/** The first signal lets requests in flight finish, the second ends the process. */
export function stopInTime(cache: RunningCache, log: Log, clock: Clock): void {
  const isUnderNpm = ['start', 'cli'].includes(process.env.npm_lifecycle_event ?? '');
  let stoppingSinceMs: number | undefined;

  const stop = async (why: string) => {
    const what = cache.inFlight();
    if (stoppingSinceMs !== undefined) {
      if (isUnderNpm && why === 'SIGINT' && clock.monotonic() - stoppingSinceMs < HANDED_ON_MS) return;
      log.warn({}, `stopped at once (${why})${what === undefined ? '' : `: ${what} cut`}`);
      return exit(1);
    }
    stoppingSinceMs = clock.monotonic();
    const grace = `waits up to ${GRACE_MS / 1000} s for ${what}; a second signal ends it now`;
    log.info({}, `shutting down (${why})${what === undefined ? '' : `: ${grace}`}`);
    try {
      let cut = '';
      await cache.stop(GRACE_MS, what => {
        cut = `: ${what} cut after ${GRACE_MS / 1000} s`;
      });
      log.info({}, `stopped${cut}`);
      await exit(0);
    } catch (error) {
      log.error({ err: error }, 'shutting down failed');
      await exit(1);
    }
  };

  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  if (!isUnderNpm) return;
  // A killed npm hands nothing on.
  const parent = process.ppid;
  const end = clock.every(PARENT_MS, () => {
    if (process.ppid === parent) return;
    end();
    if (stoppingSinceMs === undefined) void stop('npm is gone');
  });
}
