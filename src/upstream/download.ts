// A whole blob, whatever happens on the way: a body that breaks or stalls is asked for again, through the
// registry for a fresh redirect, from the byte that is missing. Bytes come once each and in order; whether
// they are the right ones is for the receiver to tell.
import type { Clock } from '../base/clock.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError, reasonOf } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { type BlobBody, isUnavailable, type Upstream } from './upstream.ts';

/** Where a download goes. What it throws ends the download and is passed on as it is. */
export interface Receiver {
  /** Called once, before any byte; the size is undefined when the upstream does not tell. */
  start(sizeBytes: number | undefined, contentType: string | undefined): Promise<void> | void;
  /** Bytes in order. A promise asks the download to wait. */
  receive(chunk: Buffer): Promise<void> | undefined;
}

/** Breaks in a row, with less than PROGRESS_BYTES between them, before the download is given up. */
const BREAKS_LIMIT = 5;
const PROGRESS_BYTES = 64 * 1024;
const FIRST_PAUSE_MS = 200;

/**
 * Hands the blob to the receiver. Throws what the receiver throws, what `upstream.openBlob` throws at the
 * first request, and a RegistryError when the body broke too often.
 */
export async function download(
  options: {
    upstream: Upstream;
    clock: Clock;
    signal: AbortSignal;
    onBreak?: (message: string, at: number) => void;
  },
  repository: Repository,
  digest: Digest,
  receiver: Receiver,
): Promise<void> {
  const { upstream, clock, signal } = options;
  const what = imageName(repository, { digest });
  let received = 0;
  let sizeBytes: number | undefined;
  let started = false;
  for (let breaks = 0; ; ) {
    const from = received;
    let trouble: unknown;
    const body = await upstream.openBlob(repository, digest, received, signal).catch(error => {
      // A failure of the first request has had its retries; later ones count as one more break.
      if (!started || !isUnavailable(error)) throw error;
      trouble = error;
    });
    if (body !== undefined) {
      try {
        await agree(body);
        trouble = await pass(body);
      } finally {
        body.close();
      }
    }
    if (trouble === undefined) return;
    signal.throwIfAborted();
    breaks = received - from >= PROGRESS_BYTES ? 1 : breaks + 1;
    if (breaks > BREAKS_LIMIT) {
      throw new RegistryError(
        'UPSTREAM_UNAVAILABLE',
        `the download of ${what} broke ${breaks} times, last at byte ${received} of ${sizeBytes ?? 'unknown'}: ${reasonOf(trouble)}`,
        { cause: trouble },
      );
    }
    options.onBreak?.(reasonOf(trouble), received);
    await clock.sleep(FIRST_PAUSE_MS * 2 ** (breaks - 1), signal);
  }

  /** Tells the receiver what comes, the first time, and later on holds the upstream to it. */
  async function agree(body: BlobBody): Promise<void> {
    const told = body.sizeBytes;
    if (started && sizeBytes !== undefined && told !== undefined && told !== sizeBytes) {
      throw new RegistryError(
        'UPSTREAM_INVALID',
        `${what} had ${sizeBytes} bytes at first and now has ${told}`,
      );
    }
    if (started) return;
    started = true;
    sizeBytes = told;
    await receiver.start(told, body.contentType);
  }

  /** Passes the body on; resolves to what broke it, or to undefined when it is complete. */
  async function pass(body: BlobBody): Promise<unknown> {
    // An upstream that does not honour ranges sends again what we have.
    let skip = received - body.start;
    const trouble = await body.read(came => {
      const chunk = skip > 0 ? came.subarray(skip) : came;
      skip = Math.max(0, skip - came.length);
      if (chunk.length === 0) return undefined;
      received += chunk.length;
      if (sizeBytes !== undefined && received > sizeBytes) {
        throw new RegistryError(
          'UPSTREAM_INVALID',
          `${what} has more than the ${sizeBytes} bytes that were announced`,
        );
      }
      return receiver.receive(chunk);
    });
    if (trouble !== undefined) return trouble;
    return sizeBytes === undefined || received === sizeBytes
      ? undefined
      : new Error(`the body ended after ${received} of ${sizeBytes} bytes`);
  }
}
