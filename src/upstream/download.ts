// A blob, or a range of one, whatever happens on the way: a body that breaks or stalls is asked for again, through the
// registry for a fresh redirect, from the first missing byte. Each byte comes once and in order; whether they are the
// right ones is for the receiver to verify.
//
// It holds a permit while bytes move. A receiver that takes nothing, or an upstream that hardly sends while others wait,
// makes it yield: the connection and the permit are given back, and it goes on behind those who wait.
import { abortable } from '../base/abortable.ts';
import { type Backoff, backoffMs } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError, reasonOf } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { type Mover, type Permit, SMALL_BLOB_BYTES } from './permits.ts';
import type { OnChunk } from './transport/response.ts';
import { type BlobBody, isUnavailable, type Upstream } from './upstream.ts';

/**
 * Where a download goes: called once, before any byte; the size is undefined when the upstream does not tell. What it
 * throws, and what the receiver of chunks throws, ends the download and is passed on as it is.
 */
export type OpenReceiver = (
  sizeBytes: number | undefined,
  contentType: string | undefined,
) => OnChunk | Promise<OnChunk>;

export interface DownloadOptions {
  readonly upstream: Upstream;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** The client that began it. */
  readonly client: string;
  /** Whether any client waits for it now. Default: always. */
  readonly isWanted?: () => boolean;
  /** How long the receiver may take nothing. Default: no bound. */
  readonly receiverStallMs?: number;
  /** The range that is wanted. Default: all. */
  readonly start?: number;
  readonly end?: number;
  /** Called when it may ask for bytes, at least once before the receiver is opened. */
  readonly onPermit?: () => void;
  /** Is told why a body broke, and how many bytes were received by then. */
  readonly onBreak?: (message: string, receivedBytes: number) => void;
}

/** No client waits for the download, and it was slow or in the way of others. */
export class Abandoned extends Error {}

/** Breaks in a row, with less than PROGRESS_BYTES between them, before the download fails. */
const BREAKS_LIMIT = 5;
const PROGRESS_BYTES = 64 * 1024;
const BACKOFF: Backoff = { firstMs: 200 };
/** There is one download of a blob at a time: no crowd to spread. */
const NO_JITTER = 0.5;

const TICK_MS = 1_000;
/** After so long without a byte it is asked whether the receiver holds them up. */
const RECEIVER_MS = 2_000;
/** Who moves less than this in this time is slow: 64 KiB/s. */
const SLOW_BYTES = 256 * 1024;
const SLOW_MS = 4_000;

/**
 * Hands the blob to the receiver. Throws what the receiver throws, what `upstream.openBlob` throws at the first
 * request, the signal's reason, UPSTREAM_UNAVAILABLE when the body broke too often, UNAVAILABLE when the receiver
 * stalled for too long, and Abandoned.
 */
export async function download(
  options: DownloadOptions,
  repository: Repository,
  digest: Digest,
  openReceiver: OpenReceiver,
): Promise<void> {
  const running = new Download(options, repository, digest, openReceiver);
  const stop = options.clock.every(TICK_MS, () => void running.look());
  try {
    await running.run();
  } finally {
    stop();
    running.release();
  }
}

class Download {
  readonly #options: DownloadOptions;
  readonly #repository: Repository;
  readonly #digest: Digest;
  readonly #what: string;
  readonly #openReceiver: OpenReceiver;
  readonly #failing = new AbortController();
  readonly #signal: AbortSignal;
  #permit: Permit | undefined;
  #body: BlobBody | undefined;
  /** The body was closed to yield. */
  #isYielding = false;
  /** Up to where the blob was received, or was not wanted. */
  #receivedBytes: number;
  #sizeBytes: number | undefined;
  #onChunk: OnChunk | undefined;
  /** What the receiver answered to the last chunk. */
  #taking: Promise<void> | undefined;
  /** Where it stood at the last looks, the newest last: as many as it takes to tell who is slow. */
  #seenBytes: number[] = [];
  #stillMs = 0;

  constructor(options: DownloadOptions, repository: Repository, digest: Digest, openReceiver: OpenReceiver) {
    this.#options = options;
    this.#repository = repository;
    this.#digest = digest;
    this.#what = imageName(repository, { digest });
    this.#openReceiver = openReceiver;
    this.#receivedBytes = options.start ?? 0;
    this.#signal = AbortSignal.any([options.signal, this.#failing.signal]);
  }

  async run(): Promise<void> {
    for (let breaks = 0; ; ) {
      const from = this.#receivedBytes;
      const broken = await this.#receiveRest();
      if (broken === undefined) return;
      this.#signal.throwIfAborted();
      // Its turn was over, and it goes on in its next one.
      if (broken === YIELDED && this.#receivedBytes > from) continue;
      breaks = this.#receivedBytes - from >= PROGRESS_BYTES ? 1 : breaks + 1;
      if (breaks > BREAKS_LIMIT) throw this.#brokeTooOften(breaks, broken);
      if (broken === YIELDED) continue;
      this.#options.onBreak?.(reasonOf(broken), this.#receivedBytes);
      await this.#options.clock.sleep(backoffMs(breaks, BACKOFF, NO_JITTER), this.#signal);
    }
  }

  release(): void {
    this.#permit?.release();
    this.#permit = undefined;
  }

  /** Looks, each second, whether bytes move and who waits for them. Never throws. */
  async look(): Promise<void> {
    const { isWanted, receiverStallMs = Infinity } = this.#options;
    const before = this.#seenBytes.at(-1) ?? 0;
    this.#stillMs = this.#receivedBytes > before ? 0 : this.#stillMs + TICK_MS;
    this.#seenBytes = [...this.#seenBytes, this.#receivedBytes].slice(-1 - SLOW_MS / TICK_MS);
    if (this.#stillMs >= RECEIVER_MS && (await isPending(this.#taking))) {
      if (this.#stillMs >= receiverStallMs) return this.#fail(stalled(this.#what, receiverStallMs));
      return this.#yield();
    }
    const isSlow = this.#isSlow();
    if (isWanted?.() === false && (this.#permit?.isAwaited !== false || isSlow)) return this.#fail(new Abandoned());
    if (this.#permit?.isAwaited && isSlow) this.#yield();
  }

  /** Resolves to what broke it, to YIELDED, or to undefined when all is received. */
  async #receiveRest(): Promise<unknown> {
    // The bytes of the next body wait for the receiver of those before, or they would overtake.
    await this.#taken();
    const body = await this.#open();
    if ('broken' in body) return body.broken;
    this.#body = body;
    this.#isYielding = false;
    this.#seenBytes = [];
    try {
      const broken = await this.#receive(body, await this.#receiver(body));
      return this.#isYielding && broken !== undefined ? YIELDED : broken;
    } finally {
      this.#body = undefined;
      body.close();
    }
  }

  async #open(): Promise<BlobBody | { broken: unknown }> {
    const { upstream, client } = this.#options;
    const mover = { repository: this.#repository, client };
    for (;;) {
      if (this.#permit === undefined) {
        this.#permit = await this.#acquire(mover);
        if (this.#onChunk === undefined) this.#options.onPermit?.();
      }
      let body: BlobBody;
      try {
        const span = { start: this.#receivedBytes, end: this.#options.end };
        body = await upstream.openBlob(this.#repository, this.#digest, span, this.#signal);
      } catch (error) {
        // A failure of the first request has had its retries; later ones count as one more break.
        if (this.#onChunk === undefined || !isUnavailable(error)) throw error;
        return { broken: error };
      }
      this.#sizeBytes ??= body.sizeBytes;
      if (!this.#permit.isForSmall || this.#isSmall()) return body;
      body.close();
      this.release();
    }
  }

  #acquire(mover: Mover): Promise<Permit> {
    const { downloads } = this.#options.upstream;
    const isLarge = (this.#options.end ?? this.#sizeBytes) !== undefined && !this.#isSmall();
    return isLarge ? downloads.acquireLarge(mover, this.#signal) : downloads.acquire(mover, this.#signal);
  }

  #isSmall(): boolean {
    const end = this.#options.end ?? this.#sizeBytes;
    return end !== undefined && end - this.#receivedBytes <= SMALL_BLOB_BYTES;
  }

  /** Opens the receiver, the first time; later it holds the upstream to what it told then. */
  async #receiver({ sizeBytes: told, contentType }: BlobBody): Promise<OnChunk> {
    if (this.#onChunk === undefined) {
      this.#onChunk = await this.#openReceiver(told, contentType);
    } else if (this.#sizeBytes !== undefined && told !== undefined && told !== this.#sizeBytes) {
      const message = `${this.#what} had ${this.#sizeBytes} bytes at first and now has ${told}`;
      throw new RegistryError('UPSTREAM_INVALID', message);
    }
    return this.#onChunk;
  }

  /** Resolves to the error that broke the body, or to undefined when it is complete. */
  async #receive(body: BlobBody, take: OnChunk): Promise<unknown> {
    // An upstream that does not honour ranges sends again what we have.
    let skip = this.#receivedBytes - body.start;
    const { end = this.#sizeBytes } = this.#options;
    const isRange = this.#options.end !== undefined;
    const error = await body.read(arrived => {
      let chunk = skip > 0 ? arrived.subarray(skip) : arrived;
      skip = Math.max(0, skip - arrived.length);
      if (end !== undefined && chunk.length > end - this.#receivedBytes) {
        if (!isRange) throw this.#isTooLong(end);
        // Nor those behind the range.
        chunk = chunk.subarray(0, end - this.#receivedBytes);
        body.close();
      }
      if (chunk.length === 0) return undefined;
      this.#receivedBytes += chunk.length;
      this.#taking = take(chunk);
      return this.#taking;
    });
    // A connection that breaks does not wait for the receiver.
    if (!this.#isYielding) await this.#taken();
    if (this.#receivedBytes === end) return undefined;
    if (error !== undefined || end === undefined) return error;
    return new Error(`the body ended after ${this.#receivedBytes} of ${end} bytes`);
  }

  /** Resolves when the receiver has the last chunk; throws the reason when nothing is to be received any more. */
  async #taken(): Promise<void> {
    if (this.#taking === undefined || this.#signal.aborted) return;
    await abortable(this.#taking, this.#signal);
  }

  #isTooLong(sizeBytes: number): RegistryError {
    const message = `${this.#what} has more than the ${sizeBytes} bytes that were announced`;
    return new RegistryError('UPSTREAM_INVALID', message);
  }

  #isSlow(): boolean {
    const [oldest = 0] = this.#seenBytes;
    return this.#seenBytes.length > SLOW_MS / TICK_MS && this.#receivedBytes - oldest < SLOW_BYTES;
  }

  #yield(): void {
    if (this.#body === undefined) return;
    this.#isYielding = true;
    this.#body.close();
    this.release();
  }

  #fail(error: Error): void {
    this.#failing.abort(error);
  }

  #brokeTooOften(breaks: number, broken: unknown): RegistryError {
    const at = `last at byte ${this.#receivedBytes} of ${this.#sizeBytes ?? 'unknown'}`;
    const why = broken === YIELDED ? 'it hardly sends' : reasonOf(broken);
    const message = `the download of ${this.#what} broke ${breaks} times, ${at}: ${why}`;
    return new RegistryError('UPSTREAM_UNAVAILABLE', message, { cause: broken });
  }
}

const YIELDED = Symbol('yielded');

function stalled(what: string, stallMs: number): RegistryError {
  return new RegistryError('UNAVAILABLE', `the client took nothing of ${what} for ${stallMs / 1000} s`);
}

async function isPending(promise: Promise<void> | undefined): Promise<boolean> {
  const pending = {};
  // In the order of the race, a settled promise comes first.
  return promise !== undefined && (await Promise.race([promise.catch(() => {}), pending])) === pending;
}
