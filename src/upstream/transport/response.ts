// Receiving one response. Chunks go straight from the HTTP parser to the reader, with nothing in between: no copy, no
// queue, and no promise unless the reader asks for time.
import type { IncomingHttpHeaders } from 'node:http';
import { type Dispatcher, errors } from 'undici';
import { releaseMemory } from '../../base/release-memory.ts';
import { RegistryError, reasonOf } from '../../oci/errors.ts';
import { parseJsonObject } from '../../oci/json.ts';
import { type Room, responseMemory } from './response-memory.ts';

export interface UpstreamResponse {
  /** Where it came from, after redirects. */
  readonly url: URL;
  readonly status: number;
  /** The first value of a header, by its name in lower case; of one that is a list, all values. */
  header(name: string): string | undefined;
  /** Must be read or abandoned, or its connection is never free again. */
  readonly body: ResponseBody;
}

/**
 * Is handed each chunk, which is valid until it returns: its memory is used again. A promise asks the sender to wait. What
 * it throws, or rejects with, ends the body.
 */
export type OnChunk = (chunk: Buffer) => Promise<void> | undefined;

export interface ResponseBody {
  /**
   * Hands over each chunk the moment it arrives; the next one waits for the promise of the one before, if it gave one.
   * Resolves to the error that broke the body, or to undefined at its end; rejects with what `onChunk` failed with. No
   * chunk that arrived is lost when the body breaks, so the reader knows exactly where to go on.
   */
  read(onChunk: OnChunk): Promise<unknown>;
  /** Ends it, and its connection if there is more to come. */
  abandon(): void;
}

/** Headers whose values may come in several lines, and mean the same in one (RFC 9110, section 5.3). */
export const LISTS: ReadonlySet<string> = new Set(['link', 'www-authenticate']);
/** How many responses may announce a final one. */
export const INTERIM_LIMIT = 100;
/** How much of an unwanted body is read to keep its connection. */
const DISCARDED_BYTES = 64 * 1024;

/** What undici calls for one request. */
export class ResponseReceiver implements Dispatcher.DispatchHandler, ResponseBody {
  /** Resolves when the headers are here; rejects with undici's error when there is no response. */
  readonly response: Promise<UpstreamResponse>;
  readonly #url: URL;
  readonly #signal: AbortSignal | undefined;
  readonly #isLate: () => boolean;
  /** Is told when there is a connection, and the request was sent on it. */
  readonly #sending: { isConnected: boolean };
  readonly #headers = Promise.withResolvers<UpstreamResponse>();
  readonly #end = Promise.withResolvers<unknown>();
  #controller: Dispatcher.DispatchController | undefined;
  #onChunk: OnChunk | undefined;
  /** What arrived of the body together with the headers, before there is a reader. */
  #early: Buffer | undefined;
  #isOver = false;
  #interim = 0;

  /** `isLate` tells whether the headers have taken too long, however often they were announced. */
  constructor(url: URL, signal: AbortSignal | undefined, isLate: () => boolean, sending: { isConnected: boolean }) {
    this.#url = url;
    this.#signal = signal;
    this.#isLate = isLate;
    this.#sending = sending;
    this.response = this.#headers.promise;
    this.#end.promise.catch(() => {});
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  read(onChunk: OnChunk): Promise<unknown> {
    this.#onChunk = onChunk;
    if (this.#early !== undefined) void this.#resumeAfter(onChunk, this.#early);
    this.#early = undefined;
    return this.#end.promise;
  }

  abandon(): void {
    if (this.#isOver) return;
    this.#controller?.abort(new Error('the rest of the response is not wanted'));
    this.#over();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    this.#sending.isConnected = true;
    if (this.#signal?.aborted) this.#onAbort();
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) {
      const isEndless = ++this.#interim > INTERIM_LIMIT || this.#isLate();
      if (isEndless) controller.abort(new errors.HeadersTimeoutError(`nothing but ${status} after ${status}`));
      return;
    }
    const header = (name: string) => {
      const value = headers[name];
      if (!Array.isArray(value)) return value;
      return LISTS.has(name) ? value.join(', ') : value[0];
    };
    this.#headers.resolve({ url: this.#url, status, header, body: this });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    // undici sends an empty one whenever it resumes.
    if (chunk.length === 0) return;
    if (this.#onChunk === undefined) {
      this.#early = chunk;
      controller.pause();
      return;
    }
    const wait = this.#deliver(this.#onChunk, chunk);
    // What is read of it is read. Later in this turn, since undici looks at what is behind it.
    queueMicrotask(() => releaseMemory(chunk));
    if (wait === undefined) return;
    controller.pause();
    void wait.then(() => this.#isOver || controller.resume());
  }

  onResponseEnd(): void {
    this.#over();
    this.#end.resolve(undefined);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#over();
    this.#headers.reject(error);
    this.#end.resolve(error);
  }

  /** The promise waits for the reader, and never rejects. */
  #deliver(onChunk: OnChunk, chunk: Buffer): Promise<void> | undefined {
    try {
      return onChunk(chunk)?.catch(error => this.#fail(error));
    } catch (error) {
      this.#fail(error);
    }
  }

  async #resumeAfter(onChunk: OnChunk, early: Buffer): Promise<void> {
    await this.#deliver(onChunk, early);
    if (!this.#isOver) this.#controller?.resume();
  }

  readonly #onAbort = () => this.#controller?.abort(new Error('aborted', { cause: this.#signal?.reason }));

  /** The reader has failed, which is not the network's fault. */
  #fail(error: unknown): void {
    this.#end.reject(error);
    this.abandon();
  }

  #over(): void {
    this.#isOver = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }
}

/** Reads an unwanted body to its end, to keep its connection; gives up both when it is long. Resolves to the headers. */
export async function discard(response: UpstreamResponse): Promise<UpstreamResponse> {
  const { body } = response;
  let left = DISCARDED_BYTES;
  await body.read(chunk => {
    left -= chunk.length;
    if (left < 0) body.abandon();
    return undefined;
  });
  return response;
}

/**
 * The whole body; undefined when it is longer than `limitBytes`. Throws as Dialer.dial does when it breaks, and
 * UNAVAILABLE when there is no memory for it, which is taken from `room` where the caller keeps what was read.
 */
export async function readAll(
  { url, body }: UpstreamResponse,
  limitBytes: number,
  room?: Room,
): Promise<Buffer | undefined> {
  using own = room === undefined ? responseMemory.room() : undefined;
  const chunks: Buffer[] = [];
  let length = 0;
  const error = await body.read(chunk => {
    (room ?? own)?.take(chunk.length);
    chunks.push(Buffer.from(chunk));
    length += chunk.length;
    if (length > limitBytes) body.abandon();
    return undefined;
  });
  if (length > limitBytes) return undefined;
  if (error !== undefined) throw networkError(url, error);
  return Buffer.concat(chunks, length);
}

/** Members of a body that is parsed on the event loop. */
const VALUES_LIMIT = 10_000;

/** The members of a body that is a JSON object; none of anything else, and of what has too many. */
export function membersOf(body: Buffer | undefined): Readonly<Record<string, unknown>> {
  return (body && parseJsonObject(body, VALUES_LIMIT)) ?? {};
}

/** UPSTREAM_TIMEOUT or UPSTREAM_UNAVAILABLE, for what undici failed with. */
export function networkError({ host }: URL, cause: unknown): RegistryError {
  const isTimeout =
    cause instanceof errors.HeadersTimeoutError ||
    cause instanceof errors.BodyTimeoutError ||
    cause instanceof errors.ConnectTimeoutError;
  return isTimeout
    ? new RegistryError('UPSTREAM_TIMEOUT', `${host} does not answer in time (${reasonOf(cause)})`, { cause })
    : new RegistryError('UPSTREAM_UNAVAILABLE', `${host} cannot be reached (${reasonOf(cause)})`, { cause });
}
