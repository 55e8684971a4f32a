// The contract of an upstream: a registry that we front, as the pull path sees it. How it is asked
// (tokens, redirects, retries, breaker) is the business of client.ts and its neighbours.
//
// Every verb throws a RegistryError whose message names the image and says what to do:
// - MANIFEST_UNKNOWN, BLOB_UNKNOWN, NAME_UNKNOWN: the upstream says that it is not there;
// - UNAUTHORIZED, DENIED: it refuses, with the name of the credential that it refused;
// - TOOMANYREQUESTS, with retryAfterMs: it wants to be left alone, and is;
// - UPSTREAM_UNAVAILABLE, UPSTREAM_TIMEOUT: it cannot be asked now;
// - UPSTREAM_INVALID: it answered, but not as a registry does.
import type { Digest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import type { Reference, Repository } from '../oci/reference.ts';

export interface UpstreamManifest {
  readonly bytes: Buffer;
  readonly contentType: string | undefined;
  /** What the upstream says it is; not yet checked. */
  readonly digest: Digest | undefined;
}

/** The answer to "does the tag still point there": unchanged, or what it points to now, if that was said. */
export type TagAnswer =
  | { readonly unchanged: true }
  | { readonly unchanged: false; readonly digest: Digest | undefined };

export interface BlobBody {
  /** Size of the whole blob, when the upstream said. */
  readonly sizeBytes: number | undefined;
  readonly contentType: string | undefined;
  /** The first byte that comes is this byte of the blob: 0 when a range was asked and not honoured. */
  readonly start: number;
  /**
   * Hands over each chunk the moment it comes; the next one waits for the promise of the one before, if it gave
   * one. Resolves to what broke the body, or to undefined at its end; rejects with what `take` failed with.
   */
  read(take: (chunk: Buffer) => Promise<void> | undefined): Promise<unknown>;
  /** Lets go of it, and of its connection if there is more to come. To be called once, in the end. */
  close(): void;
}

export interface Upstream {
  readonly name: string;
  /** Set by the configuration: it is never contacted. */
  readonly offline: boolean;
  getManifest(repository: Repository, reference: Reference): Promise<UpstreamManifest>;
  /** One conditional question: what the tag points to now, or undefined if that is still `known`. */
  getIfChanged(repository: Repository, tag: string, known: Digest): Promise<UpstreamManifest | undefined>;
  /** Whether the repository holds the manifest; throws MANIFEST_UNKNOWN when not. */
  confirmManifest(repository: Repository, digest: Digest): Promise<void>;
  /** The size in bytes of a blob that the repository holds; throws BLOB_UNKNOWN when not. */
  statBlob(repository: Repository, digest: Digest): Promise<number>;
  /** Whether the repository holds the blob, at the least cost; throws BLOB_UNKNOWN when not. */
  confirmBlob(repository: Repository, digest: Digest): Promise<void>;
  /** The bytes of a blob from `start` on. */
  openBlob(repository: Repository, digest: Digest, start: number, signal: AbortSignal): Promise<BlobBody>;
  /** All tags, in the upstream's order. */
  listTags(repository: Repository): Promise<string[]>;
  /**
   * The descriptors of all manifests whose subject is this digest; undefined when the upstream does not have
   * the referrers API of the distribution spec 1.1.
   */
  listReferrers(repository: Repository, digest: Digest): Promise<readonly unknown[] | undefined>;
  /** Waits for one of the places for downloads, which are shared out fairly among repositories. */
  acquireDownload(repository: Repository, signal: AbortSignal): Promise<() => void>;
}

/**
 * The bytes of content to be sent, from the first on, as often as they are asked for. A chunk of 128 KiB or more is
 * good only until the next one is asked for.
 */
export type Bytes = () => AsyncIterable<Uint8Array>;

/** What pushing and deleting need beside reading. Throws as Upstream does, and what the upstream finds wrong. */
export interface UpstreamWrites {
  /** Images there are packages of GitHub, which connects them to repositories. */
  readonly isGitHub: boolean;
  /** Whether the repository holds the blob, as far as who may write to it is told. */
  holdsBlob(repository: Repository, digest: Digest): Promise<boolean>;
  /** Opens an upload; resolves to where its bytes go. */
  startUpload(repository: Repository): Promise<URL>;
  /**
   * Sends what may still be growing as one stream; resolves to where the upload is to be finished. The bytes are
   * asked for again when the request has to be made again, unless they can be had only once.
   */
  streamUpload(
    repository: Repository,
    location: URL,
    bytes: Bytes,
    signal: AbortSignal,
    isOnce?: boolean,
  ): Promise<URL>;
  /** Closes an upload, with `whole` after sending all of it in the same request. */
  finishUpload(
    repository: Repository,
    location: URL,
    digest: Digest,
    signal: AbortSignal,
    whole?: { readonly sizeBytes: number; readonly bytes: Bytes },
  ): Promise<void>;
  /** Lets go of an upload, as far as that can be done. Never throws. */
  cancelUpload(repository: Repository, location: URL): Promise<void>;
  /** Asks for a blob of another repository; false when that is not granted. */
  mountBlob(repository: Repository, digest: Digest, from: Repository): Promise<boolean>;
  /** Stores a manifest under its reference. */
  putManifest(
    repository: Repository,
    reference: Reference,
    manifest: PushedManifest,
  ): Promise<ManifestAnswer>;
  /**
   * Deletes a manifest with all its tags, or a tag; resolves to what has gone. Throws UNSUPPORTED, saying why,
   * when the upstream cannot do that, or not without deleting what was not named.
   */
  deleteManifest(repository: Repository, reference: Reference): Promise<'tag' | 'manifest'>;
  deleteBlob(repository: Repository, digest: Digest): Promise<void>;
  /** Waits for one of the places for uploads, which are shared out fairly among repositories. */
  acquireUpload(repository: Repository, signal: AbortSignal): Promise<() => void>;
}

export interface PushedManifest {
  readonly mediaType: string;
  readonly bytes: Buffer;
}

export interface ManifestAnswer {
  /** Whether the upstream has taken note of the manifest's subject, and lists it among its referrers. */
  readonly notedSubject: boolean;
}

const NOT_THERE: ReadonlySet<ErrorCode> = new Set(['MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'NAME_UNKNOWN']);
const REFUSED: ReadonlySet<ErrorCode> = new Set(['UNAUTHORIZED', 'DENIED']);
const AWAY: ReadonlySet<ErrorCode> = new Set(['UPSTREAM_UNAVAILABLE', 'UPSTREAM_TIMEOUT']);

/** The upstream was asked and says that there is no such thing. */
export function isNotFound(error: unknown): error is RegistryError {
  return error instanceof RegistryError && NOT_THERE.has(error.code);
}

/** The upstream was asked and does not let us have it. */
export function isDenied(error: unknown): error is RegistryError {
  return error instanceof RegistryError && REFUSED.has(error.code);
}

/** The upstream could not be asked; later it may be. */
export function isUnavailable(error: unknown): error is RegistryError {
  return error instanceof RegistryError && AWAY.has(error.code);
}
