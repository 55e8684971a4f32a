// From errors to responses: the OCI error body, and a bare 500 for anything that is not a RegistryError; the log alone
// has its particulars. No 401 leaves without a challenge: a client would take it for its own missing login, and docker
// would ask for a password that helps nothing.
import { ERROR_STATUS, type ErrorDetail, RegistryError } from '../../oci/errors.ts';

interface ErrorResponse {
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
  const status = ERROR_STATUS[code];
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
