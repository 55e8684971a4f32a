// The contract of an upstream: a registry that we front, as pulls and pushes see it. How it is asked (tokens, redirects,
// retries, breaker) is the business of client.ts, writes.ts and what they stand on.
//
// Every verb throws a RegistryError whose message names the image and says what to do:
// - MANIFEST_UNKNOWN, BLOB_UNKNOWN, NAME_UNKNOWN: the upstream does not have it (isNotFound);
// - DENIED: it denies access, with the name of the credential that it denied (isDenied);
// - TOOMANYREQUESTS, with retryAfterMs: it limits our rate, and gets no request until that time is over;
// - UPSTREAM_UNAVAILABLE, UPSTREAM_TIMEOUT: it cannot be asked now (isUnavailable);
// - UPSTREAM_INVALID: it answered, but not as a registry does.
import type { Digest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import type { Reference, Repository } from '../oci/reference.ts';
import type { TransferPermits } from './permits.ts';
import type { SpareConnections } from './spare-connections.ts';
import type { ResponseBody } from './transport/response.ts';

export interface UpstreamManifest {
  readonly bytes: Buffer;
  readonly contentType: string | undefined;
  /** What the upstream says it is; not yet verified. */
  readonly digest: Digest | undefined;
}

/** The bytes from `start` up to, but not including, `end`; to the last if that is undefined. */
export interface OpenSpan {
  readonly start: number;
  readonly end?: number | undefined;
}

export interface OpenOptions extends OpenSpan {
  /** The address that an earlier body came from: asked first, and the registry where that is refused. */
  readonly address?: URL | undefined;
  /** It can be done without: asked for once, and nothing is remembered of a failure. */
  readonly isSpare?: boolean;
}

export interface BlobBody extends Pick<ResponseBody, 'read'> {
  /** Size of the whole blob, if the upstream told it. */
  readonly sizeBytes: number | undefined;
  readonly contentType: string | undefined;
  /** The offset in the blob of the first byte that comes: 0 when a range was asked for and not honoured. */
  readonly start: number;
  /** Where in the blob it ends, if that is known beforehand. */
  readonly end?: number | undefined;
  /** False when all of the blob comes, though a range was asked for. */
  readonly isRange?: boolean;
  /** Where it comes from, if the registry has sent us there: good for some minutes. */
  readonly address?: URL | undefined;
  /** Releases it, and its connection if there is more to come. To be called once, at the end. */
  close(): void;
}

/** The contract of SpareConnections. */
export type Spares = Pick<
  SpareConnections,
  'perBlob' | 'hasRanges' | 'isOverLimit' | 'join' | 'serve' | 'gaveNoRange' | 'limited'
>;

/** Reading from an upstream. */
export interface Upstream {
  /** As in requests and in the config: `ghcr.io`. */
  readonly name: string;
  /** Set by the configuration: it is never contacted. */
  readonly offline: boolean;
  /** What the download of a blob takes before it may ask for bytes. */
  readonly downloads: TransferPermits;
  /** The connections that downloads may have beyond their first. */
  readonly spares: Spares;
  getManifest(repository: Repository, reference: Reference): Promise<UpstreamManifest>;
  /** What the tag points to now; undefined if that is still `known`. One conditional request. */
  getIfChanged(repository: Repository, tag: string, known: Digest): Promise<UpstreamManifest | undefined>;
  /** Resolves if the repository holds the manifest; throws MANIFEST_UNKNOWN if not. */
  confirmManifest(repository: Repository, digest: Digest): Promise<void>;
  /** The size in bytes of a blob that the repository holds; throws BLOB_UNKNOWN if it does not. */
  statBlob(repository: Repository, digest: Digest): Promise<number>;
  /** Resolves if the repository holds the blob, at the least cost; throws BLOB_UNKNOWN if not. */
  confirmBlob(repository: Repository, digest: Digest): Promise<void>;
  /**
   * The bytes of a blob from `start` to `end`, or to its end if that is undefined. Throws the signal's reason when it is
   * aborted.
   */
  openBlob(repository: Repository, digest: Digest, options: OpenOptions, signal: AbortSignal): Promise<BlobBody>;
  /** All tags, in the upstream's order. */
  listTags(repository: Repository): Promise<readonly string[]>;
  /**
   * The descriptors of all manifests whose subject is this digest; undefined when the upstream does not have the
   * referrers API (distribution spec 1.1, "Listing Referrers").
   */
  listReferrers(repository: Repository, digest: Digest): Promise<readonly unknown[] | undefined>;
  /** Changes when the login that we use for the repository does. It tells nothing of the secret. */
  identity(repository: Repository): Promise<string>;
}

/**
 * The bytes of content to be sent, from the first on, as often as they are asked for. A chunk of 128 KiB or more is
 * valid only until the next one is asked for.
 */
export type Bytes = () => AsyncIterable<Uint8Array>;

/** What an upstream does beyond, or otherwise than, the distribution spec. */
export interface Capabilities {
  /** Links a package to a repository by the label or annotation `org.opencontainers.image.source` of its images. */
  readonly linksBySourceLabel: boolean;
  /** Deletes a manifest only together with all its tags, and a tag only together with its manifest. */
  readonly deletesWholeVersions: boolean;
  /** Counts each GET of a manifest against a limit, and no HEAD: tags are confirmed by HEAD. */
  readonly countsManifestGets: boolean;
}

export const SPEC_CAPABILITIES: Capabilities = {
  linksBySourceLabel: false,
  deletesWholeVersions: false,
  countsManifestGets: false,
};

/** Pushing to an upstream and deleting from it. Throws as Upstream does, and what the upstream finds wrong. */
export interface UpstreamWrites {
  readonly capabilities: Capabilities;
  /** What the upload of a blob takes before it may send bytes. */
  readonly uploads: TransferPermits;
  /** Whether the repository holds the blob, as far as those who may write to it are told. */
  holdsBlob(repository: Repository, digest: Digest): Promise<boolean>;
  /** Opens an upload; resolves to where its bytes go. */
  startUpload(repository: Repository): Promise<URL>;
  /**
   * Sends content that may still be growing as one stream; resolves to where the upload is to be finished. The bytes
   * are asked for again when the request has to be repeated, unless they are single-use.
   */
  streamUpload(
    repository: Repository,
    location: URL,
    bytes: Bytes,
    signal: AbortSignal,
    isSingleUse?: boolean,
  ): Promise<URL>;
  /** Closes an upload, with `whole` after sending all of it in the same request. */
  finishUpload(
    repository: Repository,
    location: URL,
    digest: Digest,
    signal: AbortSignal,
    whole?: { readonly sizeBytes: number; readonly bytes: Bytes },
  ): Promise<void>;
  /** Abandons an upload, as far as the upstream supports that. Never throws. */
  cancelUpload(repository: Repository, location: URL): Promise<void>;
  /** Mounts a blob of another repository; false when that is not granted. */
  mountBlob(repository: Repository, digest: Digest, from: Repository): Promise<boolean>;
  /** Stores a manifest under its reference. */
  putManifest(repository: Repository, reference: Reference, manifest: PushedManifest): Promise<PushReceipt>;
  /**
   * Deletes a manifest with all its tags, or a tag; resolves to what is gone. Throws UNSUPPORTED, saying why, when the
   * upstream cannot do that, or not without deleting what was not named.
   */
  deleteManifest(repository: Repository, reference: Reference): Promise<'tag' | 'manifest'>;
  /** Throws UNSUPPORTED when the upstream does not delete blobs. */
  deleteBlob(repository: Repository, digest: Digest): Promise<void>;
}

export interface PushedManifest {
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/** What an upstream says of a manifest that it accepted. */
export interface PushReceipt {
  /** Whether it lists the manifest among the referrers of its subject itself (`OCI-Subject`). */
  readonly notedSubject: boolean;
}

/** The upstream answered that it does not have it. */
export const isNotFound = isOneOf('MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'NAME_UNKNOWN');
/** The upstream answered that we may not have it. */
export const isDenied = isOneOf('DENIED');
/** Of a push of a manifest: the upstream does not know, or not yet, what it names; some say so by a bare 404. */
export const isIncomplete = isOneOf('MANIFEST_BLOB_UNKNOWN', 'NAME_UNKNOWN');
/** The upstream answered, but not as a registry does. */
export const isInvalid = isOneOf('UPSTREAM_INVALID');
/** The upstream could not be asked; later it may be. */
export const isUnavailable = isOneOf('UPSTREAM_UNAVAILABLE', 'UPSTREAM_TIMEOUT');

/** The upstream limits our rate. */
export const isLimited = isOneOf('TOOMANYREQUESTS');

function isOneOf(...codes: ErrorCode[]) {
  return (error: unknown): error is RegistryError => error instanceof RegistryError && codes.includes(error.code);
}
