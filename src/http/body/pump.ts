// The bytes of a source on their way into a response. How they get there is a Pump: through pooled buffers, here,
// or past this process (zerocopy.ts).
import type { ServerResponse } from 'node:http';
import type { Source } from '../../content/content.ts';
import type { Span } from '../../oci/range.ts';

/** What is read and written at a time; one answer uses up to two buffers of it. */
const LARGE_BYTES = 512 * 1024;
/** So many may be in use: what slow clients keep, of whom there may be many, is smaller. */
const LARGE_LIMIT = 64;
const MIDDLE_BYTES = 64 * 1024;
const SMALL_BYTES = 16 * 1024;
/** What is kept of each other size when nobody uses it, in bytes; large ones are few, and all kept. */
const KEPT_BYTES = 8 * 1024 * 1024;

/** Buffers that are used again. */
class Buffers {
  readonly #free = new Map<number, Buffer[]>(
    [SMALL_BYTES, MIDDLE_BYTES, LARGE_BYTES].map(size => [size, []]),
  );
  #largeInUse = 0;

  /** One of at least so many bytes, or of as many as there are to spare. */
  take(wantedBytes: number): Buffer {
    const size = this.#sizeFor(wantedBytes);
    if (size === LARGE_BYTES) this.#largeInUse++;
    return this.#free.get(size)?.pop() ?? Buffer.allocUnsafeSlow(size);
  }

  give(buffer: Buffer): void {
    const { byteLength } = buffer;
    const isLarge = byteLength === LARGE_BYTES;
    if (isLarge) this.#largeInUse--;
    const free = this.#free.get(byteLength);
    if (free !== undefined && (isLarge || (free.length + 1) * byteLength <= KEPT_BYTES)) free.push(buffer);
  }

  #sizeFor(wantedBytes: number): number {
    if (wantedBytes <= SMALL_BYTES) return SMALL_BYTES;
    return wantedBytes <= MIDDLE_BYTES || this.#largeInUse === LARGE_LIMIT ? MIDDLE_BYTES : LARGE_BYTES;
  }
}

const buffers = new Buffers();

/**
 * Sends a span of the outlet's source; the head, and what else goes before it, has been written. Resolves when what
 * comes after it can be written, or the client has left. Throws what reading the source does.
 */
export type Pump = (outlet: ResponseWriter, span: Span) => Promise<void>;

/** Reads into a buffer while another one is being written: what always works. Nothing is allocated for a chunk. */
export const pumpBuffers: Pump = (outlet, span) => outlet.pump(span);

export class ResponseWriter {
  readonly outgoing: ServerResponse;
  readonly source: Source;
  /** The client has left, or the answer is complete. */
  gone = false;
  #isClosed = false;
  /** Whether something that was written is not with the system yet. */
  #isWriting = false;
  /** Its buffer, if it is one of ours. */
  #inTheAir: Buffer | undefined;
  #wake = () => {};

  constructor(outgoing: ServerResponse, source: Source) {
    this.outgoing = outgoing;
    this.source = source;
    outgoing.once('close', () => this.#leave());
    // It may have left while the source was waited for; then there is no more close to come.
    if (outgoing.destroyed) this.#leave();
  }

  async pump(span: Span): Promise<void> {
    for (let position = span.start; position < span.end && !this.gone; ) {
      const count = await this.#pass(position, span.end - position);
      if (count === 0) throw new Error(`the content ends at byte ${position} of ${this.source.sizeBytes}`);
      position += count;
    }
  }

  /** Reads, and writes as soon as what was written before is with the system; resolves to how much. */
  async #pass(position: number, wantedBytes: number): Promise<number> {
    const buffer = buffers.take(wantedBytes);
    try {
      const into = wantedBytes < buffer.byteLength ? buffer.subarray(0, wantedBytes) : buffer;
      const count = await this.source.read(into, position);
      await this.written();
      if (count > 0 && !this.gone) {
        this.#isWriting = true;
        this.#inTheAir = buffer;
        this.outgoing.write(into.subarray(0, count), this.#onWritten);
      }
      return count;
    } finally {
      if (this.#inTheAir !== buffer) buffers.give(buffer);
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
    this.outgoing.flushHeaders();
    if (socket.writableLength === 0) return;
    this.#isWriting = true;
    socket.write('', this.#onWritten);
    await this.written();
  }

  /** To be called when no pump is under way. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.source.close();
  }

  readonly #onWritten = (error?: Error | null) => {
    // The close that comes after it would come too late for who reads on meanwhile.
    if (error) this.#leave();
    else this.#written();
  };

  #leave(): void {
    this.gone = true;
    this.close();
    // What is not with the system now never will be, and is not always told so.
    this.#written();
  }

  #written(): void {
    this.#isWriting = false;
    if (this.#inTheAir !== undefined) buffers.give(this.#inTheAir);
    this.#inTheAir = undefined;
    this.#wake();
  }
}
