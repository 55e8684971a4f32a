// From errors to answers: one table of statuses, the OCI error body, and for whatever is no RegistryError a
// bare 500 whose particulars are in the log alone.
import { type ErrorCode, RegistryError } from '../../oci/errors.ts';

const STATUS: Record<ErrorCode, number> = {
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
  PAGINATION_NUMBER_INVALID: 400,
  RANGE_INVALID: 416,
  TAG_INVALID: 400,
  TOO_LARGE: 413,
  UPSTREAM_UNAVAILABLE: 502,
  UPSTREAM_TIMEOUT: 504,
  UPSTREAM_INVALID: 502,
  UNAVAILABLE: 503,
};

export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
  /** The sentence as a reason phrase: docker shows nothing else of an answer of 5xx. */
  readonly phrase: string | undefined;
}

export function errorAnswer(error: unknown): ErrorAnswer {
  if (!(error instanceof RegistryError)) {
    const body = bodyOf('UNKNOWN', 'internal error: see the log of ghcr-cache', null);
    return { status: 500, headers: {}, body, phrase: undefined };
  }
  const headers: Record<string, string> = {};
  if (error.retryAfterMs !== undefined) {
    headers['retry-after'] = String(Math.max(1, Math.ceil(error.retryAfterMs / 1000)));
  }
  const status = STATUS[error.code];
  return {
    status,
    headers,
    body: bodyOf(error.code, error.message, error.detail ?? null),
    phrase: status >= 500 ? printable(error.message) : undefined,
  };
}

/** Text that may stand in a header line. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 500);
}

/** The error body of the distribution spec 1.1, "Error codes". */
function bodyOf(code: string, message: string, detail: unknown): string {
  return `${JSON.stringify({ errors: [{ code, message, detail }] })}\n`;
}
