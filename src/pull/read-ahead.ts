// Reads images ahead: when a client asks for a blob of a manifest that it was given a moment ago, and that blob is not
// here, the others of the manifest that are not here either are fetched too, in their order. They have spare connections
// (upstream/spare-connections.ts), so they take nothing from what clients wait for. A client that asks for manifests alone
// causes nothing.
//
// What is read ahead and not asked for soon was wasted (read-ahead-waste.ts), and a repository with more waste than use is
// not read ahead for a day.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Digest } from '../oci/digest.ts';
import type { Repository } from '../oci/reference.ts';
import type { Permit } from '../upstream/permits.ts';
import type { SpareUser } from '../upstream/spare-connections.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { BlobWatcher, FetchedAhead } from './blobs.ts';
import type { Caller } from './caller.ts';
import { ReadAheadWaste } from './read-ahead-waste.ts';
import type { ImageBlobs, SeenImage } from './seen-manifests.ts';

export interface ReadAheadDependencies {
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly log: Log;
  /** Ends all of it: the server is shutting down. */
  readonly signal: AbortSignal;
  upstream(repository: Repository): Upstream;
  /** Blobs.fetchAhead. */
  fetchAhead(
    repository: Repository,
    digest: Digest,
    options: { readonly client: string; readonly permit: Permit; readonly expectedBytes: number | undefined },
  ): Promise<FetchedAhead>;
}

/** An image that is read ahead. */
interface Image {
  readonly repository: Repository;
  readonly client: string;
  readonly blobs: ImageBlobs;
  /** It is of no use later. */
  readonly untilMs: number;
  /** Blobs in a row that could not be had. */
  failures: number;
}

/** Resolves to whether the image is worth going on with. */
type Fetch = (image: Image, digest: Digest, permit: Permit) => Promise<boolean>;

const AHEAD_MS = 10 * 60_000;
const AT_ONCE = 24;
const QUEUE_LIMIT = 2_000;
const FAILURES_LIMIT = 2;

export class ReadAhead implements BlobWatcher {
  readonly #dependencies: ReadAheadDependencies;
  readonly waste: ReadAheadWaste;
  readonly #queues = new Map<string, Queue>();

  constructor(dependencies: ReadAheadDependencies) {
    this.#dependencies = dependencies;
    this.waste = new ReadAheadWaste(dependencies);
  }

  hit(digest: Digest): void {
    this.waste.used(digest);
  }

  missed({ client, isPartial }: Caller, repository: Repository, asked: Digest, { manifest, blobs }: SeenImage): void {
    // One that asks for ranges pulls lazily: it does not want all of it.
    if (isPartial || manifest.isReadAhead || this.waste.isWasteful(repository)) return;
    manifest.isReadAhead = true;
    const others = [...blobs.keys()].filter(blob => blob !== asked);
    const untilMs = this.#dependencies.clock.monotonic() + AHEAD_MS;
    if (others.length > 0) this.#queueOf(repository).add({ repository, client, blobs, untilMs, failures: 0 }, others);
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
    const { repository, client, blobs } = image;
    const isLate = this.#dependencies.clock.monotonic() > image.untilMs;
    if (signal.aborted || isLate || this.waste.isWasteful(repository)) return false;
    const { isHere, unaskedBytes } = await fetchAhead(repository, digest, {
      client,
      permit,
      expectedBytes: blobs.get(digest),
    });
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
