// Blobs that get into a repository of the upstream without a client sending them: mounted from another repository by the
// upstream, or else sent from here, and those that the upstream has lost.
import type { Digest } from '../oci/digest.ts';
import { RegistryError, StorageFailure } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { LocalWrites } from '../pull/local-writes.ts';
import { isNotFound, isUnavailable, type UpstreamWrites } from '../upstream/upstream.ts';
import type { UploadDependencies } from './upload.ts';

type Shared = Pick<UploadDependencies, 'content' | 'metadata' | 'blobs' | 'relays' | 'log'>;

export interface MountDependencies extends Shared {
  readonly localWrites: Pick<LocalWrites, 'retrying'>;
  writes(repository: Repository): UpstreamWrites;
}

/** What is larger takes too long to send for a client that waits for the response. */
const SENT_LIMIT_BYTES = 256 * 1024 * 1024;

/** For some seconds: after that it is sent, if it is here, or else the client sends it. */
const SHOW_ATTEMPTS = 4;

export class Mounts {
  readonly #dependencies: MountDependencies;

  constructor(dependencies: MountDependencies) {
    this.#dependencies = dependencies;
  }

  /**
   * Puts a blob of the repository `from`, or of any of the same upstream if that is undefined, into this one (OCI
   * distribution spec, "Mounting a blob from another repository"). False when the client has to send it. Throws
   * when the upstream is unavailable.
   */
  async mount(repository: Repository, digest: Digest, from: Repository | undefined): Promise<boolean> {
    const { metadata, blobs } = this.#dependencies;
    const source = from ?? (await metadata.findHolder(repository.upstream, digest));
    if (source === undefined) return false;
    const isMounted = await this.#mountUpstream(repository, digest, source);
    if (!isMounted && !(await this.#send(repository, digest, source))) return false;
    blobs.arrived(repository, digest);
    await this.#link(repository, digest);
    return true;
  }

  /** Sends a blob of the repository that is here to an upstream that has lost it; false when that cannot be done. */
  async restore(repository: Repository, digest: Digest): Promise<boolean> {
    const isSent = await this.#send(repository, digest, repository);
    if (isSent) this.#dependencies.blobs.arrived(repository, digest);
    return isSent;
  }

  async #mountUpstream(repository: Repository, digest: Digest, from: Repository): Promise<boolean> {
    const { localWrites } = this.#dependencies;
    const writes = this.#dependencies.writes(repository);
    const isClaimed = await writes.mountBlob(repository, digest, from).catch(falseUnlessUnavailable);
    if (!isClaimed) return false;
    // Not taken at its word: a mounted blob that cannot be pulled is none. It may show a little later.
    const show = async () => {
      if (await writes.holdsBlob(repository, digest)) return true;
      throw new RegistryError('BLOB_UNKNOWN', `${imageName(repository, { digest })} is said to be mounted, and is not`);
    };
    return localWrites.retrying(show, isNotFound, { attempts: SHOW_ATTEMPTS }).catch(falseUnlessUnavailable);
  }

  /** Sends a blob of the repository `from`, if it is here and right and not too large. */
  async #send(repository: Repository, digest: Digest, from: Repository): Promise<boolean> {
    const { content, metadata, relays } = this.#dependencies;
    if ((await metadata.findBlob(from, digest)) === undefined) return false;
    const source = await content.open(digest);
    if (source === undefined) return false;
    try {
      if (source.sizeBytes > SENT_LIMIT_BYTES || !(await source.verify())) return false;
      await relays.sendStored(repository, digest, source);
      return true;
    } catch (error) {
      return falseUnlessUnavailable(error);
    } finally {
      source.close();
    }
  }

  async #link(repository: Repository, digest: Digest): Promise<void> {
    const { content, metadata, log } = this.#dependencies;
    const sizeBytes = await content.sizeOf(digest);
    if (sizeBytes === undefined) return;
    try {
      await metadata.linkBlob([repository], { digest, sizeBytes });
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
      log.warn({ digest }, `${imageName(repository, { digest })} was mounted but is not kept: ${error.message}`);
    }
  }
}

function falseUnlessUnavailable(error: unknown): false {
  if (isUnavailable(error)) throw error;
  return false;
}
