// The one error class of the project. A room that cannot do what was asked throws a RegistryError with
// the OCI code that fits and a sentence for the person who reads it: what happened, to which image, and
// what to do. http/errors.ts turns codes into statuses; anything else that is thrown is a bug and is
// answered as a bare 500.

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

export interface ErrorOptions {
  /** Machine-readable particulars, put into the answer's `detail`. Never a credential. */
  detail?: unknown;
  /** What led to it: logged, never sent. */
  cause?: unknown;
  /** How long the asker should wait before trying again; sent as `Retry-After`. */
  retryAfterMs?: number;
}

export class RegistryError extends Error {
  readonly code: ErrorCode;
  readonly detail: unknown;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = 'RegistryError';
    this.code = code;
    this.detail = options.detail;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/**
 * Something cannot be stored, or read from where it was: no room, no working disk, no database. A pull goes
 * on without storing as far as it can.
 */
export class StorageFailure extends RegistryError {
  constructor(message: string, options?: { cause: unknown }) {
    super('UNAVAILABLE', message, options);
    this.name = 'StorageFailure';
  }
}

/** The sentence of anything thrown: causes are followed, since undici and Node put the reason there. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  const inner = error.cause instanceof Error ? reasonOf(error.cause) : '';
  if (error.message === '') return inner || error.name;
  return inner === '' || error.message.includes(inner) ? error.message : `${error.message} (${inner})`;
}
