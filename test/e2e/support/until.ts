// Waiting for something to become true, by asking, with a limit: a test never sleeps and hopes.
import { setTimeout as sleep } from 'node:timers/promises';

const INTERVAL_MS = 50;

/** Asks `condition` until it holds. Throws when it does not within `limitMs`, or as soon as it throws. */
export async function until(
  what: string,
  limitMs: number,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${limitMs / 1000} s in vain until ${what}`);
    await sleep(INTERVAL_MS);
  }
}
