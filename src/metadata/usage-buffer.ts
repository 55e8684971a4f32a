// Collects pulls in memory and writes them many at once: a hot pull must not cost a transaction. Pulls are written
// from time to time, when many have come together, before eviction asks, and on close. What cannot be written is kept
// for the next time, up to a limit: losing it only makes eviction choose a little worse.
import type { Clock } from '../base/clock.ts';
import type { Digest } from '../oci/digest.ts';
import { StorageFailure } from '../oci/errors.ts';
import type { Metadata, MetadataStore } from './metadata.ts';

const FLUSH_MS = 5_000;
const PULLS_LIMIT = 10_000;

/** Metadata over a database. Closing it closes the database. */
export function bufferUsage(store: MetadataStore, clock: Clock): Metadata {
  const pulls = new Map<Digest, number>();
  let isFlushing = false;

  const flush = async () => {
    if (pulls.size === 0) return;
    isFlushing = true;
    const written = [...pulls];
    try {
      await store.touchAll(written);
      // Not what was pulled again meanwhile.
      for (const [digest, atMs] of written) if (pulls.get(digest) === atMs) pulls.delete(digest);
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
      if (pulls.size >= PULLS_LIMIT) pulls.clear();
    } finally {
      isFlushing = false;
    }
  };
  const stop = clock.every(FLUSH_MS, () => void flush());

  return {
    ...store,
    touch: digest => {
      if (pulls.size < PULLS_LIMIT || pulls.has(digest)) pulls.set(digest, clock.now());
      if (pulls.size >= PULLS_LIMIT && !isFlushing) void flush();
    },
    remove: digest => {
      pulls.delete(digest);
      return store.remove(digest);
    },
    leastRecentlyUsed: async (limit, pins) => {
      await flush();
      return store.leastRecentlyUsed(limit, pins);
    },
    close: async () => {
      stop();
      await flush().finally(() => store.close());
    },
  };
}
