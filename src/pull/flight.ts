// A flight: one upstream download of one digest, whoever asks and through whichever repository. It does not
// end because clients leave, and a slow one does not slow it.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Content, Source } from '../content/content.ts';
import type { LinkStore, UsageStore } from '../metadata/metadata.ts';
import { algorithmOf, type Digest } from '../oci/digest.ts';
import { RegistryError, reasonOf } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { Budget, Reservation } from '../retention/budget.ts';
import { download, type Receiver } from '../upstream/download.ts';
import type { Upstream } from '../upstream/upstream.ts';
import { Incoming } from './incoming.ts';

export interface FlightDependencies {
  readonly content: Content;
  readonly metadata: LinkStore & UsageStore;
  readonly budget: Budget;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends all flights: the server is leaving. */
  readonly signal: AbortSignal;
  upstream(repository: Repository): Upstream;
}

/** Wrong bytes are fetched again once, while nobody has seen any of them. */
const ATTEMPTS = 2;

export class Flight {
  readonly repository: Repository;
  readonly digest: Digest;
  /** Resolves, and never rejects, when the flight is over and all that it is going to link is linked. */
  readonly over: Promise<void>;
  readonly #dependencies: FlightDependencies;
  readonly #what: string;
  /** Whose links are made when it lands. */
  readonly #passengers: Repository[];
  #isBoarding = true;
  /** The attempt to follow; undefined when nothing comes because it is here already. */
  #attempt: Promise<Incoming | undefined>;
  #releasePlace = () => {};
  #isComplete = false;

  /** Takes off at once. */
  constructor(dependencies: FlightDependencies, repository: Repository, digest: Digest) {
    this.#dependencies = dependencies;
    this.repository = repository;
    this.digest = digest;
    this.#what = imageName(repository, { digest });
    this.#passengers = [repository];
    const takeOff = this.#takeOff();
    this.#attempt = takeOff.then(departs => (departs ? this.#nextAttempt() : undefined));
    // Who follows is told; it is no surprise when nobody does.
    this.#attempt.catch(() => {});
    this.over = this.#fly(takeOff)
      .catch(error => this.#report(error))
      .finally(() => this.#releasePlace());
  }

  /**
   * The bytes, as they come. Undefined when they are not coming but here: open the content. Throws what the
   * flight failed with: StorageFailure when they cannot be kept, else a RegistryError.
   */
  async follow(): Promise<Source | undefined> {
    for (;;) {
      const attempt = this.#attempt;
      try {
        return await (await attempt)?.follow();
      } catch (error) {
        // Nothing of that attempt was seen, so the next one will do as well, if there is one.
        if (attempt === this.#attempt) throw error;
      }
    }
  }

  /** All bytes are here and right; only the disk is still to be waited for. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Whether it flies for this repository: its own, or one that boarded. */
  carries({ upstream, name }: Repository): boolean {
    return this.#passengers.some(passenger => passenger.name === name && passenger.upstream === upstream);
  }

  /** This repository, whose right was confirmed, is linked as well; false when it is too late for that. */
  attach(repository: Repository): boolean {
    if (this.#isBoarding && !this.carries(repository)) this.#passengers.push(repository);
    return this.#isBoarding;
  }

  /** Whether anything is to be fetched: not what is here, and is this repository's too. */
  async #takeOff(): Promise<boolean> {
    const { content, metadata, upstream, signal } = this.#dependencies;
    // The disk is not asked about what nobody has recorded. Bytes that are there all the same are found at commit.
    const isRecorded = await metadata.isRecorded(this.digest);
    const sizeBytes = isRecorded ? await content.sizeOf(this.digest) : undefined;
    if (sizeBytes !== undefined && (await this.#isOurs())) {
      await this.#link(sizeBytes);
      return false;
    }
    this.#releasePlace = await upstream(this.repository).acquireDownload(this.repository, signal);
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

  /** Opens an ingest. Who needs it waits for it, and not before the upstream has answered: until then it may fail unseen. */
  #nextAttempt(): Promise<Incoming> {
    const ingest = this.#dependencies.content.ingest(algorithmOf(this.digest));
    const opening = ingest.then(opened => new Incoming(opened));
    opening.catch(() => {});
    return opening;
  }

  async #fly(takeOff: Promise<boolean>): Promise<void> {
    if (!(await takeOff)) return;
    for (let attempt = 1; ; attempt++) {
      const opening = this.#attempt as Promise<Incoming>;
      try {
        return await this.#ingest(opening);
      } catch (error) {
        const incoming = await opening;
        const again = isInvalid(error) && attempt < ATTEMPTS && !incoming.wasSeen;
        if (again) {
          this.#dependencies.log.warn({ digest: this.digest }, `${error.message}; trying once more`);
          // Announced before the failure, so that who waits for the first byte waits for it.
          this.#attempt = this.#nextAttempt();
        }
        incoming.fail(error as Error);
        if (!again) throw error;
      }
    }
  }

  /** Download → reserve → write and hash → verify → commit → link → settle. The upstream is asked while it opens. */
  async #ingest(opening: Promise<Incoming>): Promise<void> {
    const { budget, clock, signal } = this.#dependencies;
    const upstream = this.#dependencies.upstream(this.repository);
    const onBreak = (why: string, at: number) => this.#reportBreak(why, at);
    let receive: Receiver['receive'] = () => undefined;
    let reservation: Reservation | undefined;
    let type: string | undefined;
    try {
      await download({ upstream, clock, signal, onBreak }, this.repository, this.digest, {
        start: async (sizeBytes, contentType) => {
          type = contentType;
          const incoming = await opening;
          const { ingest } = incoming;
          const room = await budget.reserve(sizeBytes, () => ingest.writtenBytes);
          reservation = room;
          receive = chunk => room.take(chunk.length)?.then(() => ingest.write(chunk)) ?? ingest.write(chunk);
          if (sizeBytes !== undefined) incoming.expect(sizeBytes);
        },
        receive: chunk => receive(chunk),
      });
      const { ingest } = await opening;
      const found = await ingest.finish();
      if (found !== this.digest) throw wrongBytes(this.#what, ingest.writtenBytes, type, found);
    } catch (error) {
      reservation?.release();
      await (await opening).ingest.abort();
      throw error;
    }
    const incoming = await opening;
    const { ingest } = incoming;
    // From here on nobody is held back, and nobody waits for the disk.
    this.#isComplete = true;
    incoming.verified();
    // For those who join until it is over, and the link is there.
    const reader = ingest.reader();
    try {
      const isNew = await ingest.commit(this.digest);
      const settle = () => reservation?.settle(isNew ? ingest.writtenBytes : 0);
      await this.#link(ingest.writtenBytes).finally(settle);
    } catch (error) {
      reservation?.release();
      throw error;
    } finally {
      reader.close();
    }
  }

  async #link(sizeBytes: number): Promise<void> {
    this.#isBoarding = false;
    await this.#dependencies.metadata.linkBlob(this.#passengers, { digest: this.digest, sizeBytes });
  }

  #reportBreak(why: string, at: number): void {
    const message = `the download of ${this.#what} broke at byte ${at} and is resumed: ${why}`;
    this.#dependencies.log.warn({ digest: this.digest, at }, message);
  }

  #report(error: unknown): void {
    const { log, signal } = this.#dependencies;
    if (signal.aborted) return;
    const cause = error instanceof RegistryError ? undefined : error;
    log.warn({ digest: this.digest, err: cause }, `${this.#what} could not be fetched: ${reasonOf(error)}`);
  }
}

/** The error of content that is not what its digest says. `what` is the image, as a person writes it. */
export function wrongBytes(
  what: string,
  sizeBytes: number,
  type: string | undefined,
  found: Digest,
): RegistryError {
  const came = `${sizeBytes} bytes of ${type ?? 'no type'} that hash to ${found}`;
  return new RegistryError('UPSTREAM_INVALID', `the upstream sent wrong content for ${what}: ${came}`);
}

export function isInvalid(error: unknown): error is RegistryError {
  return error instanceof RegistryError && error.code === 'UPSTREAM_INVALID';
}
