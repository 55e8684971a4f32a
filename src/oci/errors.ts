// The one error class of the project. A module that cannot do what it was asked to throws a RegistryError with the
// OCI code that fits and a sentence for the person who reads it: what happened, to which image, and what to do.
// Any other error is a bug, answered as a bare 500.

/** The codes of the OCI distribution spec 1.1, below them those that only a proxy needs, and the status of each. */
export const ERROR_STATUS = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 400,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  SIZE_INVALID: 400,
  UNAUTHORIZED: 401,
  DENIED: 403,
  UNSUPPORTED: 405,
  TOOMANYREQUESTS: 429,
  // Not in the spec:
  PAGINATION_NUMBER_INVALID: 400,
  RANGE_INVALID: 416,
  TAG_INVALID: 400,
  TOO_LARGE: 413,
  REQUEST_INVALID: 400,
  REQUEST_TIMEOUT: 408,
  MISDIRECTED: 421,
  UPSTREAM_UNAVAILABLE: 502,
  UPSTREAM_TIMEOUT: 504,
  UPSTREAM_INVALID: 502,
  UNAVAILABLE: 503,
} as const;

export type ErrorCode = keyof typeof ERROR_STATUS;

/** Members that are undefined are left out. There are no nulls: clients print those to people. */
export interface ErrorDetail {
  readonly [member: string]: string | number | boolean | readonly string[] | undefined;
}

interface ErrorOptions {
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
  constructor(message: string, options?: Pick<ErrorOptions, 'cause' | 'retryAfterMs'>) {
    super('UNAVAILABLE', message, options);
    this.name = 'StorageFailure';
  }
}

/** There is no descriptor left for another file or connection. Soon there may be one. */
export class OutOfDescriptors extends StorageFailure {
  constructor(cause: unknown) {
    super('too many files and connections are open; try again', { cause, retryAfterMs: 5_000 });
    this.name = 'OutOfDescriptors';
  }
}

/** Whether it comes of descriptors that are lacking, to this process or to the machine. */
export function isOutOfDescriptors(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EMFILE' || code === 'ENFILE') return true;
  if (error instanceof AggregateError) return error.errors.some(isOutOfDescriptors);
  return isOutOfDescriptors(error.cause);
}

/** The message of anything that was thrown, with those of its causes: undici and Node put the reason there. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  const inner = error.cause instanceof Error ? reasonOf(error.cause) : '';
  if (error.message === '') return inner || error.name;
  return inner === '' || error.message.includes(inner) ? error.message : `${error.message} (${inner})`;
}
