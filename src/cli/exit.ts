// How the process ends: at once. process.exit() first waits for what Node's threads are doing, which may be a call to a
// disk that hangs, or a compilation that waits for the very thread that waits for it (nodejs/node#54918).
import { constants } from 'node:fs';
import module from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { flushLog } from './log.ts';

/** The same number on all systems. */
const F_GETFL = 3;
const F_SETFL = 4;
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
    const libc = koffi.load(null);
    const end = libc.func('void _exit(int code)');
    const fcntl = libc.func('int fcntl(int fd, int command, ...)');
    return code => {
      // Node has made pipes that others use after us non-blocking.
      for (const fd of [0, 1, 2]) {
        const flags = fcntl(fd, F_GETFL, 'int', 0) as number;
        if (flags > 0) fcntl(fd, F_SETFL, 'int', flags & ~constants.O_NONBLOCK);
      }
      end(code);
    };
  } catch {
    return undefined;
  }
}
