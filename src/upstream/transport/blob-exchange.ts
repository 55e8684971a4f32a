// One GET and its response. Bytes go from the receive buffer of a connection straight to the reader: no copy, no queue, and
// no promise unless the reader asks for time. What comes while nobody takes it is set aside, and none of it is lost.
// Exactly as many bytes are handed over as the response says that it has.
import { HeadParser, type ResponseHead } from './head.ts';
import type { OnChunk, ResponseBody, UpstreamResponse } from './response.ts';

/** The connection, as far as an exchange is concerned with it. */
export interface Wire {
  /** Bytes are wanted again. */
  resume(): void;
  /** The exchange is done with it. One that cannot be used again is closed. */
  release(isReusable: boolean): void;
}

export class BlobExchange implements ResponseBody {
  /** The head of the request, as it is sent. */
  readonly request: string;
  /** What carries it now. */
  wire: Wire | undefined;
  /** Resolves at the end of the head; to undefined when the length of the body is not known, and the exchange is over. */
  readonly response: Promise<UpstreamResponse | undefined>;
  readonly #url: URL;
  readonly #signal: AbortSignal | undefined;
  readonly #response = Promise.withResolvers<UpstreamResponse | undefined>();
  readonly #end = Promise.withResolvers<unknown>();
  #parser: HeadParser | undefined = new HeadParser();
  #isKeptAlive = false;
  #bodyBytes = 0;
  /** How many of them are still to come. */
  #leftBytes = 0;
  #onChunk: OnChunk | undefined;
  /** There is no reader yet, or it takes its time. */
  #isPaused = true;
  /** Copies of what came meanwhile: over TLS, all that was received with what made the reader pause. */
  readonly #aside: Buffer[] = [];
  /** What the connection broke with, while there are bytes that came before. */
  #broken: Error | undefined;
  #isOver = false;

  constructor(url: URL, request: string, signal: AbortSignal | undefined) {
    this.request = request;
    this.response = this.#response.promise;
    this.#url = url;
    this.#signal = signal;
    this.#end.promise.catch(() => {});
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get isInBody(): boolean {
    return this.#parser === undefined;
  }

  /** Takes what came, in memory that is used again at once. Returns whether more is wanted now. */
  receive(bytes: Buffer): boolean {
    return this.#parser === undefined ? this.#receiveBody(bytes) : this.#receiveHead(this.#parser, bytes);
  }

  /** The connection is no more. */
  broke(cause: Error | undefined): void {
    const atByte = this.#bodyBytes - this.#leftBytes;
    const where = this.isInBody ? `after ${atByte} of ${this.#bodyBytes} bytes of the body` : 'within a head';
    const error = new Error(`the connection was closed ${where}`, { cause });
    if (this.#aside.length > 0) this.#broken = error;
    else this.fail(error);
  }

  /** Ends it, if it goes on. */
  fail(error: unknown): void {
    this.#response.reject(error);
    this.#finish(error);
  }

  /** As ResponseBody.read, but that a chunk is valid only until `onChunk` returns, whatever promise it gives. */
  read(onChunk: OnChunk): Promise<unknown> {
    this.#onChunk = onChunk;
    if (!this.#isOver) void this.#goOn();
    return this.#end.promise;
  }

  abandon(): void {
    this.fail(new Error('the rest of the response is not wanted'));
  }

  #receiveHead(parser: HeadParser, bytes: Buffer): boolean {
    try {
      const head = parser.parse(bytes);
      return head === undefined || this.#answer(head, bytes.subarray(head.takenBytes));
    } catch (error) {
      this.fail(error);
      return false;
    }
  }

  #answer({ status, header, bodyBytes, isKeptAlive }: ResponseHead, early: Buffer): boolean {
    this.#parser = undefined;
    if (bodyBytes === undefined) {
      this.#response.resolve(undefined);
      this.abandon();
      return false;
    }
    this.#isKeptAlive = isKeptAlive;
    this.#bodyBytes = bodyBytes;
    this.#leftBytes = bodyBytes;
    this.#response.resolve({ url: this.#url, status, header, body: this });
    if (bodyBytes > 0) return early.length === 0 || this.#receiveBody(early);
    this.#release(isKeptAlive && early.length === 0);
    this.#finish(undefined);
    return true;
  }

  #receiveBody(bytes: Buffer): boolean {
    const chunk = bytes.length > this.#leftBytes ? bytes.subarray(0, this.#leftBytes) : bytes;
    this.#leftBytes -= chunk.length;
    // Before the reader gets the last one: whatever it does with it, the connection is free.
    if (this.#leftBytes === 0) this.#release(this.#isKeptAlive && chunk === bytes);
    if (this.#isPaused) this.#aside.push(Buffer.from(chunk));
    else this.#handOver(chunk);
    return !this.#isPaused;
  }

  #handOver(chunk: Buffer): void {
    const wait = this.#deliver(chunk);
    if (wait !== undefined) {
      this.#isPaused = true;
      void this.#goOn(wait);
    } else if (this.#leftBytes === 0) {
      this.#finish(undefined);
    }
  }

  /** When the reader is ready: what was set aside, and then what comes. */
  async #goOn(wait?: Promise<void>): Promise<void> {
    if (wait !== undefined) await wait;
    for (let chunk = this.#aside.shift(); chunk !== undefined; chunk = this.#aside.shift()) await this.#deliver(chunk);
    if (this.#isOver) return;
    this.#isPaused = false;
    if (this.#broken !== undefined) this.fail(this.#broken);
    else if (this.#leftBytes === 0) this.#finish(undefined);
    else this.wire?.resume();
  }

  /** The promise waits for the reader, and never rejects. */
  #deliver(chunk: Buffer): Promise<void> | undefined {
    try {
      return this.#onChunk?.(chunk)?.catch(error => this.#refuse(error));
    } catch (error) {
      this.#refuse(error);
    }
  }

  /** The reader has failed, which is not the network's fault. */
  #refuse(error: unknown): void {
    this.#end.reject(error);
    this.abandon();
  }

  readonly #onAbort = () => {
    this.#response.reject(this.#signal?.reason);
    this.fail(new Error('aborted', { cause: this.#signal?.reason }));
  };

  #finish(error: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#aside.length = 0;
    this.#release(false);
    this.#end.resolve(error);
  }

  #release(isReusable: boolean): void {
    const { wire } = this;
    this.wire = undefined;
    wire?.release(isReusable);
  }
}
