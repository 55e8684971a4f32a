// Pulling a manifest by digest, and storing one that was asked for by tag or digest. Manifests are content as blobs are,
// but small: they are held in memory as a whole, and checked before any client gets a byte.
import { SingleFlight } from '../base/single-flight.ts';
import { type OpenContent, StorageFailure } from '../content/content.ts';
import { readFully } from '../content/read.ts';
import type { LinkStore, TagStore, UsageStore } from '../metadata/metadata.ts';
import { algorithmOf, type Digest, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { isSchema1, MANIFEST_LIMIT_BYTES } from '../oci/manifest.ts';
import { readManifest } from '../oci/reading.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import { isInvalid, isNotFound, type UpstreamManifest } from '../upstream/upstream.ts';
import { removeDamaged } from './damaged.ts';
import { type FlightDependencies, wrongBytes } from './flight.ts';
import type { Freshness } from './freshness.ts';
import { NegativeCache } from './negative-cache.ts';
import type { Outcome, Staleness } from './outcome.ts';

export interface Manifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

export interface PulledManifest {
  readonly manifest: Manifest;
  readonly outcome: Outcome;
  readonly stale?: Staleness;
}

export interface ManifestDependencies extends Omit<FlightDependencies, 'signal' | 'partials'> {
  readonly metadata: LinkStore & TagStore & UsageStore;
  /** Where tags are confirmed. */
  readonly freshness: Freshness;
}

export class Manifests {
  readonly #dependencies: ManifestDependencies;
  readonly #fetching = new SingleFlight<PulledManifest>();
  readonly #missing: NegativeCache;

  constructor(dependencies: ManifestDependencies) {
    this.#dependencies = dependencies;
    this.#missing = new NegativeCache(dependencies);
  }

  /** Find link → open content → touch; else one fetch for all concurrent calls. Throws as the verbs of Upstream do. */
  async pull(repository: Repository, digest: Digest): Promise<PulledManifest> {
    // Looked up first: what was not found a moment ago may have been pushed since.
    const manifest = await this.find(repository, digest);
    if (manifest !== undefined) return { manifest, outcome: 'hit' };
    const key = imageName(repository, { digest });
    return this.#missing.unlessKnown(repository, { digest }, async () => {
      const { result, joined } = this.#fetching.run(key, () => this.#miss(repository, digest));
      return joined ? { ...(await result), outcome: 'joined' } : result;
    });
  }

  /** The manifest if it is here and this repository may serve it, which counts as a pull of it. */
  find(repository: Repository, digest: Digest): Promise<Manifest | undefined> {
    return this.#read(repository, digest, true);
  }

  /** The same, without that it counts. */
  look(repository: Repository, digest: Digest): Promise<Manifest | undefined> {
    return this.#read(repository, digest, false);
  }

  async #read(repository: Repository, digest: Digest, isPull: boolean): Promise<Manifest | undefined> {
    const { metadata, content } = this.#dependencies;
    const row = await metadata.findManifest(repository, digest);
    if (row === undefined) return undefined;
    const bytes = await bytesOf(await content.open(digest));
    if (bytes === undefined) {
      const isGone = (await content.sizeOf(digest)) === undefined;
      await removeDamaged(this.#dependencies, imageName(repository, { digest }), digest, isGone);
      return undefined;
    }
    if (isPull) metadata.touch(digest);
    return { digest, mediaType: row.mediaType, bytes };
  }

  /** Asks the upstream for it, by tag or digest, and stores it; by tag also that the tag points to it. */
  fetch(repository: Repository, reference: Reference): Promise<PulledManifest> {
    const upstream = this.#dependencies.upstream(repository);
    return this.#twice(async () =>
      this.#accept(repository, reference, await upstream.getManifest(repository, reference)),
    );
  }

  /** Asks the upstream whether the tag still points to this manifest; if not, stores the one that it points to now. */
  revalidate(repository: Repository, tag: string, manifest: Manifest): Promise<PulledManifest> {
    const { upstream, metadata, freshness, log } = this.#dependencies;
    const what = imageName(repository, { tag });
    return this.#twice(async () => {
      const came = await upstream(repository).getIfChanged(repository, tag, manifest.digest);
      // A response without a digest is told by its bytes.
      if (came !== undefined && !came.bytes.equals(manifest.bytes)) return this.#accept(repository, { tag }, came);
      try {
        await metadata.confirmTag(repository, tag);
        freshness.confirmed(what);
      } catch (error) {
        if (!(error instanceof StorageFailure)) throw error;
        log.warn({}, `${what} was confirmed, which cannot be recorded: ${error.message}`);
      }
      return { manifest, outcome: 'revalidated' };
    });
  }

  async #miss(repository: Repository, digest: Digest): Promise<PulledManifest> {
    const { content, metadata, upstream } = this.#dependencies;
    // Here through another repository: this one's upstream has to confirm that it holds it too.
    const sizeBytes = await content.sizeOf(digest);
    if (sizeBytes !== undefined && sizeBytes <= MANIFEST_LIMIT_BYTES) {
      const bytes = await bytesOf(await content.open(digest));
      const { mediaType, parts = [] } = (bytes && (await readManifest(bytes, undefined))) ?? {};
      if (bytes !== undefined && mediaType !== undefined) {
        // Some answer 404 to HEAD alone: then it is asked for.
        const isThere = await upstream(repository)
          .confirmManifest(repository, digest)
          .then(() => true)
          .catch(falseIfNotFound);
        if (!isThere) return this.fetch(repository, { digest });
        await metadata.linkManifest(repository, { digest, mediaType, sizeBytes, parts });
        return { manifest: { digest, mediaType, bytes }, outcome: 'revalidated' };
      }
    }
    return this.fetch(repository, { digest });
  }

  /** Does the work once more when the response was invalid. */
  async #twice(work: () => Promise<PulledManifest>): Promise<PulledManifest> {
    try {
      return await work();
    } catch (error) {
      if (!isInvalid(error)) throw error;
      this.#dependencies.log.warn({}, `${error.message}; trying once more`);
      return work();
    }
  }

  /** Checks the response, and stores it. */
  async #accept(repository: Repository, reference: Reference, came: UpstreamManifest): Promise<PulledManifest> {
    const what = imageName(repository, reference);
    const { bytes, contentType } = came;
    const expected = reference.digest ?? came.digest;
    const digest = digestOf(bytes, expected === undefined ? 'sha256' : algorithmOf(expected));
    if (expected !== undefined && digest !== expected) throw wrongBytes(what, bytes.length, contentType, digest);
    const { mediaType, parts } = await readManifest(bytes, contentType);
    if (mediaType === undefined) {
      if (isSchema1(bytes, contentType)) throw tooOld(what);
      const type = `${bytes.length} bytes of ${contentType ?? 'no type'}`;
      throw new RegistryError('UPSTREAM_INVALID', `the upstream sent no manifest for ${what}: ${type}`);
    }
    const manifest = { digest, mediaType, bytes };
    const tags = reference.tag === undefined ? [] : [reference.tag];
    return { manifest, outcome: await this.store(repository, manifest, parts, tags) };
  }

  /**
   * Reserve → write and hash → publish → settle → link, with its parts and tags. For a manifest that the upstream is
   * known to hold. `bypass` when it cannot be stored.
   */
  async store(
    repository: Repository,
    manifest: Manifest,
    parts: readonly Digest[],
    tags: readonly string[],
  ): Promise<'miss' | 'bypass'> {
    const { content, metadata, budget, log, freshness } = this.#dependencies;
    const { digest, mediaType, bytes } = manifest;
    const what = imageName(repository, { digest });
    this.#missing.forget(repository, { digest });
    const row = { digest, mediaType, sizeBytes: bytes.length, parts };
    try {
      if ((await content.sizeOf(digest)) === undefined) {
        const reservation = await budget.reserve(bytes.length);
        try {
          await reservation.take(bytes.length);
          reservation.settle((await this.#write(digest, bytes)) ? bytes.length : 0);
        } catch (error) {
          reservation.release();
          throw error;
        }
      }
      await metadata.linkManifest(repository, row, tags);
      for (const tag of tags) freshness.confirmed(imageName(repository, { tag }));
      return 'miss';
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
      log.warn({ digest }, `${what} is passed through without being kept: ${error.message}`);
      return 'bypass';
    }
  }

  async #write(digest: Digest, bytes: Buffer): Promise<boolean> {
    const { ingests, content } = this.#dependencies;
    const ingest = await ingests.begin(algorithmOf(digest));
    try {
      await ingest.write(Buffer.from(bytes));
      await ingest.finish();
    } catch (error) {
      await ingest.abort();
      throw error;
    }
    return content.publish(ingest, digest);
  }
}

function falseIfNotFound(error: unknown): false {
  if (isNotFound(error)) return false;
  throw error;
}

/** The error of an image that was never converted: no current client pulls such a one either. */
function tooOld(what: string): RegistryError {
  const why = 'its manifest has the format of 2014 (schema 1), which neither this cache nor current clients support';
  return new RegistryError('MANIFEST_UNKNOWN', `${what} cannot be pulled: ${why}. Build and push it again`);
}

/** All bytes of opened content, verified; undefined when they are not right. Closes it. */
export function bytesOf(opened: OpenContent | undefined): Buffer | undefined | Promise<Buffer | undefined> {
  if (opened?.bytes === undefined) return opened && readWhole(opened);
  opened.close();
  return opened.bytes;
}

async function readWhole(opened: OpenContent): Promise<Buffer | undefined> {
  try {
    if (opened.sizeBytes > MANIFEST_LIMIT_BYTES || !(await opened.verify())) return undefined;
    const bytes = Buffer.allocUnsafeSlow(opened.sizeBytes);
    return (await readFully(opened, bytes)) === bytes.length ? bytes : undefined;
  } finally {
    opened.close();
  }
}
