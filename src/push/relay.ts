// A relay: content on its way to the upstream, read from the ingest of an upload while that is still growing. What is
// complete when the relay starts goes as one PUT, unless the upstream has it; the rest as one streamed PATCH, closed when
// the last byte is here. When either breaks, it starts again from the first byte, which costs the client nothing.
//
// While its client pauses it holds neither a connection nor a permit: it rests, and begins anew with more.
//
// It reads from one source at a time. Uploads that name the same digest may share a relay (relays.ts): it goes on with
// another source when that has more bytes, or all of them. That the bytes before were the same is not taken on trust: if
// they were not, the upstream computes another digest, and the complete source is sent as a whole.
import { backoffMs } from '../base/backoff.ts';
import type { Clock, Random } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Digest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError, reasonOf } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { type Permit, SMALL_BLOB_BYTES } from '../upstream/permits.ts';
import { isUnavailable, type UpstreamWrites } from '../upstream/upstream.ts';
import type { Admission } from './admission.ts';
import { type RelaySource, SourceReader } from './relay-source.ts';

export interface RelayDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Ends all relays: the server is shutting down. */
  readonly signal: AbortSignal;
  /** Knows where the upstream takes the bytes of a new upload. */
  readonly admission: Pick<Admission, 'location'>;
  writes(repository: Repository): UpstreamWrites;
}

export type RelayResult =
  | { readonly accepted: Digest }
  /** Its source left before the end. */
  | { readonly abandoned: true }
  /** `isFinal`: sending the same bytes again is not going to help now. */
  | { readonly failure: Error; readonly isFinal: boolean };

const ATTEMPTS = 4;
/** Attempts to send a whole that fails for another reason than an upstream that is unavailable. */
const WHOLE_ATTEMPTS = 2;
const BACKOFF = { firstMs: 200 };
/** A rate limit of up to this long is waited for. */
const LONGEST_RATE_LIMIT_MS = 5_000;
/** How far a source may be ahead of what is sent: it is what is left to send after the client's last byte. */
const LEAD_BYTES = 16 * 1024 * 1024;

const TICK_MS = 1_000;
/** A client that sends less than this in a second pauses; after so long its relay rests. */
const SLOW_BYTES = 32 * 1024;
const PAUSE_MS = 2_000;
/** What can be sent only once is given up instead, at once when others wait, else after so long. */
const SINGLE_USE_PAUSE_MS = 30_000;
/** After a rest there is at least so much to send, or all. */
const LEAST_BYTES = 1024 * 1024;
const RESTING = Symbol('resting');

/** The upload at the upstream broke, was lost, or got other bytes: worth another attempt from the first byte. */
const BROKEN: ReadonlySet<ErrorCode> = new Set([
  'BLOB_UPLOAD_INVALID',
  'BLOB_UPLOAD_UNKNOWN',
  'DIGEST_INVALID',
  'SIZE_INVALID',
]);

export class Relay {
  readonly repository: Repository;
  /** Its source can be read only once: one attempt, and no one to share it with. */
  readonly isSingleUse: boolean;
  /** Never rejects. */
  readonly result: Promise<RelayResult>;
  readonly #dependencies: RelayDependencies;
  readonly #reader: SourceReader;
  readonly #abandoned = new AbortController();
  readonly #signal: AbortSignal;
  /** Whether all bytes were here when the last attempt started. */
  #triedWhole = false;
  #isOver = false;
  /** Waiting for its client: nothing is sent. */
  #isResting = false;
  #permit: Permit | undefined;

  /** Starts at once. */
  constructor(dependencies: RelayDependencies, repository: Repository, source: RelaySource) {
    this.#dependencies = dependencies;
    this.repository = repository;
    this.isSingleUse = source.isSingleUse;
    this.#signal = AbortSignal.any([dependencies.signal, this.#abandoned.signal]);
    // What the upstream does once it has all bytes moves none.
    this.#reader = new SourceReader(source, this.#signal, () => this.#permit?.release());
    this.result = this.#run()
      .catch(failure => this.#resultOf(failure))
      .finally(() => {
        this.#isOver = true;
        this.#reader.progress.notify();
      });
  }

  /** False when it is over or being given up. */
  get isOpen(): boolean {
    return !this.#isOver && !this.#signal.aborted;
  }

  /** How much of the content has been sent in the attempt under way. */
  get sentBytes(): number {
    return this.#reader.readBytes;
  }

  /** A source of the same content, or the relay's own, has more bytes or is complete: sends from the one that is ahead. */
  offer(source: RelaySource): void {
    this.#reader.offer(source);
  }

  /** The source is given up; so is the relay, if it reads from that one. */
  leave(source: RelaySource): void {
    if (source === this.#reader.current) this.#abandoned.abort(new Error('the upload that it read was given up'));
  }

  /** For a writer with this many bytes: a promise when it is so far ahead that it has to wait. */
  keepUp(writtenBytes: number): Promise<void> | undefined {
    return this.#isNear(writtenBytes) ? undefined : this.#reader.progress.wait(() => this.#isNear(writtenBytes));
  }

  async #run(): Promise<RelayResult> {
    const { clock, random, log } = this.#dependencies;
    let wholeAttempts = 0;
    for (let attempt = 1; ; attempt++) {
      this.#permit = await this.#acquire();
      let pauseMs = backoffMs(attempt, BACKOFF, random.fraction());
      try {
        return { accepted: await this.#send() };
      } catch (error) {
        this.#signal.throwIfAborted();
        if (error === RESTING) {
          // The client pauses: no attempt of ours has failed.
          attempt--;
          this.#permit.release();
          await this.#rest();
          continue;
        }
        if (attempt === ATTEMPTS || this.isSingleUse || !isWorthRetry(error)) throw error;
        // The digest of a whole has been verified here: an upstream that rejects it twice always will.
        const isRejectedWhole = this.#triedWhole && !isUnavailable(error);
        if (isRejectedWhole && ++wholeAttempts === WHOLE_ATTEMPTS) throw error;
        pauseMs = Math.max(pauseMs, error.retryAfterMs ?? 0);
        const at = this.sentBytes;
        const what = `a push to ${imageName(this.repository)}`;
        log.warn({ at }, `${what} broke at byte ${at} and starts again: ${reasonOf(error)}`);
      } finally {
        this.#permit?.release();
      }
      // An upstream that timed out while no bytes came is tried again when there are some.
      await this.#reader.more(this.sentBytes);
      await clock.sleep(pauseMs, this.#signal);
    }
  }

  #acquire(): Promise<Permit> {
    const { repository } = this;
    const { complete, ingest, client = '' } = this.#reader.current;
    const { uploads } = this.#writes;
    const isSmall = complete !== undefined && ingest.writtenBytes <= SMALL_BLOB_BYTES;
    return uploads[isSmall ? 'acquire' : 'acquireLarge']({ repository, client }, this.#signal);
  }

  /** One attempt. Resolves to the digest that the upstream has accepted; throws RESTING when the client pauses. */
  async #send(): Promise<Digest> {
    this.#reader.readBytes = 0;
    const digest = this.#reader.current.complete;
    this.#triedWhole = digest !== undefined;
    if (digest !== undefined && (await this.#writes.holdsBlob(this.repository, digest))) return digest;
    // What can be sent only once goes to an upload that was opened just now, with a token that is known to work.
    const { repository, isSingleUse } = this;
    const { admission } = this.#dependencies;
    const location = await (isSingleUse ? this.#writes.startUpload(repository) : admission.location(repository));
    const pausing = new AbortController();
    const stopWatching = this.#watch(error => pausing.abort(error));
    try {
      return await this.#sendTo(location, digest, AbortSignal.any([this.#signal, pausing.signal]));
    } catch (error) {
      void this.#writes.cancelUpload(repository, location);
      throw error;
    } finally {
      stopWatching();
      // No reading goes on after the request that wanted it.
      this.#reader.stop();
    }
  }

  async #sendTo(location: URL, whole: Digest | undefined, signal: AbortSignal): Promise<Digest> {
    const { repository, isSingleUse } = this;
    const bytes = () => this.#reader.read();
    if (whole !== undefined) {
      const sizeBytes = this.#reader.current.ingest.writtenBytes;
      await this.#writes.finishUpload(repository, location, whole, signal, { sizeBytes, bytes });
      return whole;
    }
    const last = await this.#writes.streamUpload(repository, location, bytes, signal, isSingleUse);
    const { complete, ingest } = this.#reader.current;
    if (complete === undefined || ingest.writtenBytes !== this.sentBytes) {
      throw new RegistryError('BLOB_UPLOAD_INVALID', 'it was ended before it was complete');
    }
    await this.#writes.finishUpload(repository, last, complete, signal);
    return complete;
  }

  /** Looks, each second, whether the client sends; `stop` is called when it pauses. Returns what ends the watch. */
  #watch(stop: (error: unknown) => void): () => void {
    let seenBytes = 0;
    let pausedMs = 0;
    return this.#dependencies.clock.every(TICK_MS, () => {
      const { complete, ingest } = this.#reader.current;
      const isSending = complete !== undefined || ingest.writtenBytes - this.sentBytes >= SLOW_BYTES;
      pausedMs = isSending || this.sentBytes - seenBytes >= SLOW_BYTES ? 0 : pausedMs + TICK_MS;
      seenBytes = this.sentBytes;
      if (!this.isSingleUse && pausedMs >= PAUSE_MS) stop(RESTING);
      const longestMs = this.#permit?.isAwaited ? PAUSE_MS : SINGLE_USE_PAUSE_MS;
      if (this.isSingleUse && pausedMs >= longestMs) stop(stoodStill(this.repository, longestMs));
    });
  }

  /** Waits, with no connection and no permit, for as much again as was sent: that bounds what is sent more than once. */
  async #rest(): Promise<void> {
    this.#isResting = true;
    this.#reader.progress.notify();
    await this.#reader.until(Math.max(2 * this.sentBytes, LEAST_BYTES));
    this.#isResting = false;
  }

  #isNear(writtenBytes: number): boolean {
    return this.#isOver || this.#isResting || writtenBytes - this.sentBytes <= LEAD_BYTES;
  }

  get #writes(): UpstreamWrites {
    return this.#dependencies.writes(this.repository);
  }

  #resultOf(failure: Error): RelayResult {
    if (this.#abandoned.signal.aborted) return { abandoned: true };
    return { failure, isFinal: this.#triedWhole || this.isSingleUse || !isTransient(failure) };
  }
}

/** Whether the upstream cannot take anything for the moment, whatever it is sent. */
export function isTransient(error: unknown): boolean {
  return isUnavailable(error) || (error instanceof RegistryError && error.code === 'TOOMANYREQUESTS');
}

/** Whether another attempt may go better, and soon. */
function isWorthRetry(error: unknown): error is RegistryError {
  if (!(error instanceof RegistryError)) return false;
  if (error.code === 'TOOMANYREQUESTS') return (error.retryAfterMs ?? Infinity) <= LONGEST_RATE_LIMIT_MS;
  return BROKEN.has(error.code) || isUnavailable(error);
}

function stoodStill(repository: Repository, ms: number): RegistryError {
  const what = `an upload to ${imageName(repository)} that there is no space to store`;
  return new RegistryError(
    'BLOB_UPLOAD_INVALID',
    `${what} stood still for ${ms / 1000} s and was given up; push again`,
  );
}
