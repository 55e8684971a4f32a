// The bytes of a source on their way into a response. How they get there is a Pump: through pooled buffers, here,
// or past this process (zerocopy.ts).
import type { ServerResponse } from 'node:http';
import type { Source } from '../content/content.ts';
import type { Span } from '../oci/range.ts';

/** Buffers of one size that are used again: as many of them as are kept for it. */
class Pool {
  readonly bytes: number;
  readonly #keep: number;
  readonly #kept: Buffer[] = [];

  constructor(bytes: number, keep: number) {
    this.bytes = bytes;
    this.#keep = keep;
  }

  take(): Buffer {
    return this.#kept.pop() ?? Buffer.allocUnsafeSlow(this.bytes);
  }

  give(buffer: Buffer): void {
    if (this.#kept.length < this.#keep) this.#kept.push(buffer);
  }
}

/** For small bodies, and for the clients that are slow, of whom there may be many. */
const SMALL = new Pool(64 * 1024, 256);
/** How much is read and written at a time; one answer uses up to two of them. */
const LARGE = new Pool(256 * 1024, 32);

/**
 * Sends a span of the outlet's source; the head, and what else goes before it, has been written. Resolves when what
 * comes after it can be written, or the client has left. Throws what reading the source does.
 */
export type Pump = (outlet: Outlet, span: Span) => Promise<void>;

/** Reads into a buffer while another one is being written: what always works. Nothing is allocated for a chunk. */
export const pumpBuffers: Pump = (outlet, span) => outlet.pump(span);

export class Outlet {
  readonly outgoing: ServerResponse;
  readonly source: Source;
  /** The client has left, or the answer is complete. */
  gone = false;
  #isClosed = false;
  /** Whether something that was written is not with the system yet: its buffer is still in use. */
  #isWriting = false;
  #wake = () => {};

  constructor(outgoing: ServerResponse, source: Source) {
    this.outgoing = outgoing;
    this.source = source;
    outgoing.once('close', () => this.#leave());
    // It may have left while the source was waited for; then there is no more close to come.
    if (outgoing.destroyed) this.#leave();
  }

  async pump(span: Span): Promise<void> {
    const pool = span.end - span.start <= SMALL.bytes ? SMALL : LARGE;
    for (let position = span.start; position < span.end && !this.gone; ) {
      const buffer = pool.take();
      const wanted = span.end - position;
      const into = wanted < buffer.byteLength ? buffer.subarray(0, wanted) : buffer;
      const count = await this.source.read(into, position);
      if (count === 0) throw new Error(`the content ends at byte ${position} of ${this.source.sizeBytes}`);
      await this.written();
      if (this.gone) return;
      this.#isWriting = true;
      this.outgoing.write(into.subarray(0, count), () => {
        pool.give(buffer);
        this.#written();
      });
      position += count;
    }
  }

  /** Resolves when all that was written here is with the system, or the client has left. */
  async written(): Promise<void> {
    while (this.#isWriting && !this.gone) {
      await new Promise<void>(wake => {
        this.#wake = wake;
      });
    }
  }

  /** Resolves when all that was written at all is: the head, too. The response must have its socket. */
  async flushed(): Promise<void> {
    await this.written();
    const { socket } = this.outgoing;
    if (this.gone || socket === null) return;
    this.#isWriting = true;
    this.outgoing.flushHeaders();
    socket.write('', () => this.#written());
    await this.written();
  }

  /** To be called when no pump is under way. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.source.close();
  }

  #leave(): void {
    this.gone = true;
    this.close();
    this.#wake();
  }

  #written(): void {
    this.#isWriting = false;
    this.#wake();
  }
}
