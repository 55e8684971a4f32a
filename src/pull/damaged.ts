// Content that is recorded and cannot be served, because its bytes are gone or have changed.
import type { Log } from '../base/log.ts';
import type { Digest } from '../oci/digest.ts';
import { StorageFailure } from '../oci/errors.ts';
import type { Budget } from '../retention/budget.ts';

/** Removes it, so that it is fetched again, and logs that. `what` is the image, as a person writes it. */
export async function removeDamaged(
  { budget, log }: { budget: Budget; log: Log },
  what: string,
  digest: Digest,
  isGone: boolean,
): Promise<void> {
  // Gone is what a lookup finds when the content is evicted just after it; anything else is rot.
  if (isGone) log.info({ digest }, `${what} is no longer on disk; it is fetched again`);
  else log.error({ digest }, `${what} is damaged on disk; it is removed and fetched again`);
  try {
    await budget.remove(digest);
  } catch (error) {
    if (!(error instanceof StorageFailure)) throw error;
    log.error({ digest }, `${what} could not be removed: ${error.message}`);
  }
}
