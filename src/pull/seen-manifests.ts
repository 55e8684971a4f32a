// The manifests that clients were given a moment ago: what they ask for next, and how large that is said to be.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import { ExpiringCache } from '../base/expiring-cache.ts';
import type { Digest } from '../oci/digest.ts';
import { readManifest } from '../oci/reading.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { Manifests } from './manifests.ts';

export interface SeenManifest {
  readonly digest: Digest;
  /** It is read ahead, for this client. */
  isReadAhead: boolean;
}

/** The config and layers of an image, in their order, with the sizes in bytes that it says they have. */
export type ImageBlobs = ReadonlyMap<Digest, number | undefined>;

/** How long after a manifest its blobs are asked for. */
const SEEN_MS = 10 * 60_000;
const SEEN_LIMIT = 10_000;
/** An index, the manifest of a platform, and that of its attestation; and as much for another image of the repository. */
const SEEN_PER_CLIENT = 6;
const IMAGES_LIMIT = 200;
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
  async find(
    client: string,
    repository: Repository,
    blob: Digest,
  ): Promise<{ manifest: SeenManifest; blobs: ImageBlobs } | undefined> {
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
    const manifest = await this.#manifests.look(repository, digest);
    if (manifest === undefined) return undefined;
    const { blobs, sizes } = await readManifest(manifest.bytes, manifest.mediaType);
    const found = new Map(blobs.map(blob => [blob, sizes[blob]]));
    this.#images.set(digest, found);
    return found;
  }
}

function keyOf(client: string, repository: Repository): string {
  return `${client} ${imageName(repository)}`;
}
