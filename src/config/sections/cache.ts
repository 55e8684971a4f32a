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
  })
  .transform(({ maxSize, minFree }) => ({ maxSizeBytes: maxSize, minFreeBytes: minFree }));
