// The manifests that clients were given a moment ago: what they ask for next, and how large that is said to be.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import { ExpiringCache } from '../base/expiring-cache.ts';
import { SingleFlight } from '../base/single-flight.ts';
import type { Digest } from '../oci/digest.ts';
import { inspectManifest, type ManifestInfo } from '../oci/manifest.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { Manifests } from './manifests.ts';

export interface SeenManifest {
  readonly digest: Digest;
  /** It is read ahead, for this client. */
  isReadAhead: boolean;
}

/** The config and layers of an image, in their order, with the sizes in bytes that it says they have. */
export type ImageBlobs = ReadonlyMap<Digest, number | undefined>;

export interface SeenImage {
  readonly manifest: SeenManifest;
  readonly blobs: ImageBlobs;
}

/** How long after a manifest its blobs are asked for. */
const SEEN_MS = 10 * 60_000;
const SEEN_LIMIT = 10_000;
/** An index, the manifest of a platform, and that of its attestation; and as much for another image of the repository. */
const SEEN_PER_CLIENT = 6;
const IMAGES_LIMIT = 200;
/** A larger manifest is of no ordinary image, and takes long to read. */
const IMAGE_LIMIT_BYTES = 64 * 1024;
const NOTHING: Pick<ManifestInfo, 'blobs' | 'sizes'> = { blobs: [], sizes: {} };
/** A client that is given the same again within this time is not noted again: hot manifests cost nothing here. */
const SAME_MS = 1_000;

interface Given extends Repository {
  readonly client: string;
  readonly untilMs: number;
}

export class SeenManifests {
  readonly #manifests: Pick<Manifests, 'look'>;
  readonly #clock: Pick<Clock, 'monotonic'>;
  /** Whom a manifest was given to last. */
  readonly #last = new LRUCache<Digest, Given>({ max: SEEN_LIMIT });
  /** By client and repository, the newest last. */
  readonly #seen: ExpiringCache<SeenManifest[]>;
  readonly #reading = new SingleFlight<ImageBlobs | undefined>();
  readonly #images = new LRUCache<Digest, Map<Digest, number | undefined>>({ max: IMAGES_LIMIT });

  constructor(manifests: Pick<Manifests, 'look'>, clock: Pick<Clock, 'monotonic'>) {
    this.#manifests = manifests;
    this.#clock = clock;
    this.#seen = new ExpiringCache({ clock, max: SEEN_LIMIT, ttlMs: SEEN_MS });
  }

  /** The client is given this manifest. */
  gave(client: string, repository: Repository, digest: Digest): void {
    const last = this.#last.get(digest);
    const nowMs = this.#clock.monotonic();
    const isSame = last?.client === client && last.name === repository.name && last.upstream === repository.upstream;
    if (isSame && nowMs < last.untilMs) return;
    this.#last.set(digest, { client, name: repository.name, upstream: repository.upstream, untilMs: nowMs + SAME_MS });
    const key = keyOf(client, repository);
    const others = this.#seen.get(key)?.filter(seen => seen.digest !== digest) ?? [];
    this.#seen.set(key, [...others, { digest, isReadAhead: false }].slice(-SEEN_PER_CLIENT));
  }

  /** The newest one that the client was given which names the blob, and all that it names. Never rejects. */
  async find(client: string, repository: Repository, blob: Digest): Promise<SeenImage | undefined> {
    const seen = this.#seen.get(keyOf(client, repository)) ?? [];
    for (const manifest of seen.toReversed()) {
      const blobs = await this.#blobsOf(repository, manifest.digest).catch(() => undefined);
      if (blobs?.has(blob)) return { manifest, blobs };
    }
    return undefined;
  }

  async #blobsOf(repository: Repository, digest: Digest): Promise<ImageBlobs | undefined> {
    const known = this.#images.get(digest);
    if (known !== undefined) return known;
    return this.#reading.run(imageName(repository, { digest }), async () => {
      const manifest = await this.#manifests.look(repository, digest);
      if (manifest === undefined) return undefined;
      const isLarge = manifest.bytes.length > IMAGE_LIMIT_BYTES;
      const { blobs, sizes } = isLarge ? NOTHING : inspectManifest(manifest.bytes, manifest.mediaType);
      const found = new Map(blobs.map(blob => [blob, sizes[blob]]));
      this.#images.set(digest, found);
      return found;
    }).result;
  }
}

function keyOf(client: string, repository: Repository): string {
  return `${client} ${imageName(repository)}`;
}
