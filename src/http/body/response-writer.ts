// Writes the bytes of one source into one response, never faster than the client takes them, and owns what that uses:
// it closes the source once, and releases each buffer once the system has its bytes, however the response ends.
//
// It waits by a wake function of its own rather than a Condition, whose waiter and closures would be made for each
// chunk; there is only ever one wait at a time.
import type { ServerResponse } from 'node:http';
import type { Span } from '../../base/spans.ts';
import type { Source } from '../../content/content.ts';
import { buffers } from './buffers.ts';

/** A response, and how many bytes of its body the system has. */
export interface Sent {
  readonly outgoing: ServerResponse;
  sentBytes: number;
}

export class ResponseWriter {
  readonly outgoing: ServerResponse;
  readonly source: Source;
  readonly #sent: Sent;
  /** The client has disconnected, or the response is complete. */
  ended = false;
  #isSourceClosed = false;
  /** Whether the system does not have all yet that was written. */
  #isWriting = false;
  /** The pooled buffer that is being written, if it is one. */
  #buffer: Buffer | undefined;
  #writingBytes = 0;
  #wake = () => {};

  constructor(sent: Sent, source: Source) {
    const { outgoing } = sent;
    this.outgoing = outgoing;
    this.source = source;
    this.#sent = sent;
    outgoing.once('close', () => this.#end());
    // The client may have disconnected while the source was waited for; then no more close comes.
    if (outgoing.destroyed) this.#end();
  }

  /** Reads and writes a span; resolves when the last of it has been handed to the response. */
  async copy(span: Span): Promise<void> {
    for (let position = span.start; position < span.end && !this.ended; ) {
      const count = await this.#copyChunk(position, span.end - position);
      if (count === 0) throw new Error(`the content ends at byte ${position} of ${this.source.sizeBytes}`);
      position += count;
    }
  }

  /** Reads, and writes as soon as the system has what was written before; resolves to the number of bytes. */
  async #copyChunk(position: number, wantedBytes: number): Promise<number> {
    const buffer = buffers.take(Math.min(wantedBytes, this.source.readLimitBytes ?? wantedBytes));
    try {
      const into = wantedBytes < buffer.byteLength ? buffer.subarray(0, wantedBytes) : buffer;
      const count = await this.source.read(into, position);
      await this.written();
      if (count > 0 && !this.ended) {
        this.#isWriting = true;
        this.#buffer = buffer;
        this.#writingBytes = count;
        this.outgoing.write(into.subarray(0, count), this.#onWritten);
      }
      return count;
    } finally {
      if (this.#buffer !== buffer) buffers.release(buffer);
    }
  }

  /** Writes text between spans, which has to be short. */
  text(text: string): void {
    if (text === '' || this.ended) return;
    this.outgoing.write(text);
    this.count(text.length);
  }

  /** To be told of bytes of the body that went past this writer. */
  count(bytes: number): void {
    this.#sent.sentBytes += bytes;
  }

  /** Resolves when the system has all that was written here, or the client has disconnected. */
  async written(): Promise<void> {
    while (this.#isWriting && !this.ended) {
      await new Promise<void>(wake => {
        this.#wake = wake;
      });
    }
  }

  /** Resolves when the system has all that was written anywhere, the head too. The response must have its socket. */
  async flushed(): Promise<void> {
    await this.written();
    const { socket } = this.outgoing;
    if (this.ended || socket === null) return;
    this.outgoing.flushHeaders();
    if (socket.writableLength === 0) return;
    this.#isWriting = true;
    socket.write('', this.#onWritten);
    await this.written();
  }

  /** To be called when no copy is in progress. */
  close(): void {
    if (this.#isSourceClosed) return;
    this.#isSourceClosed = true;
    this.source.close();
  }

  readonly #onWritten = (error?: Error | null) => {
    // The close event that follows comes too late: a copy in progress would read on meanwhile.
    if (error) return this.#end();
    this.count(this.#writingBytes);
    this.#release();
  };

  #end(): void {
    this.ended = true;
    this.close();
    // What the system does not have now it never will, and the callback of a write does not always come.
    this.#release();
  }

  #release(): void {
    this.#isWriting = false;
    this.#writingBytes = 0;
    if (this.#buffer !== undefined) buffers.release(this.#buffer);
    this.#buffer = undefined;
    this.#wake();
  }
}
