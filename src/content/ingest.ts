// The contract of ingests: content on its way in, spooled on this machine wherever content itself is stored.
//
// Every implementation guarantees:
// - an ingest is not content before Content.publish();
// - it can be read while it grows, and by its readers also after it has ended;
// - one with a name outlives the process and can be resumed by that name; one without does not.
import type { Condition } from '../base/condition.ts';
import type { Span } from '../base/spans.ts';
import type { Algorithm, Digest } from '../oci/digest.ts';
import type { Reader } from './read.ts';

/** Exactly one of Content.publish(), suspend() and abort() ends it. */
export interface Ingest {
  /** How many bytes can be read back, from the first one on. */
  readonly writtenBytes: number;
  /** Notified whenever more bytes can be read back. */
  readonly progress: Condition;
  /** Where the bytes end that can be read back from this position on; the position itself when there are none. */
  endOf(position: number): number;
  /**
   * Takes the next bytes together with their memory, which may be released: the caller must not use them afterwards.
   * Returns a promise only when the writer must wait before it hands in more. Throws StorageFailure (then or later)
   * when they cannot be stored.
   */
  write(bytes: Uint8Array): Promise<void> | undefined;
  /** Waits until all that was handed in can be read back. */
  flush(): Promise<void>;
  /**
   * Waits for all that was handed in, and resolves to its digest. No write after it. Another algorithm than the one
   * the ingest was begun with costs one more reading.
   */
  finish(algorithm?: Algorithm): Promise<Digest>;
  /** A reader of what is written by now and later. Its reads must stay where bytes can be read back. */
  reader(): Reader;
  /** Gives back what it holds open, unless a reader uses it; what is asked of it next takes that again. */
  rest(): void;
  /** Ends it, and keeps what is written under its name, for resume(); readers may go on. Never throws. */
  suspend(): Promise<void>;
  /** Discards it; readers may go on. Never throws. */
  abort(): Promise<void>;
}

export type Write = Ingest['write'];

/** An ingest whose bytes may come in any order. They are hashed in theirs: what is ahead is read back for that. */
export interface SparseIngest extends Ingest {
  /** Beyond `writtenBytes`, the spans that can be read back too, in their order. */
  readonly ahead: readonly Span[];
  /** How many bytes can be read back in all. */
  readonly storedBytes: number;
  /**
   * Another writer beside write(), for the bytes from this position on, which must come by no other. It must be where
   * bytes end that are here, or a multiple of WRITER_ALIGNMENT. What it takes is copied: the caller may use the memory
   * again when it returns.
   */
  writer(position: number): Write;
}

/** By this, what is there and what is not can be told when an ingest is resumed. */
export const WRITER_ALIGNMENT = 1024 * 1024;

export interface Ingests {
  /**
   * Begins an ingest. One with a name is made durable while it grows, unless it need not be. Throws StorageFailure.
   */
  begin(algorithm: Algorithm, name?: string, options?: { readonly isDurable: boolean }): Promise<SparseIngest>;
  /**
   * Opens a named ingest of an earlier process, and hashes what it holds; undefined when there is none. With `isSparse`,
   * as it may have had several writers, long runs of zeros are taken for bytes that have not come.
   */
  resume(
    algorithm: Algorithm,
    name: string,
    options?: { readonly isSparse: boolean },
  ): Promise<SparseIngest | undefined>;
  /** Removes a named ingest that is not open, without reading it, if there is one. Never throws. */
  discard(name: string): Promise<void>;
  /** The ingests of earlier processes by name, with their sizes in bytes. To be called before begin() and resume(). */
  list(): Promise<ReadonlyMap<string, number>>;
  /** Removes all ingests of earlier processes but those of these names. To be called before begin() and resume(). */
  keep(names: ReadonlySet<string>): Promise<void>;
}
