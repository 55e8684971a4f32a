// From errors to responses: one table of statuses, the OCI error body, and a bare 500 for anything that is not a
// RegistryError; the log alone has its particulars. No 401 leaves without a challenge: a client would take it for its
// own missing login, and docker would ask for a password that helps nothing.
import { type ErrorCode, type ErrorDetail, RegistryError } from '../../oci/errors.ts';

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

export interface ErrorResponse {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
  /** The message as a reason phrase: of a 5xx, docker shows nothing else. */
  readonly phrase: string | undefined;
}

export function errorResponse(error: unknown): ErrorResponse {
  if (!(error instanceof RegistryError)) {
    const body = bodyOf('UNKNOWN', 'internal error: see the log of ghcr-cache');
    return { status: 500, headers: {}, body, phrase: undefined };
  }
  const headers = { ...error.headers };
  if (error.retryAfterMs !== undefined) {
    headers['retry-after'] = String(Math.max(1, Math.ceil(error.retryAfterMs / 1000)));
  }
  const isBare = error.code === 'UNAUTHORIZED' && headers['www-authenticate'] === undefined;
  const code = isBare ? 'DENIED' : error.code;
  const status = STATUS[code];
  return {
    status,
    headers,
    body: bodyOf(code, error.message, error.detail),
    phrase: status >= 500 ? printable(error.message) : undefined,
  };
}

/** Text that may be part of a header line. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 500);
}

/** The error body of the distribution spec 1.1, "Error codes"; without a `detail` when that is undefined. */
function bodyOf(code: string, message: string, detail?: ErrorDetail): string {
  return `${JSON.stringify({ errors: [{ code, message, detail }] })}\n`;
}
