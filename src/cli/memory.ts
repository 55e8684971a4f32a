// Memory that was freed goes back to the system. glibc keeps what lies between things that are still in use, which after
// an hour of many clients is most of it; asking for it now and then costs some milliseconds.
import type { Clock } from '../base/clock.ts';

const LOOK_MS = 5_000;
/** Less than this is not worth it. */
const GROWN_BYTES = 24 * 1024 * 1024;

/** Gives memory back whenever it has grown by much. Does nothing where the C library is not glibc, or koffi does not load. */
export async function trimMemory(clock: Pick<Clock, 'every'>): Promise<void> {
  if (process.platform !== 'linux') return;
  try {
    const { default: koffi } = await import('koffi');
    const trim = koffi.load(null).func('int malloc_trim(size_t pad)');
    let trimmedBytes = process.memoryUsage.rss();
    clock.every(LOOK_MS, () => {
      const bytes = process.memoryUsage.rss();
      const hasGrown = bytes > trimmedBytes + GROWN_BYTES;
      if (hasGrown) trim(0);
      trimmedBytes = hasGrown ? process.memoryUsage.rss() : Math.min(trimmedBytes, bytes);
    });
  } catch {
    // Memory is merely given back later.
  }
}
