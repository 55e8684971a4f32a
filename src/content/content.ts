// The contract of content: immutable bytes under their digest, and ingests, which are content on its way
// in. It says nothing of disks, so that an object store can stand behind it.
//
// Every implementation guarantees:
// - content is visible only after commit, whole, under the digest of its bytes, and after a crash too;
// - an ingest can be read while it grows, and by readers that were there before commit also after it;
// - remove() does not disturb who is reading.
import type { Condition } from '../base/condition.ts';
import type { Algorithm, Digest } from '../oci/digest.ts';

export { StorageFailure } from '../oci/errors.ts';

/** Bytes that can be read from any position. */
export interface Source {
  readonly sizeBytes: number;
  /** All of them, right and not to be changed, where they are in memory anyway. */
  readonly bytes?: Buffer;
  /**
   * Fills the front of `into` with bytes from `position` on; resolves to how many, at least 1 unless
   * `position` is the end. It may wait for bytes that are still to come. `into` is the reader's own until then.
   */
  read(into: Uint8Array, position: number): Promise<number>;
  /**
   * Lends the file that holds the bytes from `position` on, which must not be the end, for who can use them
   * without reading them. Undefined where there is none, or not for these. It may wait, and throw, as a read may.
   */
  lend?(position: number): Promise<LentFile | undefined>;
  /** Must be called once, when no read is wanted any more. */
  close(): void;
}

/** An open file whose bytes up to `end` are those of a source, at the positions that they have there. */
export interface LentFile {
  readonly fd: number;
  readonly end: number;
  /** Must be called once. Until then the descriptor is good, whatever is closed or removed. */
  release(): void;
}

export interface OpenContent extends Source {
  /**
   * Whether the bytes are known to hash to their digest since they last changed. `true` for what this
   * process has hashed; else a promise, of a hashing that is under way and shared by all who have it open.
   */
  readonly verified: true | Promise<boolean>;
}

/** Content on its way in. Exactly one of commit and abort ends it. */
export interface Ingest {
  /** Bytes that can be read back. */
  readonly writtenBytes: number;
  /** Notified whenever `writtenBytes` has grown. */
  readonly progress: Condition;
  /** Called whenever `writtenBytes` has grown. */
  onWritten: () => void;
  /**
   * Takes the next bytes together with their memory, which may be given back to the system: they must not be
   * used afterwards. A promise comes back only when the writer must wait before it hands in more. Throws
   * StorageFailure (then or later) when they cannot be stored.
   */
  write(bytes: Uint8Array): Promise<void> | undefined;
  /** Waits until all that was handed in can be read back. */
  flush(): Promise<void>;
  /**
   * Waits for all that was handed in, and says what it hashes to. No write after it. Asked for another
   * algorithm than the ingest was begun with, it takes one more reading.
   */
  finish(algorithm?: Algorithm): Promise<Digest>;
  /** A reader of what was written so far and will be. Its reads must stay below `writtenBytes`. */
  reader(): Omit<Source, 'sizeBytes' | 'bytes'>;
  /**
   * Makes it content, for good, under `digest`, which finish() has given. False when that content was here
   * already, and this is one copy too many.
   */
  commit(digest: Digest): Promise<boolean>;
  /** Forgets it; readers may go on. Never throws. */
  abort(): Promise<void>;
}

export interface Content {
  /** The content, or undefined when it is not here. */
  open(digest: Digest): Promise<OpenContent | undefined>;
  /** Its size in bytes, or undefined when it is not here. */
  sizeOf(digest: Digest): Promise<number | undefined>;
  /** Begins one. An ingest with a name outlives this process, and can then be gone on with by that name. */
  ingest(algorithm: Algorithm, name?: string): Promise<Ingest>;
  /** Goes on with an ingest of an earlier process; undefined when there is none of that name. */
  resume(algorithm: Algorithm, name: string): Promise<Ingest | undefined>;
  /** Forgets all ingests of earlier processes but those of these names. To be called before any other begins. */
  keepIngests(names: ReadonlySet<string>): Promise<void>;
  remove(digest: Digest): Promise<void>;
  /** All that is here; what comes or goes meanwhile may or may not be named. */
  list(): AsyncIterable<{ digest: Digest; sizeBytes: number }>;
  /** Bytes that can still be stored; Infinity where that has no meaning. */
  freeBytes(): Promise<number>;
  /** Whether content can be stored now; rejects with the reason when it cannot. */
  check(): Promise<void>;
}
