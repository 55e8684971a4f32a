// A flight: one upstream download of one digest, for all clients that ask for it through whichever repository. It goes
// on when clients leave, and a slow client does not slow it.
//
// Its steps: download → reserve → write and hash → verify → publish → link → settle.
import { abortable } from '../base/abortable.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Span } from '../base/spans.ts';
import type { Content, Source } from '../content/content.ts';
import type { Ingests, SparseIngest } from '../content/ingest.ts';
import type { LinkStore, UsageStore } from '../metadata/metadata.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError, reasonOf, StorageFailure } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { Budget, Reservation } from '../retention/budget.ts';
import { download } from '../upstream/download.ts';
import { Abandoned } from '../upstream/download-errors.ts';
import type { DownloadOptions, Want } from '../upstream/download-options.ts';
import { isInvalid, isLimited, isUnavailable, type Upstream } from '../upstream/upstream.ts';
import { Attempt } from './attempt.ts';
import type { Partials } from './partials.ts';

export interface FlightDependencies {
  readonly content: Content;
  readonly ingests: Ingests;
  readonly metadata: LinkStore & UsageStore;
  readonly budget: Budget;
  readonly partials: Partials;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends all flights: the server is shutting down. */
  readonly signal: AbortSignal;
  upstream(repository: Repository): Upstream;
}

export interface FlightOptions extends Pick<DownloadOptions, 'client' | 'permit' | 'expectedBytes'> {
  /** It may have several connections, where that is faster. */
  readonly inAnyOrder: boolean;
}

/** Wrong bytes are fetched once more, while no client has seen any of them. */
const ATTEMPTS = 2;

export class Flight {
  /** Through which it asks the upstream. */
  readonly repository: Repository;
  readonly digest: Digest;
  /** Resolves, and never rejects, when the flight is over and all that it is going to link is linked. */
  readonly over: Promise<void>;
  /** All bytes are here and verified; only the disk is still to be waited for. */
  isComplete = false;
  /** Some client has asked for it. */
  wasAsked = false;
  hasFailed = false;
  /** What came was wrong. */
  wasWrong = false;
  readonly #dependencies: FlightDependencies;
  readonly #what: string;
  readonly #options: FlightOptions;
  /** Those that are linked when it is complete: its own, and those that were attached until then. */
  readonly #linked: Repository[];
  #canAttach = true;
  /** Resolves to whether anything is fetched: not what is here already. */
  readonly #isFetching: Promise<boolean>;
  #attempt: Attempt<SparseIngest>;
  #want: Want = () => false;
  /** The clients that follow it, or wait for its first byte. */
  #followers = 0;

  /** Starts at once. */
  constructor(dependencies: FlightDependencies, repository: Repository, digest: Digest, options: FlightOptions) {
    this.#dependencies = dependencies;
    this.repository = repository;
    this.digest = digest;
    this.#what = imageName(repository, { digest });
    this.#options = options;
    this.#linked = [repository];
    this.#attempt = this.#newAttempt();
    this.#isFetching = this.#start();
    this.over = this.#run().catch(error => this.#report(error));
  }

  /**
   * The bytes, as they come in. Undefined when they are not coming but here: open the content. Throws what the
   * flight failed with: StorageFailure when they cannot be kept, Abandoned, else a RegistryError; and the reason of
   * `gone` when that is aborted before there is a byte.
   */
  async follow(gone?: AbortSignal): Promise<Source | undefined> {
    this.#followers++;
    this.wasAsked = true;
    let source: Source | undefined;
    try {
      source = await this.#follow(gone);
      return source && onClose(source, () => this.#followers--);
    } finally {
      if (source === undefined) this.#followers--;
    }
  }

  async #follow(gone: AbortSignal | undefined): Promise<Source | undefined> {
    if (!(await abortable(this.#isFetching, gone))) return undefined;
    for (;;) {
      const attempt = this.#attempt;
      try {
        return await attempt.follow(gone);
      } catch (error) {
        // No byte of that attempt was seen, so the next one will do as well, if there is one.
        if (attempt === this.#attempt || gone?.aborted) throw error;
      }
    }
  }

  /** As Want. Followers may read these bytes as soon as they are here, but for the final stretch. */
  want(position: number): boolean {
    return this.#want(position);
  }

  /** How many bytes are here. */
  get writtenBytes(): number {
    return this.#attempt.writtenBytes;
  }

  /** Whether this repository is linked when it is complete. */
  links({ upstream, name }: Repository): boolean {
    return this.#linked.some(linked => linked.name === name && linked.upstream === upstream);
  }

  /** Has this repository, which its upstream has confirmed to hold the blob, linked as well; false when it is too late. */
  attach(repository: Repository): boolean {
    if (this.#canAttach && !this.links(repository)) this.#linked.push(repository);
    return this.#canAttach;
  }

  /** Resolves to whether anything is to be fetched: not what is here and is this repository's too. */
  async #start(): Promise<boolean> {
    const { content, metadata } = this.#dependencies;
    // The disk is not asked about what is not recorded. Bytes that are there all the same are found when publishing.
    const isRecorded = await metadata.isRecorded(this.digest);
    const sizeBytes = isRecorded ? await content.sizeOf(this.digest) : undefined;
    if (sizeBytes !== undefined && (await this.#isOurs())) {
      await this.#link(sizeBytes);
      return false;
    }
    return true;
  }

  /** Whether content that is on disk, through another repository, is this repository's too. */
  async #isOurs(): Promise<boolean> {
    const { metadata, upstream } = this.#dependencies;
    if ((await metadata.findBlob(this.repository, this.digest)) !== undefined) return true;
    try {
      await upstream(this.repository).confirmBlob(this.repository, this.digest);
      return true;
    } catch (error) {
      // An upstream that does not take this question can be asked for the bytes.
      if (isInvalid(error)) return false;
      throw error;
    }
  }

  #newAttempt(): Attempt<SparseIngest> {
    return new Attempt(() => this.#dependencies.partials.begin(this.digest));
  }

  async #run(): Promise<void> {
    if (!(await this.#isFetching)) return;
    for (let attempts = 1; ; attempts++) {
      const attempt = this.#attempt;
      try {
        const options = attempts === 1 ? this.#options : { client: this.#options.client, inAnyOrder: false };
        const reservation = await this.#fetch(attempt, options);
        return await this.#keep(attempt, reservation);
      } catch (error) {
        const again = isInvalid(error) && attempts < ATTEMPTS && !attempt.wasSeen;
        if (again) {
          this.#dependencies.log.warn({ digest: this.digest }, `${error.message}; trying once more`);
          // Announced before the failure, so that those who wait for the first byte wait for this one.
          this.#attempt = this.#newAttempt();
        }
        await attempt.fail(error as Error);
        this.wasWrong = isInvalid(error);
        if (!again) throw error;
      }
    }
  }

  /** Download → reserve → write and hash → verify. The ingest is opened while the upstream is asked. */
  async #fetch(attempt: Attempt<SparseIngest>, given: FlightOptions): Promise<Reservation | undefined> {
    const { repository, digest } = this;
    const { budget, clock, log, signal, partials } = this.#dependencies;
    const upstream = this.#dependencies.upstream(repository);
    let reservation: Reservation | undefined;
    let type: string | undefined;
    const here = partials.has(digest) ? spansOf((await attempt.open()).ingest) : [];
    const options: DownloadOptions = {
      ...{ ...given, upstream, clock, signal, here },
      onWant: want => {
        this.#want = want;
      },
      isWanted: () => this.#followers > 0,
      // It may fail unseen until the upstream has answered.
      onPermit: () => {
        budget.prepare();
        void attempt.open().catch(() => {});
      },
      onBreak: (why, at) =>
        log.warn({ digest, at }, `the download of ${this.#what} broke at byte ${at} and is resumed: ${why}`),
    };
    try {
      await download(options, repository, digest, async (sizeBytes, contentType) => {
        type = contentType;
        const incoming = await attempt.open();
        const { ingest } = incoming;
        const reserved = await budget.reserve(sizeBytes, () => ingest.storedBytes);
        reservation = reserved;
        await reserved.take(ingest.storedBytes);
        if (sizeBytes !== undefined) incoming.expect(sizeBytes);
        return position => {
          const write = ingest.writer(position);
          return chunk => {
            const room = reserved.take(chunk.length);
            if (room === undefined) return write(chunk);
            // The chunk is valid for this call alone.
            const copy = Buffer.from(chunk);
            return room.then(() => write(copy));
          };
        };
      });
      const { ingest } = await attempt.open();
      const found = await ingest.finish();
      if (found !== digest) throw wrongBytes(this.#what, ingest.writtenBytes, type, found);
      return reservation;
    } catch (error) {
      reservation?.release();
      const isTransient = isUnavailable(error) || isLimited(error);
      const isWorthKeeping = isTransient || error instanceof Abandoned || signal.aborted;
      await attempt.giveUp(ingest => (isWorthKeeping ? partials.keep(digest, ingest) : ingest.abort()));
      throw error;
    }
  }

  /** Publish → link → settle. No follower is held back meanwhile, and none waits for the disk. */
  async #keep(attempt: Attempt<SparseIngest>, reservation: Reservation | undefined): Promise<void> {
    const incoming = await attempt.open();
    const { ingest } = incoming;
    this.isComplete = true;
    incoming.verified();
    // For clients that join until it is over, and the link is there.
    const reader = ingest.reader();
    let newBytes = 0;
    try {
      if (await this.#dependencies.content.publish(ingest, this.digest)) newBytes = ingest.writtenBytes;
      await this.#link(ingest.writtenBytes);
    } finally {
      reservation?.settle(newBytes);
      attempt.end();
      reader.close();
    }
  }

  async #link(sizeBytes: number): Promise<void> {
    this.#canAttach = false;
    await this.#dependencies.metadata.linkBlob(this.#linked, { digest: this.digest, sizeBytes });
  }

  #report(error: unknown): void {
    this.hasFailed = true;
    const { log, signal } = this.#dependencies;
    if (signal.aborted) return;
    if (error instanceof Abandoned) {
      log.info({ digest: this.digest }, `${this.#what} is no longer fetched: no client waits for it`);
      return;
    }
    const cause = error instanceof RegistryError ? undefined : error;
    const failed = error instanceof StorageFailure ? 'kept' : 'fetched';
    log.warn({ digest: this.digest, err: cause }, `${this.#what} could not be ${failed}: ${reasonOf(error)}`);
  }
}

function spansOf({ writtenBytes, ahead }: SparseIngest): Span[] {
  return [{ start: 0, end: writtenBytes }, ...ahead];
}

/** The same source; `closed` is called when it is closed. */
function onClose(source: Source, closed: () => void): Source {
  return {
    ...source,
    close: () => {
      source.close();
      closed();
    },
  };
}

/** The error of content that does not hash to its digest. `what` is the image, as a person writes it. */
export function wrongBytes(what: string, sizeBytes: number, type: string | undefined, found: Digest): RegistryError {
  const came = `${sizeBytes} bytes of ${type ?? 'no type'} that hash to ${found}`;
  return new RegistryError('UPSTREAM_INVALID', `the upstream sent wrong content for ${what}: ${came}`);
}
