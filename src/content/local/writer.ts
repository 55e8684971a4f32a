// Writes bytes that are handed in one after another to a file, from a position on: in the background, and everything that
// has come meanwhile in one call.
import type { Span } from '../../base/spans.ts';
import type { Pending } from './pending.ts';
import type { SharedFile } from './shared-file.ts';

/**
 * How much may be pending before more must wait, of one writer and of all that are writing: it bounds their memory. As
 * much again is being written.
 */
const PENDING_BYTES = { most: 512 * 1024, least: 64 * 1024, ofAll: 8 * 1024 * 1024 };
/** How many are writing. */
let writing = 0;

export interface WriterEvents {
  /** Why nothing more is to be written, if that is so. */
  failure(): Error | undefined;
  /** There is something to write. */
  begins(): void;
  /** These are on their way to the disk, from `start` on. */
  isWriting(chunks: readonly Uint8Array[], start: number): void;
  hasWritten(span: Span): void;
  /** It has written all, or failed. */
  ends(error?: unknown): void;
}

export class Writer {
  readonly #file: SharedFile;
  readonly #events: WriterEvents;
  readonly #pending: Pending;
  #pendingBytes = 0;
  /** Of the first byte that is not written. */
  #position: number;
  readonly #isFirst: boolean;
  /** The writing in the background, while there is any; it never rejects. */
  flushing: Promise<void> | undefined;
  /** Resolves when what is pending is being written, so that more may be handed in meanwhile. */
  #taken = Promise.withResolvers<void>();

  constructor(file: SharedFile, position: number, pending: Pending, events: WriterEvents) {
    this.#file = file;
    this.#position = position;
    this.#isFirst = position === 0;
    this.#pending = pending;
    this.#events = events;
  }

  /** As Ingest.write. */
  write(bytes: Uint8Array): Promise<void> | undefined {
    const failure = this.#events.failure();
    if (failure) throw failure;
    if (bytes.byteLength === 0) return undefined;
    this.#pending.add(bytes);
    this.#pendingBytes += bytes.byteLength;
    if (this.flushing === undefined) {
      writing++;
      this.#events.begins();
      this.flushing = this.#flush();
    }
    // A reader waits for the first bytes: they are written before anything is done for those that follow.
    if (this.#position === 0) return this.flushing;
    return this.#pendingBytes > limitBytes() ? this.#taken.promise : undefined;
  }

  async #flush(): Promise<void> {
    let error: unknown;
    try {
      // All that comes in this turn of the event loop is written in one call, but for the first bytes.
      if (!this.#isFirst || this.#position > 0) await new Promise(setImmediate);
      while (this.#pendingBytes > 0) {
        const chunks = this.#pending.take();
        const start = this.#position;
        const end = start + this.#pendingBytes;
        this.#pendingBytes = 0;
        this.#taken.resolve();
        this.#taken = Promise.withResolvers();
        const writing = this.#file.write(chunks, start);
        this.#events.isWriting(chunks, start);
        await writing;
        this.#position = end;
        this.#pending.release(chunks);
        this.#events.hasWritten({ start, end });
      }
    } catch (caught) {
      error = caught;
    } finally {
      writing--;
      this.flushing = undefined;
      this.#events.ends(error);
      this.#taken.resolve();
    }
  }
}

function limitBytes(): number {
  return Math.max(PENDING_BYTES.least, Math.min(PENDING_BYTES.most, PENDING_BYTES.ofAll / writing));
}
