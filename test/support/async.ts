// Waiting in tests: for turns of the event loop, never for time. A test that needs time to pass moves its TestClock.
import assert from 'node:assert/strict';

/** Long enough for a busy machine, and well below the time limit of a test. */
const LIMIT_MS = 10_000;

/** Lets the event loop turn `count` times, so that work in progress continues. */
export async function turns(count = 1): Promise<void> {
  for (let n = 0; n < count; n++) await new Promise(resolve => setImmediate(resolve));
}

/** Resolves once the condition holds, which work in progress must bring about. Fails after ten seconds. */
export async function until(condition: () => unknown): Promise<void> {
  for (const startedMs = performance.now(); !(await condition()); ) {
    if (performance.now() - startedMs > LIMIT_MS) assert.fail(`waited in vain until ${condition}`);
    await turns();
  }
}

/** What has become of a promise so far. A rejection counts as handled. */
export async function stateOf(promise: Promise<unknown>): Promise<'pending' | 'fulfilled' | 'rejected'> {
  let state: 'pending' | 'fulfilled' | 'rejected' = 'pending';
  promise.then(
    () => {
      state = 'fulfilled';
    },
    () => {
      state = 'rejected';
    },
  );
  await turns();
  return state;
}
