// The bytes of a source on their way into a response. How they get there is a Pump: through pooled buffers, here,
// or past this process (zerocopy.ts).
import type { ServerResponse } from 'node:http';
import type { Source } from '../content/content.ts';
import type { Span } from '../oci/range.ts';

/** How much is read and written at a time; two such buffers serve one answer. */
const BUFFER_BYTES = 256 * 1024;
/** Buffers that are kept for the next answer. */
const KEPT_BUFFERS = 32;
const kept: Buffer[] = [];

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
  #buffers: [Buffer, Buffer] | undefined;
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
    this.#buffers ??= [takeBuffer(), takeBuffer()];
    for (let position = span.start; position < span.end && !this.gone; ) {
      const [buffer] = this.#buffers;
      const wanted = span.end - position;
      const into = wanted < buffer.byteLength ? buffer.subarray(0, wanted) : buffer;
      const count = await this.source.read(into, position);
      if (count === 0) throw new Error(`the content ends at byte ${position} of ${this.source.sizeBytes}`);
      await this.written();
      if (this.gone) return;
      this.#isWriting = true;
      this.outgoing.write(into.subarray(0, count), () => this.#written());
      this.#buffers.reverse();
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
    this.#closeSource();
    if (this.#buffers === undefined) return;
    // What is still being written is left to the garbage collector.
    keepBuffer(this.#buffers[0]);
    if (!this.#isWriting) keepBuffer(this.#buffers[1]);
  }

  #leave(): void {
    this.gone = true;
    this.#closeSource();
    this.#wake();
  }

  #written(): void {
    this.#isWriting = false;
    this.#wake();
  }

  #closeSource(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.source.close();
  }
}

function takeBuffer(): Buffer {
  return kept.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
}

function keepBuffer(buffer: Buffer): void {
  if (kept.length < KEPT_BUFFERS) kept.push(buffer);
}
