// `data` and `cache`: where content is kept, and how much of it.
import * as value from '../values.ts';

/** The data directory. */
export const data = value.path.prefault('./data');

export const cache = value
  .section({
    /** Infinity: no cap. */
    maxSize: value.cap.prefault('50GiB'),
    /** Bytes to leave free on the disk. */
    minFree: value.size.prefault('2GiB'),
    /** How long ago content on disk may have been hashed when it is served. */
    verifyEvery: value.duration.prefault('7d'),
  })
  .transform(({ maxSize, minFree, verifyEvery }) => ({
    maxSizeBytes: maxSize,
    minFreeBytes: minFree,
    verifyEveryMs: verifyEvery,
  }));
