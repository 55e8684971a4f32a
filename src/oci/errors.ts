// The one error class of the project. A module that cannot do what it was asked to throws a RegistryError with the
// OCI code that fits and a sentence for the person who reads it: what happened, to which image, and what to do.
// The HTTP layer maps codes to statuses in one table. Any other error is a bug, answered as a bare 500.

/** Codes of the OCI distribution spec 1.1, and below them those that only a proxy needs. */
export type ErrorCode =
  | 'BLOB_UNKNOWN'
  | 'BLOB_UPLOAD_INVALID'
  | 'BLOB_UPLOAD_UNKNOWN'
  | 'DIGEST_INVALID'
  | 'MANIFEST_BLOB_UNKNOWN'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'SIZE_INVALID'
  | 'UNAUTHORIZED'
  | 'DENIED'
  | 'UNSUPPORTED'
  | 'TOOMANYREQUESTS'
  // Not in the spec:
  | 'PAGINATION_NUMBER_INVALID'
  | 'RANGE_INVALID'
  | 'TAG_INVALID'
  | 'TOO_LARGE'
  | 'UPSTREAM_UNAVAILABLE'
  | 'UPSTREAM_TIMEOUT'
  | 'UPSTREAM_INVALID'
  | 'UNAVAILABLE';

/** Members that are undefined are left out. There are no nulls: clients print those to people. */
export interface ErrorDetail {
  readonly [member: string]: string | number | boolean | readonly string[] | undefined;
}

export interface ErrorOptions {
  /** Machine-readable particulars, sent as the `detail` of the error body. Never a credential. */
  detail?: ErrorDetail;
  /** What led to it: logged, never sent. */
  cause?: unknown;
  /** How long the client should wait before it tries again; sent as `Retry-After`. */
  retryAfterMs?: number;
  /** Further headers of the response, by lower-case name: a challenge, `allow`, `content-range`. */
  headers?: Readonly<Record<string, string>>;
}

export class RegistryError extends Error {
  readonly code: ErrorCode;
  readonly detail: ErrorDetail | undefined;
  readonly retryAfterMs: number | undefined;
  readonly headers: Readonly<Record<string, string>> | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = 'RegistryError';
    this.code = code;
    this.detail = options.detail;
    this.retryAfterMs = options.retryAfterMs;
    this.headers = options.headers;
  }
}

/**
 * Something cannot be stored, or read from where it was stored: no space, no working disk, no database. A pull goes
 * on without storing as far as it can.
 */
export class StorageFailure extends RegistryError {
  constructor(message: string, options?: { cause: unknown }) {
    super('UNAVAILABLE', message, options);
    this.name = 'StorageFailure';
  }
}

/** The message of anything that was thrown, with those of its causes: undici and Node put the reason there. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  const inner = error.cause instanceof Error ? reasonOf(error.cause) : '';
  if (error.message === '') return inner || error.name;
  return inner === '' || error.message.includes(inner) ? error.message : `${error.message} (${inner})`;
}
