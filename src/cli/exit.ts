// How the process ends: at once. process.exit() first waits for what Node's threads are doing, which may be a call to a
// disk that hangs, or a compilation that waits for the very thread that waits for it (nodejs/node#54918).
import module from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { flushLog } from './log.ts';

/** How long a reader of the log may take for its last lines. */
const FLUSH_MS = 1_000;

/** Ends the process with this code, when the log is out, and after the handlers of its `exit` event. */
export async function exit(code: number): Promise<never> {
  const end = await loadExit();
  await Promise.race([flushLog(), sleep(FLUSH_MS)]);
  if (end !== undefined) {
    process.emit('exit', code);
    // Compiled sources, for the next start.
    module.flushCompileCache();
    end(code);
  }
  process.exit(code);
}

/** _exit(2). Undefined where there is no such call, or koffi does not load. */
async function loadExit(): Promise<((code: number) => void) | undefined> {
  try {
    const { default: koffi } = await import('koffi');
    return koffi.load(null).func('void _exit(int code)');
  } catch {
    return undefined;
  }
}
