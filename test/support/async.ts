// Waiting in tests: by turns of the event loop, never by time.

/** Some turns of the event loop, in which what is under way goes on. */
export async function turns(count = 1): Promise<void> {
  for (let n = 0; n < count; n++) await new Promise(resolve => setImmediate(resolve));
}

/** Resolves when the condition holds, which something that is under way has to bring about. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turns();
}
