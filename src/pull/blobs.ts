// Pulling a blob. Hit: find link → open content → touch. Miss: join the flight or start it → follow it.
//
// Content is served to a repository only through a link of its own. Content that is here through another
// repository is linked once this one's upstream has confirmed that it holds it too.
import { Condition } from '../base/condition.ts';
import { ExpiringCache } from '../base/expiring-cache.ts';
import { SingleFlight } from '../base/single-flight.ts';
import type { Span } from '../base/spans.ts';
import { type OpenContent, type Source, StorageFailure } from '../content/content.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { Abandoned } from '../upstream/download-errors.ts';
import { isDenied, isInvalid, isNotFound } from '../upstream/upstream.ts';
import { type Caller, OURSELVES } from './caller.ts';
import { removeDamaged } from './damaged.ts';
import { readFar } from './far-ranges.ts';
import { Flight, type FlightDependencies, type FlightOptions } from './flight.ts';
import { HOLD_BACK_BYTES, HoldBack } from './hold-back.ts';
import type { LocalWrites } from './local-writes.ts';
import { NegativeCache } from './negative-cache.ts';
import type { Outcome } from './outcome.ts';
import { openPassThrough } from './pass-through.ts';
import type { SeenImage, SeenManifests } from './seen-manifests.ts';

/** How long a blob that came wrong is fetched over one connection alone. */
const WRONG_MS = 3_600_000;
const WRONG_LIMIT = 1_000;

export interface PulledBlob {
  readonly source: Source;
  readonly outcome: Outcome;
  /** While it is being fetched: the source to read these spans from instead, if some are far from what is here. */
  readonly ahead?: (spans: readonly Span[]) => Promise<Source | undefined>;
}

/** What came of a blob that was fetched ahead of any client. */
export interface FetchedAhead {
  readonly isHere: boolean;
  /** So much was fetched, and no client asked for it meanwhile. */
  readonly unaskedBytes: number;
}

/** Is told what clients ask for. */
export interface BlobWatcher {
  hit(digest: Digest): void;
  /** It is not here; `image` is that of which the client was given the manifest. */
  missed(caller: Caller, repository: Repository, digest: Digest, image: SeenImage): void;
}

export interface BlobDependencies extends FlightDependencies {
  readonly watcher?: BlobWatcher | undefined;
  /** Tells how large a blob is said to be. */
  readonly seen?: SeenManifests | undefined;
  readonly localWrites: Pick<LocalWrites, 'pushed'>;
}

export class Blobs {
  readonly #dependencies: BlobDependencies;
  readonly #flights = new Map<Digest, Flight>();
  readonly #confirming = new SingleFlight<boolean>();
  readonly #sizing = new SingleFlight<number>();
  /** Apart, since some registries answer 404 to HEAD alone. */
  readonly #missing: NegativeCache;
  readonly #missingByHead: NegativeCache;
  /** What came wrong: it may be put together from ranges that were not those asked for. */
  readonly #wrong: ExpiringCache<true>;

  constructor(dependencies: BlobDependencies) {
    this.#dependencies = dependencies;
    this.#missing = new NegativeCache(dependencies);
    this.#missingByHead = new NegativeCache(dependencies);
    this.#wrong = new ExpiringCache({ clock: dependencies.clock, max: WRONG_LIMIT, ttlMs: WRONG_MS });
  }

  /** The blob, to be read and closed. Throws as the verbs of Upstream do. */
  async pull(repository: Repository, digest: Digest, caller = OURSELVES): Promise<PulledBlob> {
    // Looked up first: what was not found a moment ago may have been pushed since.
    const source = await this.#openLinked(repository, digest);
    const { watcher } = this.#dependencies;
    if (source !== undefined) {
      watcher?.hit(digest);
      return { source, outcome: 'hit' };
    }
    return this.#missing.unlessKnown(repository, { digest }, () => this.#miss(repository, digest, caller));
  }

  /** Fetches a blob that no client has asked for, if it is not here; within the permit at first. Never rejects. */
  async fetchAhead(
    repository: Repository,
    digest: Digest,
    options: Omit<FlightOptions, 'inAnyOrder'>,
  ): Promise<FetchedAhead> {
    const row = await this.#dependencies.metadata.findBlob(repository, digest).catch(() => undefined);
    if (row !== undefined || this.#flights.has(digest)) return { isHere: true, unaskedBytes: 0 };
    const flight = this.#start(repository, digest, options);
    await flight.over;
    const isUnasked = !flight.hasFailed && !flight.wasAsked;
    return { isHere: !flight.hasFailed, unaskedBytes: isUnasked ? flight.writtenBytes : 0 };
  }

  /** Its size in bytes, without fetching it. Throws as the verbs of Upstream do. */
  async stat(repository: Repository, digest: Digest): Promise<{ sizeBytes: number; outcome: Outcome }> {
    const key = imageName(repository, { digest });
    const row = await this.#dependencies.metadata.findBlob(repository, digest);
    if (row !== undefined) return { sizeBytes: row.sizeBytes, outcome: 'hit' };
    const flight = this.#flights.get(digest);
    if (flight?.isComplete && flight.links(repository)) {
      await flight.over;
      return this.stat(repository, digest);
    }
    return this.#missingByHead.unlessKnown(repository, { digest }, async () => {
      const upstream = this.#dependencies.upstream(repository);
      const { result, joined } = this.#sizing.run(key, () => upstream.statBlob(repository, digest));
      return { sizeBytes: await result, outcome: joined ? 'joined' : 'miss' };
    });
  }

  /** The repository has received the blob otherwise than by a pull. */
  arrived(repository: Repository, digest: Digest): void {
    this.#dependencies.localWrites.pushed(repository, digest);
    this.#missing.forget(repository, { digest });
    this.#missingByHead.forget(repository, { digest });
  }

  /** Resolves when no flight is in progress: what was complete is then published and linked. */
  async settled(): Promise<void> {
    await Promise.all([...this.#flights.values()].map(flight => flight.over));
  }

  async #miss(repository: Repository, digest: Digest, caller: Caller): Promise<PulledBlob> {
    const gone = caller.gone();
    const image = await this.#dependencies.seen?.find(caller.client, repository, digest);
    if (image !== undefined) this.#dependencies.watcher?.missed(caller, repository, digest, image);
    const expectedBytes = image?.blobs.get(digest);
    for (;;) {
      let flight = this.#flights.get(digest);
      const outcome = flight === undefined ? 'miss' : flight.isComplete ? 'hit' : 'joined';
      if (flight === undefined) flight = this.#start(repository, digest, { client: caller.client, expectedBytes });
      else if (!flight.links(repository) && !(await this.#attach(flight, repository))) {
        // It is over: what it fetched is here, and our own flight finds it.
        continue;
      }
      try {
        const followed = await flight.follow(gone);
        if (followed !== undefined) {
          const source = this.#survivingDisk(followed, repository, digest, caller);
          const { writtenBytes } = flight;
          return {
            source,
            outcome,
            ahead: spans => {
              const want = (position: number) => flight.want(position);
              return readFar(this.#dependencies, { repository, digest, source, writtenBytes, caller, want }, spans);
            },
          };
        }
      } catch (error) {
        if (error instanceof StorageFailure) return this.#passThrough(repository, digest, caller, error);
        // The repository that it asks through has no right to it; that says nothing of this one.
        const isOther = imageName(flight.repository) !== imageName(repository);
        const theirs = isOther && (isNotFound(error) || isDenied(error));
        // It was given up a moment before we came.
        if (!theirs && !(error instanceof Abandoned)) throw error;
        await flight.over;
        continue;
      }
      const here = await this.#openLinked(repository, digest);
      if (here !== undefined) return { source: here, outcome: 'revalidated' };
      await flight.over;
    }
  }

  #start(repository: Repository, digest: Digest, options: Omit<FlightOptions, 'inAnyOrder'>): Flight {
    const inAnyOrder = this.#wrong.get(digest) === undefined;
    const flight = new Flight(this.#dependencies, repository, digest, { ...options, inAnyOrder });
    this.#flights.set(digest, flight);
    void flight.over.then(() => {
      this.#flights.delete(digest);
      if (flight.wasWrong) this.#wrong.set(digest, true);
    });
    return flight;
  }

  /**
   * Joins a flight of another repository, once the upstream has confirmed that this one holds the blob too; concurrent
   * calls share the request. False when that cannot be told, or came too late: then the flight is over.
   */
  async #attach(flight: Flight, repository: Repository): Promise<boolean> {
    const { digest } = flight;
    const { result } = this.#confirming.run(imageName(repository, { digest }), async () => {
      try {
        await this.#dependencies.upstream(repository).confirmBlob(repository, digest);
        return flight.attach(repository);
      } catch (error) {
        if (!isInvalid(error)) throw error;
        return false;
      }
    });
    const isAttached = await result;
    if (!isAttached) await flight.over;
    return isAttached;
  }

  /** Find link → open content → touch. Undefined when it is not here, or was here and was damaged. */
  async #openLinked(repository: Repository, digest: Digest): Promise<Source | undefined> {
    const { metadata, content } = this.#dependencies;
    const row = await metadata.findBlob(repository, digest);
    if (row === undefined) return undefined;
    const opened = await content.open(digest);
    if (opened === undefined || opened.sizeBytes !== row.sizeBytes) {
      opened?.close();
      await this.#removeDamaged(repository, digest, opened === undefined);
      return undefined;
    }
    metadata.touch(digest);
    const verified = opened.verify();
    if (verified === true) return opened;
    // The first reading since the process started, or since the bytes changed, is verified on the way out.
    const verdict = verified.then(async isRight => {
      if (!isRight) await this.#removeDamaged(repository, digest, false);
      return isRight;
    });
    if (opened.sizeBytes > HOLD_BACK_BYTES) return heldBack(opened, verdict);
    if (await verdict) return opened;
    opened.close();
    return undefined;
  }

  #removeDamaged(repository: Repository, digest: Digest, isGone: boolean): Promise<void> {
    return removeDamaged(this.#dependencies, imageName(repository, { digest }), digest, isGone);
  }

  async #passThrough(repository: Repository, digest: Digest, caller: Caller, why: Error): Promise<PulledBlob> {
    const what = imageName(repository, { digest });
    this.#dependencies.log.warn({ digest }, `${what} is passed through without being kept: ${why.message}`);
    const source = await openPassThrough(this.#dependencies, repository, digest, caller);
    return {
      source,
      outcome: 'bypass',
      ahead: spans => {
        const pull = { repository, digest, source, writtenBytes: 0, caller, want: () => false };
        return readFar(this.#dependencies, pull, spans);
      },
    };
  }

  /** A follower that goes on without the disk when its flight ends because the disk is full or failing. */
  #survivingDisk(follower: Source, repository: Repository, digest: Digest, caller: Caller): Source {
    let source = follower;
    return {
      sizeBytes: follower.sizeBytes,
      close: () => source.close(),
      read: async (into, position) => {
        try {
          return await source.read(into, position);
        } catch (error) {
          if (source !== follower || !(error instanceof StorageFailure)) throw error;
          source = (await this.#passThrough(repository, digest, caller, error)).source;
          follower.close();
          return source.read(into, position);
        }
      },
      // The read that comes instead meets the failing disk, too, and deals with it.
      lend: async position =>
        source.lend?.(position).catch(error => {
          if (error instanceof StorageFailure) return undefined;
          throw error;
        }),
    };
  }
}

/** Content that is being verified: its final stretch waits for the verdict. */
function heldBack(content: OpenContent, verdict: Promise<boolean>): Source {
  const holdBack = new HoldBack(new Condition(), () => content.sizeBytes);
  holdBack.expect(content.sizeBytes);
  verdict
    .then(isRight => {
      if (!isRight) throw new RegistryError('UNAVAILABLE', 'the content is damaged on disk; pull it again');
      holdBack.verified();
    })
    .catch(error => holdBack.fail(error));
  return holdBack.clip(content);
}
