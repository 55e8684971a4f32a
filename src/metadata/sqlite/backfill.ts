// Records the parts of manifests that were linked before parts were recorded (step 3 of the schema). Done in the
// background and in small transactions, so that neither the start nor a pull waits for it. What is still to be read
// stands in the database, so it goes on after a crash; reading a manifest twice changes nothing.
import type { Digest } from '../../oci/digest.ts';
import { readManifest as inspect } from '../../oci/reading.ts';
import type { RecoverableFile } from './recovery.ts';

/** The bytes of a manifest; undefined when they are gone or not right. A rejection leaves it to the next start. */
export type ReadManifest = (digest: Digest) => Promise<Uint8Array | undefined>;

const MANIFESTS_AT_ONCE = 100;
const PARTS_AT_ONCE = 1_000;

/** Resolves when none is left. Does not use the file once the signal is aborted. Throws StorageFailure. */
export async function backfillParts(
  file: RecoverableFile,
  readManifest: ReadManifest,
  signal: AbortSignal,
): Promise<void> {
  for (let last = ''; ; ) {
    const digests = file.run(sql => sql.unreadManifests.all(last, MANIFESTS_AT_ONCE)) as Digest[];
    last = digests.at(-1) ?? '';
    if (last === '') return;
    let read: { digest: Digest; parts: readonly Digest[] }[] = [];
    let count = 0;
    for (const digest of digests) {
      const bytes = await readManifest(digest).catch(() => null);
      if (signal.aborted) return;
      if (bytes === null) continue;
      const { parts } = bytes === undefined ? { parts: [] } : await inspect(bytes, undefined);
      if (signal.aborted) return;
      read.push({ digest, parts });
      count += parts.length;
      if (count < PARTS_AT_ONCE) continue;
      record(file, read);
      [read, count] = [[], 0];
    }
    record(file, read);
  }
}

function record(file: RecoverableFile, read: readonly { digest: Digest; parts: readonly Digest[] }[]): void {
  file.transaction(sql => {
    for (const { digest, parts } of read) {
      sql.putUnreadParts.run(JSON.stringify(parts), digest);
      sql.markRead.run(digest);
    }
  });
}
