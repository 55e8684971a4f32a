// A whole blob, whatever happens on the way: a body that breaks or stalls is asked for again, through the registry for a
// fresh redirect, from the first missing byte. Each byte comes once and in order; whether they are the right ones is for
// the receiver to verify.
import { type Backoff, backoffMs } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError, reasonOf } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
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
  /** Is told why a body broke, and how many bytes were received by then. */
  readonly onBreak?: (message: string, receivedBytes: number) => void;
}

/** Breaks in a row, with less than PROGRESS_BYTES between them, before the download fails. */
const BREAKS_LIMIT = 5;
const PROGRESS_BYTES = 64 * 1024;
const BACKOFF: Backoff = { firstMs: 200 };
/** There is one download of a blob at a time: no crowd to spread. */
const NO_JITTER = 0.5;

/**
 * Hands the blob to the receiver. Throws what the receiver throws, what `upstream.openBlob` throws at the first
 * request, the signal's reason, and UPSTREAM_UNAVAILABLE when the body broke too often.
 */
export async function download(
  { upstream, clock, signal, onBreak }: DownloadOptions,
  repository: Repository,
  digest: Digest,
  openReceiver: OpenReceiver,
): Promise<void> {
  const what = imageName(repository, { digest });
  let received = 0;
  let sizeBytes: number | undefined;
  let onChunk: OnChunk | undefined;
  for (let breaks = 0; ; ) {
    const from = received;
    let broken: unknown;
    const body = await upstream.openBlob(repository, digest, received, signal).catch(error => {
      // A failure of the first request has had its retries; later ones count as one more break.
      if (onChunk === undefined || !isUnavailable(error)) throw error;
      broken = error;
    });
    if (body !== undefined) {
      try {
        broken = await receive(body, await start(body));
      } finally {
        body.close();
      }
    }
    if (broken === undefined) return;
    signal.throwIfAborted();
    breaks = received - from >= PROGRESS_BYTES ? 1 : breaks + 1;
    if (breaks > BREAKS_LIMIT) {
      throw new RegistryError(
        'UPSTREAM_UNAVAILABLE',
        `the download of ${what} broke ${breaks} times, last at byte ${received} of ${sizeBytes ?? 'unknown'}: ${reasonOf(broken)}`,
        { cause: broken },
      );
    }
    onBreak?.(reasonOf(broken), received);
    await clock.sleep(backoffMs(breaks, BACKOFF, NO_JITTER), signal);
  }

  /** Opens the receiver, the first time; later it holds the upstream to what it told then. */
  async function start({ sizeBytes: told, contentType }: BlobBody): Promise<OnChunk> {
    if (onChunk === undefined) {
      sizeBytes = told;
      onChunk = await openReceiver(told, contentType);
    } else if (sizeBytes !== undefined && told !== undefined && told !== sizeBytes) {
      throw new RegistryError('UPSTREAM_INVALID', `${what} had ${sizeBytes} bytes at first and now has ${told}`);
    }
    return onChunk;
  }

  /** Resolves to the error that broke the body, or to undefined when it is complete. */
  async function receive(body: BlobBody, take: OnChunk): Promise<unknown> {
    // An upstream that does not honour ranges sends again what we have.
    let skip = received - body.start;
    let taking: Promise<void> | undefined;
    const error = await body.read(arrived => {
      const chunk = skip > 0 ? arrived.subarray(skip) : arrived;
      skip = Math.max(0, skip - arrived.length);
      if (chunk.length === 0) return undefined;
      received += chunk.length;
      if (sizeBytes !== undefined && received > sizeBytes) {
        throw new RegistryError('UPSTREAM_INVALID', `${what} has more than the ${sizeBytes} bytes that were announced`);
      }
      taking = take(chunk);
      return taking;
    });
    // A connection that breaks does not wait for the receiver, but the bytes of the next one do, or they would overtake.
    if (!signal.aborted) await taking;
    if (error !== undefined) return error;
    return sizeBytes === undefined || received === sizeBytes
      ? undefined
      : new Error(`the body ended after ${received} of ${sizeBytes} bytes`);
  }
}
