// A forward: content on its way from the uploads that bring it to the upstream, while it is still coming in.
// It is to pushes what a flight is to pulls: whoever pushes the same content at the same time, it goes up once.
//
// Uploads that begin with the same bytes are taken to be the same content, and are its suppliers: it reads on
// from whichever of them has the next bytes, and is closed by the first that is complete. Should they turn out
// to differ the upstream finds a wrong digest, and the one that is complete is sent once more, by itself.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Ingest } from '../content/ingest.ts';
import type { Digest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError, reasonOf } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { isUnavailable, type UpstreamWrites } from '../upstream/upstream.ts';

/** An upload, as far as a forward is concerned. */
export interface RelaySource {
  readonly ingest: Pick<Ingest, 'writtenBytes' | 'reader'>;
  /** Set when all bytes are here. */
  readonly complete: Digest | undefined;
  /** Its bytes can be read only once, so that it cannot be sent again. */
  readonly isSingleUse: boolean;
}

export interface RelayDependencies {
  readonly clock: Clock;
  readonly log: Log;
  /** Ends all forwards: the server is leaving. */
  readonly signal: AbortSignal;
  writes(repository: Repository): UpstreamWrites;
  /** Where the upstream takes the bytes of a new upload. */
  location(repository: Repository): Promise<URL>;
}

/** What a forward came to: what the upstream has accepted, or why it has not. */
export type RelayResult = { readonly accepted: Digest } | { readonly failure: Error };

const ATTEMPTS = 4;
const WHOLES = 2;
const FIRST_PAUSE_MS = 200;
/** A rate limit of up to this long is waited for. */
const WAITED_FOR_MS = 5_000;
const READ_BYTES = 1024 * 1024;
/** The next chunk is asked for when one of this size, above what a socket buffers, has left for good: its memory is free. */
const REUSED_BYTES = 128 * 1024;
/** How far suppliers may be ahead of what is sent: it is what is left to send when the last byte has come. */
const LEAD_BYTES = 16 * 1024 * 1024;

/** An upload that broke off, was lost or was mixed up: it can be done again from the beginning. */
const AGAIN: ReadonlySet<ErrorCode> = new Set([
  'BLOB_UPLOAD_INVALID',
  'BLOB_UPLOAD_UNKNOWN',
  'DIGEST_INVALID',
  'SIZE_INVALID',
]);

export class Relay {
  readonly repository: Repository;
  /** Never rejects. */
  readonly over: Promise<RelayResult>;
  /** Whether all bytes were there when it was last tried, so that trying anew is nothing new. */
  triedWhole = false;
  readonly #dependencies: RelayDependencies;
  readonly #suppliers = new Set<RelaySource>();
  readonly #abandoned = new AbortController();
  readonly #signal: AbortSignal;
  #sentBytes = 0;
  #isOver = false;
  readonly #sleeping = new Set<() => void>();
  readonly #waiting = new Set<() => void>();

  /** Starts at once. */
  constructor(dependencies: RelayDependencies, repository: Repository, supplier: RelaySource) {
    this.#dependencies = dependencies;
    this.repository = repository;
    this.#suppliers.add(supplier);
    this.#signal = AbortSignal.any([dependencies.signal, this.#abandoned.signal]);
    this.#signal.addEventListener('abort', this.#onAbort);
    this.over = this.#run().then(
      accepted => this.#end({ accepted }),
      failure => this.#end({ failure }),
    );
  }

  /** False when it is being given up, or is over. */
  join(supplier: RelaySource): boolean {
    if (this.#isOver || this.#signal.aborted) return false;
    this.#suppliers.add(supplier);
    this.moved();
    return true;
  }

  /** Gives up when nobody is left. */
  leave(supplier: RelaySource): void {
    this.#suppliers.delete(supplier);
    if (this.#suppliers.size === 0) this.#abandoned.abort(new Error('all who pushed it have left'));
    this.moved();
  }

  /** A supplier has more bytes, or is complete. */
  moved(): void {
    wakeAll(this.#sleeping);
  }

  /** Whether it has sent more than this supplier's whole, which is then something else. */
  hasPassed({ ingest, complete }: RelaySource): boolean {
    return complete !== undefined && this.#sentBytes > ingest.writtenBytes;
  }

  /** Asks who has so many bytes to wait, while it is too far behind. */
  keepUp(writtenBytes: number): Promise<void> | undefined {
    if (this.#isOver || writtenBytes - this.#sentBytes <= LEAD_BYTES) return undefined;
    return new Promise<void>(wake => this.#waiting.add(wake)).then(() => this.keepUp(writtenBytes));
  }

  async #run(): Promise<Digest> {
    const { clock, log } = this.#dependencies;
    let wholes = 0;
    for (let attempt = 1; ; attempt++) {
      const releasePlace = await this.#writes.acquireUpload(this.repository, this.#signal);
      let pauseMs = FIRST_PAUSE_MS * 2 ** (attempt - 1);
      try {
        return await this.#send();
      } catch (error) {
        this.#signal.throwIfAborted();
        const isLasting = [...this.#suppliers].every(({ isSingleUse }) => !isSingleUse);
        if (attempt === ATTEMPTS || !isLasting || !isPassing(error)) throw error;
        // The digest of a whole is known to be right: what does not believe it once more never will.
        if (this.triedWhole && ++wholes === WHOLES && !isUnavailable(error)) throw error;
        pauseMs = Math.max(pauseMs, error.retryAfterMs ?? 0);
        log.warn(
          { at: this.#sentBytes },
          `a push to ${imageName(this.repository)} broke at byte ${this.#sentBytes} and is begun anew: ${reasonOf(error)}`,
        );
      } finally {
        releasePlace();
      }
      // An upstream that does not wait for bytes that take their time is asked again when there are some.
      await this.#until(
        () => this.#whole() !== undefined || this.#longest().ingest.writtenBytes > this.#sentBytes,
      );
      await clock.sleep(pauseMs, this.#signal);
    }
  }

  /** What is complete goes up in one request unless it is there already, what is coming as one stream. */
  async #send(): Promise<Digest> {
    this.#sentBytes = 0;
    const whole = this.#whole();
    this.triedWhole = whole !== undefined;
    if (whole !== undefined && (await this.#writes.holdsBlob(this.repository, whole.digest)))
      return whole.digest;
    // What can be sent only once is sent with a grant that has just been taken.
    const isSingleUse = [...this.#suppliers].some(supplier => supplier.isSingleUse);
    const location = await (isSingleUse
      ? this.#writes.startUpload(this.repository)
      : this.#dependencies.location(this.repository));
    const signal = this.#signal;
    let stop = { stopped: false };
    // A request that is made anew with another token asks for the bytes anew, too.
    const bytes = (of: RelaySource | undefined) => () => {
      stop.stopped = true;
      stop = { stopped: false };
      return this.#bytes(stop, of);
    };
    try {
      if (whole !== undefined) {
        const { digest, supplier } = whole;
        const sizeBytes = supplier.ingest.writtenBytes;
        const content = { sizeBytes, bytes: bytes(supplier) };
        await this.#writes.finishUpload(this.repository, location, digest, signal, content);
        return digest;
      }
      const last = await this.#writes.streamUpload(
        this.repository,
        location,
        bytes(undefined),
        signal,
        isSingleUse,
      );
      const closing = this.#whole(this.#sentBytes);
      if (closing === undefined) {
        throw new RegistryError('BLOB_UPLOAD_INVALID', 'it was ended before it was complete');
      }
      await this.#writes.finishUpload(this.repository, last, closing.digest, signal);
      return closing.digest;
    } catch (error) {
      void this.#writes.cancelUpload(this.repository, location);
      throw error;
    } finally {
      stop.stopped = true;
      this.moved();
    }
  }

  /** All bytes of one supplier, or of any until one of them is complete. */
  async *#bytes(stop: { stopped: boolean }, only: RelaySource | undefined): AsyncGenerator<Uint8Array> {
    let position = 0;
    let supplier: RelaySource | undefined;
    let reader: ReturnType<Ingest['reader']> | undefined;
    let buffer: Buffer | undefined;
    try {
      for (;;) {
        wakeAll(this.#waiting);
        if (only === undefined && this.#whole(position) !== undefined) return;
        const next = only ?? this.#next(position);
        const available = next.ingest.writtenBytes - position;
        if (available <= 0) {
          if (next === only) return;
          await this.#until(
            () =>
              stop.stopped ||
              this.#whole(position) !== undefined ||
              this.#next(position).ingest.writtenBytes > position,
          );
          if (stop.stopped) return;
          continue;
        }
        if (next !== supplier) {
          reader?.close();
          supplier = next;
          reader = next.ingest.reader();
        }
        const wanted = Math.min(available, READ_BYTES);
        if (wanted >= REUSED_BYTES) buffer ??= Buffer.allocUnsafeSlow(READ_BYTES);
        const into = wanted < REUSED_BYTES ? Buffer.allocUnsafeSlow(wanted) : buffer?.subarray(0, wanted);
        const count = (into && (await reader?.read(into, position))) ?? 0;
        if (stop.stopped) return;
        if (count === 0) throw new Error(`an upload ends at byte ${position}, where there was more`);
        position += count;
        this.#sentBytes = position;
        const chunk = (into as Buffer).subarray(0, count);
        // One that is small may still wait in the socket when the next is asked for.
        yield wanted >= REUSED_BYTES && count < REUSED_BYTES ? Buffer.from(chunk) : chunk;
      }
    } finally {
      reader?.close();
    }
  }

  /** A supplier that is complete, of this size if that is given. */
  #whole(sizeBytes?: number): { digest: Digest; supplier: RelaySource } | undefined {
    for (const supplier of this.#suppliers) {
      const { complete: digest, ingest } = supplier;
      if (digest !== undefined && (sizeBytes ?? ingest.writtenBytes) === ingest.writtenBytes)
        return { digest, supplier };
    }
    return undefined;
  }

  /** Who is to be read from next: one that is complete and goes on from here, else the one with most. */
  #next(position: number): RelaySource {
    for (const supplier of this.#suppliers) {
      if (supplier.complete !== undefined && supplier.ingest.writtenBytes > position) return supplier;
    }
    return this.#longest();
  }

  #longest(): RelaySource {
    let longest: RelaySource | undefined;
    for (const supplier of this.#suppliers) {
      if (longest === undefined || supplier.ingest.writtenBytes > longest.ingest.writtenBytes)
        longest = supplier;
    }
    if (longest === undefined) throw new Error('all who pushed it have left');
    return longest;
  }

  get #writes(): UpstreamWrites {
    return this.#dependencies.writes(this.repository);
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!this.#signal.aborted && !condition()) {
      await new Promise<void>(wake => this.#sleeping.add(wake));
    }
    this.#signal.throwIfAborted();
  }

  readonly #onAbort = () => this.moved();

  #end(forwarded: RelayResult): RelayResult {
    this.#isOver = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
    wakeAll(this.#waiting);
    return forwarded;
  }
}

/** Whether it is only in the way for the moment. */
export function isTransient(error: unknown): boolean {
  return isUnavailable(error) || (error instanceof RegistryError && error.code === 'TOOMANYREQUESTS');
}

/** Whether it can be different the next time, and soon. */
function isPassing(error: unknown): error is RegistryError {
  if (!(error instanceof RegistryError)) return false;
  if (error.code === 'TOOMANYREQUESTS') return (error.retryAfterMs ?? Infinity) <= WAITED_FOR_MS;
  return AGAIN.has(error.code) || isUnavailable(error);
}

function wakeAll(sleeping: Set<() => void>): void {
  const wakes = [...sleeping];
  sleeping.clear();
  for (const wake of wakes) wake();
}
