// The contract of content: immutable bytes stored under their digest. It says nothing of disks, so an object store
// can implement it. How content comes in is the contract in ingest.ts.
//
// Every implementation guarantees:
// - content is visible only after publish(), whole, under the digest of its bytes, and so after a crash too;
// - content is never changed once it is visible;
// - remove() does not disturb a reader.
import type { Digest } from '../oci/digest.ts';
import type { Ingest } from './ingest.ts';
import type { Source } from './read.ts';

export { StorageFailure } from '../oci/errors.ts';
export type { LentFile, Reader, Source } from './read.ts';

export interface OpenContent extends Source {
  /** Another one whenever the stored bytes may have changed; compared by `===`. */
  readonly version: number | string;
  /**
   * Whether the bytes hash to their digest. `true` where that is known; else a promise, which never rejects: bytes
   * that cannot be read are as bad as wrong ones. It may be asked until close(), and is then answered even after it.
   */
  verify(): true | Promise<boolean>;
  /** Whether all of its bytes are in memory, so that a reading waits for no disk. Undefined where that is not known. */
  isInMemory?(): boolean | undefined;
}

export interface Content {
  /** The content, or undefined when it is not here. Not a promise where there is nothing to wait for. */
  open(digest: Digest): Promise<OpenContent | undefined> | OpenContent | undefined;
  /** Its size in bytes, or undefined when it is not here. */
  sizeOf(digest: Digest): Promise<number | undefined>;
  /**
   * Makes a finished ingest content, durably, under `digest`, which its finish() has returned. False when that
   * content was here already. Ends the ingest in any case; its readers may go on. Throws StorageFailure.
   */
  publish(ingest: Ingest, digest: Digest): Promise<boolean>;
  /** Removes it, if it is here. */
  remove(digest: Digest): Promise<void>;
  /** All content; what comes or goes meanwhile may or may not be listed. */
  list(): AsyncIterable<{ digest: Digest; sizeBytes: number }>;
  /** How many bytes, and how many files of whatever size, can still be stored; Infinity where that has no meaning. */
  free(): Promise<{ readonly bytes: number; readonly files: number }>;
  /** Whether content can be stored now, if there is room; throws StorageFailure, with the reason, when it cannot. */
  check(): Promise<void>;
}

/** Another Content with some verbs of its own. */
export function decorate(inner: Content, verbs: Partial<Content>): Content {
  return {
    open: digest => inner.open(digest),
    sizeOf: digest => inner.sizeOf(digest),
    publish: (ingest, digest) => inner.publish(ingest, digest),
    remove: digest => inner.remove(digest),
    list: () => inner.list(),
    free: () => inner.free(),
    check: () => inner.check(),
    ...verbs,
  };
}
