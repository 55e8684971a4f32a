// Waiting for a condition by polling it, with a limit, so that no test has to sleep and hope.
import { setTimeout as sleep } from 'node:timers/promises';

const INTERVAL_MS = 50;

/** Polls `condition` until it holds. Throws when it does not within `limitMs`, or as soon as it throws. */
export async function until(what: string, limitMs: number, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${limitMs / 1000} s in vain until ${what}`);
    await sleep(INTERVAL_MS);
  }
}
