// How the process ends: at once. process.exit() first waits for what Node's threads are doing, which may be a call to a
// disk that hangs, or a compilation that waits for the very thread that waits for it (nodejs/node#54918).
import module from 'node:module';

/** Ends the process with this code, after the handlers of its `exit` event, one of which writes the last of the log. */
export async function exit(code: number): Promise<never> {
  const end = await loadExit();
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
