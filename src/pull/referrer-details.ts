// What an entry of an index of referrers should tell of its manifest and does not: cosign 3 lists its signatures by the
// type of their empty config, and without annotations, so that no filter finds them. It is read from the manifest.
import { parseDigest } from '../oci/digest.ts';
import { readManifest } from '../oci/reading.ts';
import type { Repository } from '../oci/reference.ts';
import { artifactTypeOf, descriptorOf, entryDigest } from '../oci/referrers.ts';
import { isUnavailable } from '../upstream/upstream.ts';
import type { Manifests } from './manifests.ts';

const EMPTY_TYPE = 'application/vnd.oci.empty.v1+json';
/** Of one list; more are left as they are. */
const READ_LIMIT = 100;
const CONCURRENT_READS = 8;

/** The entries, with type and annotations of their manifests where they lack them. What cannot be read stays as it is. */
export async function withDetails(
  manifests: Pick<Manifests, 'pull'>,
  repository: Repository,
  entries: readonly unknown[],
): Promise<readonly unknown[]> {
  const lacking = entries.flatMap((entry, i) => (lacksDetails(entry) ? [i] : [])).slice(0, READ_LIMIT);
  if (lacking.length === 0) return entries;
  const completed = [...entries];
  let isAway = false;
  const rest = lacking.values();
  const read = async () => {
    // An upstream that is away is not waited for a hundred times.
    for (const i of rest) {
      if (isAway) return;
      completed[i] = await completedEntry(manifests, repository, entries[i]).catch(error => {
        isAway ||= isUnavailable(error);
        return entries[i];
      });
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT_READS }, read));
  return completed;
}

function lacksDetails(entry: unknown): boolean {
  const type = artifactTypeOf(entry);
  return entryDigest(entry) !== undefined && (type === undefined || type === '' || type === EMPTY_TYPE);
}

async function completedEntry(
  manifests: Pick<Manifests, 'pull'>,
  repository: Repository,
  entry: unknown,
): Promise<unknown> {
  const digest = parseDigest(entryDigest(entry) ?? '');
  if (digest === undefined) return entry;
  const { manifest } = await manifests.pull(repository, digest);
  const { artifactType, annotations } = descriptorOf(manifest, await readManifest(manifest.bytes, manifest.mediaType));
  // What the entry tells itself is kept, but its type.
  const told = { ...(annotations !== undefined && { annotations }), ...(entry as object) };
  return artifactType === undefined ? told : { ...told, artifactType };
}
