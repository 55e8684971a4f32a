// Reads images ahead: when a client asks for a blob of a manifest that it was given a moment ago, and that blob is not
// here, the others of the manifest that are not here either are fetched too, in their order. They have spare connections
// (upstream/spare-connections.ts), so they take nothing from what clients wait for. A client that asks for manifests alone
// causes nothing.
//
// What is read ahead and not asked for soon was wasted (read-ahead-waste.ts), and a repository with more waste than use is
// not read ahead for a day.
import type { Clock } from '../base/clock.ts';
import { ExpiringCache } from '../base/expiring-cache.ts';
import type { Log } from '../base/log.ts';
import type { Digest } from '../oci/digest.ts';
import { readManifest } from '../oci/reading.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { Permit } from '../upstream/permits.ts';
import type { SpareUser } from '../upstream/spare-connections.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { BlobWatcher, FetchedAhead } from './blobs.ts';
import type { Caller } from './caller.ts';
import type { Manifests } from './manifests.ts';
import { ReadAheadWaste } from './read-ahead-waste.ts';

export interface ReadAheadDependencies {
  readonly manifests: Pick<Manifests, 'find'>;
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly log: Log;
  /** Ends all of it: the server is shutting down. */
  readonly signal: AbortSignal;
  upstream(repository: Repository): Upstream;
  /** Blobs.fetchAhead. */
  fetchAhead(repository: Repository, digest: Digest, client: string, permit: Permit): Promise<FetchedAhead>;
}

/** An image that is read ahead. */
interface Image {
  readonly repository: Repository;
  readonly client: string;
  /** Blobs in a row that could not be had. */
  failures: number;
}

/** Resolves to whether the image is worth going on with. */
type Fetch = (image: Image, digest: Digest, permit: Permit) => Promise<boolean>;

/** How long after a manifest its blobs are asked for. */
const SEEN_MS = 10 * 60_000;
const SEEN_LIMIT = 10_000;
/** An index, the manifest of a platform, and that of its attestation; and as much for another image of the repository. */
const SEEN_PER_CLIENT = 6;
const AT_ONCE = 24;
const QUEUE_LIMIT = 2_000;
const FAILURES_LIMIT = 2;

export class ReadAhead implements BlobWatcher {
  readonly #dependencies: ReadAheadDependencies;
  readonly waste: ReadAheadWaste;
  /** The manifests that a client was given of a repository, and that have not been read ahead since; the newest last. */
  readonly #seen: ExpiringCache<Digest[]>;
  readonly #queues = new Map<string, Queue>();

  constructor(dependencies: ReadAheadDependencies) {
    this.#dependencies = dependencies;
    this.waste = new ReadAheadWaste(dependencies);
    this.#seen = new ExpiringCache({ clock: dependencies.clock, max: SEEN_LIMIT, ttlMs: SEEN_MS });
  }

  /** The client is given this manifest. */
  gave({ client }: Caller, repository: Repository, manifest: Digest): void {
    const key = keyOf(client, repository);
    const seen = this.#seen.get(key)?.filter(digest => digest !== manifest) ?? [];
    this.#seen.set(key, [...seen, manifest].slice(-SEEN_PER_CLIENT));
  }

  hit(digest: Digest): void {
    this.waste.used(digest);
  }

  missed({ client, isPartial }: Caller, repository: Repository, digest: Digest): void {
    const seen = this.#seen.get(keyOf(client, repository));
    // One that asks for ranges pulls lazily: it does not want all of it.
    if (seen === undefined || isPartial || this.waste.isWasteful(repository)) return;
    void this.#begin({ repository, client, failures: 0 }, digest, seen).catch(() => {});
  }

  /** Finds the manifest that the blob is of. */
  async #begin(image: Image, asked: Digest, seen: readonly Digest[]): Promise<void> {
    const { repository, client } = image;
    for (const digest of seen.toReversed()) {
      const manifest = await this.#dependencies.manifests.find(repository, digest);
      const { blobs = [] } = (manifest && (await readManifest(manifest.bytes, manifest.mediaType))) ?? {};
      if (!blobs.includes(asked)) continue;
      const key = keyOf(client, repository);
      // All that it asks for next of this manifest is being fetched.
      this.#seen.set(key, this.#seen.get(key)?.filter(each => each !== digest) ?? []);
      this.#queueOf(repository).add(
        image,
        blobs.filter(blob => blob !== asked),
      );
      return;
    }
  }

  #queueOf(repository: Repository): Queue {
    const known = this.#queues.get(repository.upstream);
    if (known !== undefined) return known;
    const { upstream } = this.#dependencies;
    const queue = new Queue(upstream(repository), (image, digest, permit) => this.#fetch(image, digest, permit));
    this.#queues.set(repository.upstream, queue);
    return queue;
  }

  /** Resolves to whether the image is worth going on with. */
  async #fetch(image: Image, digest: Digest, permit: Permit): Promise<boolean> {
    const { fetchAhead, signal } = this.#dependencies;
    const { repository, client } = image;
    if (signal.aborted || this.waste.isWasteful(repository)) return false;
    const { isHere, unaskedBytes } = await fetchAhead(repository, digest, client, permit);
    image.failures = isHere ? 0 : image.failures + 1;
    if (unaskedBytes > 0) this.waste.fetched(repository, digest, unaskedBytes);
    return image.failures < FAILURES_LIMIT;
  }
}

/** What is read ahead of one upstream. */
class Queue implements SpareUser {
  readonly isAwaited = false;
  /** Each download counts for itself. */
  readonly received = { bytes: 0, openMs: 0 };
  readonly #upstream: Upstream;
  readonly #fetch: Fetch;
  #waiting: { readonly image: Image; readonly digest: Digest }[] = [];
  #running = 0;
  #leave: (() => void) | undefined;

  constructor(upstream: Upstream, fetch: Fetch) {
    this.#upstream = upstream;
    this.#fetch = fetch;
  }

  add(image: Image, digests: readonly Digest[]): void {
    const { spares } = this.#upstream;
    this.#waiting.push(...digests.map(digest => ({ image, digest })).slice(0, QUEUE_LIMIT - this.#waiting.length));
    this.#leave ??= spares.join(this);
    spares.serve();
  }

  wants(): boolean {
    return this.#waiting.length > 0 && this.#running < AT_ONCE;
  }

  grow(permit: Permit): void {
    void this.#next(permit).finally(() => {
      permit.release();
      this.#running--;
      if (this.#waiting.length > 0) this.#upstream.spares.serve();
      else if (this.#running === 0) this.#rest();
    });
    this.#running++;
  }

  async #next(permit: Permit): Promise<void> {
    const next = this.#waiting.shift();
    if (next === undefined) return;
    const { image, digest } = next;
    const goesOn = await this.#fetch(image, digest, permit).catch(() => false);
    if (!goesOn) this.#waiting = this.#waiting.filter(each => each.image !== image);
  }

  #rest(): void {
    this.#leave?.();
    this.#leave = undefined;
  }
}

function keyOf(client: string, repository: Repository): string {
  return `${client} ${imageName(repository)}`;
}
