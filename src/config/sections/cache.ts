// `data` and `cache`: where content is kept, and how much of it.
import type { z } from 'zod';
import * as value from '../values.ts';

export type CacheConfig = z.output<typeof cache>;

/** The data directory. */
export const data = value.path.prefault('./data');

export const cache = value
  .section({
    /** Infinity: no cap. */
    maxSize: value.cap.prefault('50GiB'),
    /** Bytes to leave free on the disk. */
    minFree: value.size.prefault('2GiB'),
  })
  .transform(({ maxSize, minFree, ...rest }) => ({ ...rest, maxSizeBytes: maxSize, minFreeBytes: minFree }));
