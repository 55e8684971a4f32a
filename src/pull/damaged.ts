// Content that is on record and cannot be served, because its bytes are gone or are not what they were.
import type { Log } from '../base/log.ts';
import type { Digest } from '../oci/digest.ts';
import { StorageFailure } from '../oci/errors.ts';
import type { Budget } from '../retention/budget.ts';

/** Drops it, so that it is fetched again, and says so. `what` is the image, as a person writes it. */
export async function dropDamaged(
  { budget, log }: { budget: Budget; log: Log },
  what: string,
  digest: Digest,
  isGone: boolean,
): Promise<void> {
  // Gone is what an eviction leaves to somebody who looked it up just before; anything else is rot.
  if (isGone) log.info({ digest }, `${what} is no longer on disk; it is fetched again`);
  else log.error({ digest }, `${what} is damaged on disk; it is dropped and fetched again`);
  try {
    await budget.remove(digest);
  } catch (error) {
    if (!(error instanceof StorageFailure)) throw error;
    log.error({ digest }, `${what} could not be dropped: ${error.message}`);
  }
}
