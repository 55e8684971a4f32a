// Pushes of manifests: checked → accepted by the upstream → recorded with the tag → listed among the referrers of its
// subject. What was pushed is a hit at once.
import type { KeyedMutex } from '../base/keyed-mutex.ts';
import type { Log } from '../base/log.ts';
import type { Content } from '../content/content.ts';
import type { Metadata } from '../metadata/metadata.ts';
import { algorithmOf, type Digest, digestOf } from '../oci/digest.ts';
import { RegistryError, StorageFailure } from '../oci/errors.ts';
import { parseJsonObject } from '../oci/json.ts';
import { assertValid, type ValidManifest } from '../oci/manifest.ts';
import { readManifest } from '../oci/reading.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import { descriptorOf } from '../oci/referrers.ts';
import type { LocalWrites } from '../pull/local-writes.ts';
import { bytesOf, type Manifest, type Manifests } from '../pull/manifests.ts';
import type { Outcome } from '../pull/outcome.ts';
import type { TagLists } from '../pull/tag-lists.ts';
import type { Tags } from '../pull/tags.ts';
import { isIncomplete, isUnavailable, type PushReceipt, type UpstreamWrites } from '../upstream/upstream.ts';
import type { FallbackReferrers } from './fallback-referrers.ts';
import type { Mounts } from './mount.ts';
import type { WriteOnce } from './write-once.ts';

export interface PushedManifest {
  readonly digest: Digest;
  readonly subject: Digest | undefined;
  readonly outcome: Outcome;
  /** What the client should be told. */
  readonly warning: string | undefined;
}

export interface ManifestPushDependencies {
  readonly content: Content;
  readonly metadata: Pick<Metadata, 'sync'>;
  readonly mounts: Mounts;
  readonly manifests: Manifests;
  readonly tags: Tags;
  readonly tagLists: TagLists;
  readonly localWrites: LocalWrites;
  readonly tagMutex: KeyedMutex;
  readonly fallbackReferrers: FallbackReferrers;
  readonly writeOnce: WriteOnce;
  readonly log: Log;
  writes(repository: Repository): UpstreamWrites;
}

const SOURCE = 'org.opencontainers.image.source';
/** Members of an image config, of which the labels are some: parsed on the event loop. */
const CONFIG_VALUES_LIMIT = 20_000;
/** Parts of a manifest, between two turns of the event loop. */
const LOOKED_UP_AT_ONCE = 10;

export class ManifestPushes {
  readonly #dependencies: ManifestPushDependencies;

  constructor(dependencies: ManifestPushDependencies) {
    this.#dependencies = dependencies;
  }

  /**
   * Pushes the bytes under their reference and further tags. Throws MANIFEST_INVALID, DIGEST_INVALID, DENIED
   * where a tag is written once, and the upstream's errors.
   */
  async push(
    repository: Repository,
    reference: Reference,
    furtherTags: readonly string[],
    contentType: string | undefined,
    bytes: Buffer,
  ): Promise<PushedManifest> {
    const info = await readManifest(bytes, contentType);
    assertValid(info);
    const digest = digestOf(bytes, reference.digest === undefined ? 'sha256' : algorithmOf(reference.digest));
    if (reference.digest !== undefined && reference.digest !== digest) {
      throw new RegistryError('DIGEST_INVALID', `the manifest hashes to ${digest}, not to ${reference.digest}`);
    }
    const manifest = { digest, mediaType: info.mediaType, bytes };

    const tags = reference.tag === undefined ? furtherTags : [reference.tag, ...furtherTags];
    let answer: PushReceipt | undefined;
    let outcome: Outcome | undefined;
    try {
      if (reference.digest !== undefined) {
        answer = await this.#put(repository, manifest);
        outcome = await this.#record(repository, manifest, info.parts, []);
      }
      for (const tag of tags) {
        await this.#dependencies.tagMutex.run(imageName(repository, { tag }), async () => {
          await this.#dependencies.writeOnce.assertMayPut(repository, tag, bytes);
          answer = await this.#putTag(repository, tag, manifest);
          outcome = await this.#record(repository, manifest, info.parts, [tag]);
        });
      }
    } finally {
      // Also after an error: some of the tags may have been accepted.
      this.#dependencies.tagLists.changed(repository);
    }
    if (info.subject !== undefined) {
      const descriptor = descriptorOf(manifest, info);
      await this.#dependencies.fallbackReferrers.add(repository, info.subject, digest, descriptor, answer);
    }
    const warning = await this.#warning(repository, info);
    return { digest, subject: info.subject, outcome: outcome ?? 'miss', warning };
  }

  async #put(repository: Repository, manifest: Manifest): Promise<PushReceipt> {
    const { digest, bytes } = manifest;
    const put = (reference: Reference) => this.#putRestoring(repository, reference, manifest);
    try {
      return await put({ digest });
    } catch (error) {
      // Many registries know no algorithm but sha256, and the bytes are the same.
      const isUnknown = algorithmOf(digest) !== 'sha256' && error instanceof RegistryError && !isUnavailable(error);
      if (!isUnknown) throw error;
      return put({ digest: digestOf(bytes) });
    }
  }

  async #putTag(repository: Repository, tag: string, manifest: Manifest): Promise<PushReceipt> {
    try {
      return await this.#putRestoring(repository, { tag }, manifest);
    } catch (error) {
      // It may have been accepted, and only the response lost.
      if (isUnavailable(error)) this.#dependencies.tags.doubt(repository, tag);
      throw error;
    }
  }

  /** Puts it. An upstream that lacks what it names, as after a package was deleted, gets that from here. */
  async #putRestoring(repository: Repository, reference: Reference, manifest: Manifest): Promise<PushReceipt> {
    try {
      return await this.#putPatiently(repository, reference, manifest);
    } catch (error) {
      if (!isIncomplete(error) || !(await this.#restore(repository, manifest))) throw error;
      return this.#putPatiently(repository, reference, manifest);
    }
  }

  /** Puts it, again if the upstream does not know yet what it accepted a moment ago. */
  async #putPatiently(repository: Repository, reference: Reference, manifest: Manifest): Promise<PushReceipt> {
    const { writes, localWrites } = this.#dependencies;
    const put = () => writes(repository).putManifest(repository, reference, manifest);
    const isLag = async (error: unknown) => {
      if (!isIncomplete(error)) return false;
      const { parts } = await readManifest(manifest.bytes, manifest.mediaType);
      return parts.some(digest => localWrites.stateOf(repository, digest) === 'pushed');
    };
    const receipt = await localWrites.retrying(put, isLag);
    localWrites.pushed(repository, manifest.digest);
    return receipt;
  }

  /** Sends what the manifest names and the upstream lacks; whether anything was here to be sent. */
  async #restore(repository: Repository, manifest: Manifest): Promise<boolean> {
    const { mounts, manifests } = this.#dependencies;
    const named = await readManifest(manifest.bytes, manifest.mediaType);
    let isRestored = false;
    for (const [i, digest] of named.blobs.entries()) {
      if (i % LOOKED_UP_AT_ONCE === 0) await new Promise(setImmediate);
      if (await mounts.restore(repository, digest)) isRestored = true;
    }
    for (const [i, digest] of named.manifests.entries()) {
      // An index may name tens of thousands, and looking them up waits for no one else.
      if (i % LOOKED_UP_AT_ONCE === 0) await new Promise(setImmediate);
      const child = await manifests.find(repository, digest);
      if (child === undefined) continue;
      await this.#put(repository, child);
      isRestored = true;
    }
    return isRestored;
  }

  async #record(
    repository: Repository,
    manifest: Manifest,
    parts: readonly Digest[],
    tags: readonly string[],
  ): Promise<Outcome> {
    const { manifests, metadata, localWrites, log } = this.#dependencies;
    for (const tag of tags) await localWrites.tagged(repository, tag, manifest.digest);
    const outcome = await manifests.store(repository, manifest, parts, tags);
    try {
      await metadata.sync();
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
      log.warn({}, error.message);
    }
    for (const tag of tags) {
      this.#dependencies.tags.arrived(repository, tag);
      // A tag that could not be recorded must not be served with the old manifest.
      if (outcome === 'bypass') this.#dependencies.tags.doubt(repository, tag);
    }
    return outcome;
  }

  /** GitHub connects a package to a repository by the source that the image names. */
  async #warning(repository: Repository, info: ValidManifest): Promise<string | undefined> {
    const { config, mediaType, annotations, artifactType, subject } = info;
    const isIndex = mediaType.includes('index') || mediaType.includes('manifest.list');
    const isImage = isIndex || (config?.mediaType ?? '').includes('image');
    const isArtifact = subject !== undefined || artifactType !== undefined;
    const links = this.#dependencies.writes(repository).capabilities.linksBySourceLabel;
    if (!links || !isImage || isArtifact || annotations?.[SOURCE]) return undefined;
    const labels = isIndex ? {} : await this.#labels(config?.digest);
    if (labels === undefined || labels[SOURCE]) return undefined;
    const how = isIndex ? `an annotation ${SOURCE} on the index` : `a label ${SOURCE}`;
    return `GitHub will not connect this package to a repository: the image lacks ${how}, such as https://github.com/${repository.name}`;
  }

  /** The labels of an image config; undefined if it cannot be read here. */
  async #labels(digest: Digest | undefined): Promise<Record<string, unknown> | undefined> {
    const source = digest && (await this.#dependencies.content.open(digest));
    try {
      const bytes = await bytesOf(source);
      const json = bytes && parseJsonObject(bytes, CONFIG_VALUES_LIMIT);
      return json && Object(Object(json.config).Labels);
    } catch {
      return undefined;
    }
  }
}
