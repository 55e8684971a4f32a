// A relay: content on its way to the upstream, read from the ingest of an upload while that is still growing. What is
// complete when the relay starts goes as one PUT, unless the upstream has it; the rest as one streamed PATCH, closed when
// the last byte is here. When either breaks, it starts again from the first byte, which costs the client nothing.
//
// It reads from one source at a time. Uploads that name the same digest may share a relay (relays.ts): it goes on with
// another source when that has more bytes, or all of them. That the bytes before were the same is not taken on trust: if
// they were not, the upstream computes another digest, and the complete source is sent as a whole.
import { backoffMs } from '../base/backoff.ts';
import type { Clock, Random } from '../base/clock.ts';
import { Condition } from '../base/condition.ts';
import type { Log } from '../base/log.ts';
import type { Ingest } from '../content/ingest.ts';
import type { Digest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError, reasonOf } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { isUnavailable, type UpstreamWrites } from '../upstream/upstream.ts';
import type { Admission } from './admission.ts';

/** Where the bytes come from. After `complete` was set the relay has to be told, by offer(). */
export interface RelaySource {
  readonly ingest: Pick<Ingest, 'writtenBytes' | 'progress' | 'reader'>;
  /** The verified digest of all bytes, once they are all here. */
  readonly complete: Digest | undefined;
  /** Its bytes can be read only once, so they cannot be sent again. */
  readonly isSingleUse: boolean;
}

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
const READ_BYTES = 1024 * 1024;
/**
 * A chunk of this size or more, above what a socket buffers, has been sent for good when the next one is asked for: its
 * memory is reused.
 */
const REUSED_BYTES = 128 * 1024;
/** How far a source may be ahead of what is sent: it is what is left to send after the client's last byte. */
const LEAD_BYTES = 16 * 1024 * 1024;

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
  /** How much of the content has been sent in the attempt under way. */
  sentBytes = 0;
  readonly #dependencies: RelayDependencies;
  #source: RelaySource;
  readonly #abandoned = new AbortController();
  readonly #signal: AbortSignal;
  /** Counts the readings of the source. Only the last one goes on: a request that is made again reads again. */
  #readings = 0;
  /** Whether all bytes were here when the last attempt started. */
  #triedWhole = false;
  #isOver = false;
  /** Notified when more was sent, and at the end. */
  readonly #sent = new Condition();

  /** Starts at once. */
  constructor(dependencies: RelayDependencies, repository: Repository, source: RelaySource) {
    this.#dependencies = dependencies;
    this.repository = repository;
    this.isSingleUse = source.isSingleUse;
    this.#source = source;
    this.#signal = AbortSignal.any([dependencies.signal, this.#abandoned.signal]);
    this.result = this.#run()
      .catch(failure => this.#resultOf(failure))
      .finally(() => {
        this.#isOver = true;
        this.#sent.notify();
      });
  }

  /** False when it is over or being given up. */
  get isOpen(): boolean {
    return !this.#isOver && !this.#signal.aborted;
  }

  /** A source of the same content, or the relay's own, has more bytes or is complete: reads from the one that is ahead. */
  offer(source: RelaySource): void {
    const current = this.#source;
    const isAhead = source.complete !== undefined || source.ingest.writtenBytes > current.ingest.writtenBytes;
    if (current.complete === undefined && isAhead) this.#source = source;
    current.ingest.progress.notify();
  }

  /** The source is given up; so is the relay, if it reads from that one. */
  leave(source: RelaySource): void {
    if (source === this.#source) this.#abandoned.abort(new Error('the upload that it read was given up'));
  }

  /** For a writer with this many bytes: a promise when it is so far ahead that it has to wait. */
  keepUp(writtenBytes: number): Promise<void> | undefined {
    return this.#isNear(writtenBytes) ? undefined : this.#sent.wait(() => this.#isNear(writtenBytes));
  }

  async #run(): Promise<RelayResult> {
    const { clock, random, log } = this.#dependencies;
    let wholeAttempts = 0;
    for (let attempt = 1; ; attempt++) {
      const release = await this.#writes.acquireUpload(this.repository, this.#signal);
      let pauseMs = backoffMs(attempt, BACKOFF, random.fraction());
      try {
        return { accepted: await this.#send() };
      } catch (error) {
        this.#signal.throwIfAborted();
        if (attempt === ATTEMPTS || this.isSingleUse || !isWorthRetry(error)) throw error;
        // The digest of a whole has been verified here: an upstream that rejects it twice always will.
        const isRejectedWhole = this.#triedWhole && !isUnavailable(error);
        if (isRejectedWhole && ++wholeAttempts === WHOLE_ATTEMPTS) throw error;
        pauseMs = Math.max(pauseMs, error.retryAfterMs ?? 0);
        const at = this.sentBytes;
        const what = `a push to ${imageName(this.repository)}`;
        log.warn({ at }, `${what} broke at byte ${at} and starts again: ${reasonOf(error)}`);
      } finally {
        release();
      }
      // An upstream that timed out while no bytes came is tried again when there are some.
      await this.#more(this.sentBytes);
      await clock.sleep(pauseMs, this.#signal);
    }
  }

  /** One attempt. Resolves to the digest that the upstream has accepted. */
  async #send(): Promise<Digest> {
    this.sentBytes = 0;
    const { repository, isSingleUse } = this;
    const digest = this.#source.complete;
    this.#triedWhole = digest !== undefined;
    if (digest !== undefined && (await this.#writes.holdsBlob(repository, digest))) return digest;
    // What can be sent only once goes to an upload that was opened just now, with a token that is known to work.
    const { admission } = this.#dependencies;
    const location = await (isSingleUse ? this.#writes.startUpload(repository) : admission.location(repository));
    const bytes = () => {
      const reading = ++this.#readings;
      this.#source.ingest.progress.notify();
      return this.#read(reading);
    };
    const signal = this.#signal;
    try {
      if (digest !== undefined) {
        const sizeBytes = this.#source.ingest.writtenBytes;
        await this.#writes.finishUpload(repository, location, digest, signal, { sizeBytes, bytes });
        return digest;
      }
      const last = await this.#writes.streamUpload(repository, location, bytes, signal, isSingleUse);
      const { complete, ingest } = this.#source;
      if (complete === undefined || ingest.writtenBytes !== this.sentBytes) {
        throw new RegistryError('BLOB_UPLOAD_INVALID', 'it was ended before it was complete');
      }
      await this.#writes.finishUpload(repository, last, complete, signal);
      return complete;
    } catch (error) {
      void this.#writes.cancelUpload(repository, location);
      throw error;
    } finally {
      // No reading goes on after the request that wanted it.
      this.#readings++;
      this.#source.ingest.progress.notify();
    }
  }

  /** The bytes from the first to the last, as they come. Ends early when another reading has begun. */
  async *#read(reading: number): AsyncGenerator<Uint8Array> {
    let position = 0;
    let source: RelaySource | undefined;
    let reader: ReturnType<Ingest['reader']> | undefined;
    let buffer: Buffer | undefined;
    try {
      while (reading === this.#readings) {
        this.#sent.notify();
        const { complete, ingest } = this.#source;
        const available = ingest.writtenBytes - position;
        if (available <= 0) {
          if (complete !== undefined) return;
          await this.#more(position);
          continue;
        }
        if (source !== this.#source || reader === undefined) {
          reader?.close();
          source = this.#source;
          reader = ingest.reader();
        }
        const wanted = Math.min(available, READ_BYTES);
        const isReused = wanted >= REUSED_BYTES;
        if (isReused) buffer ??= Buffer.allocUnsafeSlow(READ_BYTES);
        const into = isReused && buffer ? buffer.subarray(0, wanted) : Buffer.allocUnsafeSlow(wanted);
        const count = await reader.read(into, position);
        if (reading !== this.#readings) return;
        if (count === 0) throw new Error(`an upload ends at byte ${position}, before the end that was recorded`);
        position += count;
        this.sentBytes = position;
        const chunk = into.subarray(0, count);
        // A small one may still be in the socket's buffer when the next is asked for.
        yield isReused && count < REUSED_BYTES ? Buffer.from(chunk) : chunk;
      }
    } finally {
      reader?.close();
    }
  }

  /** Resolves when a reading at this position has something to do: bytes, the end, another source, or no more. */
  async #more(position: number): Promise<void> {
    const source = this.#source;
    const readings = this.#readings;
    const isOther = () => source !== this.#source || readings !== this.#readings;
    const hasMore = () => source.ingest.writtenBytes > position || source.complete !== undefined || isOther();
    await source.ingest.progress.wait(hasMore, this.#signal);
  }

  #isNear(writtenBytes: number): boolean {
    return this.#isOver || writtenBytes - this.sentBytes <= LEAD_BYTES;
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
