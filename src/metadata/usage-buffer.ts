// Collects pulls in memory and writes them many at once: a hot pull must not cost a transaction. Pulls are written
// from time to time, when many have come together, before eviction asks, and on close. What cannot be written is kept
// for the next time, up to a limit: losing it only makes eviction choose a little worse.
import type { Clock } from '../base/clock.ts';
import type { Digest } from '../oci/digest.ts';
import { StorageFailure } from '../oci/errors.ts';
import type { Metadata, MetadataStore } from './metadata.ts';

const FLUSH_MS = 5_000;
const PULLS_LIMIT = 10_000;
/** In one transaction: more would hold up the event loop. */
const WRITTEN_AT_ONCE = 1_000;

/** Metadata over a database. Closing it closes the database. */
export function bufferUsage(store: MetadataStore, clock: Clock): Metadata {
  const pulls = new Map<Digest, number>();
  let isFlushing = false;

  const flush = async () => {
    if (pulls.size === 0) return;
    isFlushing = true;
    const all = [...pulls];
    try {
      for (let i = 0; i < all.length; i += WRITTEN_AT_ONCE) {
        if (i > 0) await new Promise(setImmediate);
        const written = all.slice(i, i + WRITTEN_AT_ONCE);
        await store.touchAll(written);
        // Not what was pulled again meanwhile.
        for (const [digest, atMs] of written) if (pulls.get(digest) === atMs) pulls.delete(digest);
      }
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
    remove: digests => {
      for (const digest of digests) pulls.delete(digest);
      return store.remove(digests);
    },
    leastRecentlyUsed: async (limit, last) => {
      await flush();
      return store.leastRecentlyUsed(limit, last);
    },
    close: async () => {
      stop();
      await flush().finally(() => store.close());
    },
  };
}
