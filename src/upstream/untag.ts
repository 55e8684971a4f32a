// Deleting a tag, and the tag alone, at a registry that deletes by digest alone: the tag is moved to a manifest
// made for the purpose, and that one is deleted, which takes the tag along.
import { randomUUID } from 'node:crypto';
import { digestOf } from '../oci/digest.ts';
import type { Repository } from '../oci/reference.ts';
import type { Upstream, UpstreamWrites } from './upstream.ts';

const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const EMPTY = Buffer.from('{}');
const EMPTY_TYPE = 'application/vnd.oci.empty.v1+json';

/** Throws as the verbs of Upstream do; the tag then points where it did. */
export async function untag(
  upstream: Upstream,
  writes: UpstreamWrites,
  repository: Repository,
  tag: string,
): Promise<void> {
  const before = await upstream.getManifest(repository, { tag });
  const empty = { mediaType: EMPTY_TYPE, digest: digestOf(EMPTY), size: EMPTY.length };
  await putBlob(writes, repository, EMPTY);
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      artifactType: 'application/vnd.ghcr-cache.untag',
      config: empty,
      layers: [empty],
      // So that it is a manifest of its own, which nothing else points to.
      annotations: { id: randomUUID() },
    }),
  );
  await writes.putManifest(repository, { tag }, { mediaType: MANIFEST_TYPE, bytes });
  try {
    await writes.deleteManifest(repository, { digest: digestOf(bytes) });
  } catch (error) {
    const mediaType = before.contentType ?? MANIFEST_TYPE;
    await writes.putManifest(repository, { tag }, { mediaType, bytes: before.bytes });
    throw error;
  }
}

async function putBlob(writes: UpstreamWrites, repository: Repository, bytes: Buffer): Promise<void> {
  const digest = digestOf(bytes);
  if (await writes.holdsBlob(repository, digest)) return;
  const location = await writes.startUpload(repository);
  async function* all() {
    yield bytes;
  }
  const signal = new AbortController().signal;
  await writes.finishUpload(repository, location, digest, signal, { sizeBytes: bytes.length, bytes: all });
}
