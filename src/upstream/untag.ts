// Deletes a tag, and the tag alone, at a registry that deletes by digest alone: the tag is moved to a manifest made for
// the purpose, and deleting that one takes the tag along. If that fails the tag is put back.
import type { Clock, Random } from '../base/clock.ts';
import { digestOf } from '../oci/digest.ts';
import { RegistryError, reasonOf } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { isUnavailable, type Upstream, type UpstreamManifest, type UpstreamWrites } from './upstream.ts';

export interface UntagDependencies {
  readonly reads: Upstream;
  readonly writes: UpstreamWrites;
  readonly clock: Clock;
  readonly random: Random;
}

const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const EMPTY = Buffer.from('{}');
const EMPTY_TYPE = 'application/vnd.oci.empty.v1+json';

const RESTORE_ATTEMPTS = 8;
const RESTORE_PAUSE_MS = 1_000;

/** Throws as the verbs of Upstream do; the tag then points where it did, or the error says that it does not. */
export async function untag(dependencies: UntagDependencies, repository: Repository, tag: string): Promise<void> {
  const { reads, writes, random } = dependencies;
  const before = await reads.getManifest(repository, { tag });
  const empty = { mediaType: EMPTY_TYPE, digest: digestOf(EMPTY), size: EMPTY.length };
  await putBlob(writes, repository, EMPTY);
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      artifactType: 'application/vnd.ghcr-cache.untag',
      config: empty,
      layers: [empty],
      // Makes it a manifest of its own, which no other tag points to.
      annotations: { id: random.uuid() },
    }),
  );
  await writes.putManifest(repository, { tag }, { mediaType: MANIFEST_TYPE, bytes });
  try {
    await writes.deleteManifest(repository, { digest: digestOf(bytes) });
  } catch (error) {
    await restore(dependencies, repository, tag, before);
    throw error;
  }
}

/** The upstream may be failing, and the breaker open: the tag is worth waiting until that is over. */
async function restore(
  { writes, clock }: UntagDependencies,
  repository: Repository,
  tag: string,
  { bytes, contentType = MANIFEST_TYPE }: UpstreamManifest,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await writes.putManifest(repository, { tag }, { mediaType: contentType, bytes });
      return;
    } catch (error) {
      const { retryAfterMs = 0 } = error as RegistryError;
      if (attempt < RESTORE_ATTEMPTS && (isUnavailable(error) || retryAfterMs > 0)) {
        await clock.sleep(Math.max(RESTORE_PAUSE_MS, retryAfterMs));
        continue;
      }
      throw new RegistryError(
        'UPSTREAM_UNAVAILABLE',
        `${imageName(repository, { tag })} could not be deleted, and now points to a manifest that was made for that; ` +
          `push ${digestOf(bytes)} to it again: ${reasonOf(error)}`,
        { cause: error },
      );
    }
  }
}

async function putBlob(writes: UpstreamWrites, repository: Repository, bytes: Buffer): Promise<void> {
  const digest = digestOf(bytes);
  if (await writes.holdsBlob(repository, digest)) return;
  const location = await writes.startUpload(repository);
  async function* all() {
    yield bytes;
  }
  const { signal } = new AbortController();
  await writes.finishUpload(repository, location, digest, signal, { sizeBytes: bytes.length, bytes: all });
}
