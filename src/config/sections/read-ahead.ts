import * as value from '../values.ts';

/** Whether a client that begins to pull an image brings the rest of it. */
export const readAhead = value.flag.prefault(true);
