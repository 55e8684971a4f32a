// A response that is not a success: read once, and turned into the error that it means. ghcr.io says some of it only in
// the text: how long to wait after a 429, and whether a 403 is a missing permission or a rate limit.
//
// A denial of our credential, or of us without one, is DENIED (403) whatever the upstream's status: a 401 would make a
// client believe that its own login is missing.
import { parseDigest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { type Access, lacksCredential, PAT_SCOPES } from './auth/access.ts';
import type { Mask } from './auth/mask.ts';
import { readAll, type UpstreamResponse } from './transport/response.ts';
import { Trouble } from './transport/trouble.ts';

export interface ErrorResponse {
  readonly status: number;
  /** The code of the first error of an OCI error body. */
  readonly code: string | undefined;
  /** The upstream's own words, shortened, safe to print. */
  readonly message: string;
  /** The WWW-Authenticate header. */
  readonly challenge: string | undefined;
  /** Set when the upstream limits our rate: how long to send it nothing. */
  readonly retryAfterMs: number | undefined;
  /** Set when the upstream says when it can do what it cannot do now (503). */
  readonly busyMs?: number | undefined;
}

const BODY_LIMIT_BYTES = 64 * 1024;
const MESSAGE_LIMIT = 300;
/** What GitHub's documentation asks for when a rate limit names no time. */
export const UNNAMED_WAIT_MS = 60_000;
/** A response to HEAD has no body to name the time in: the next request, with a body, is to find out. */
const HEAD_WAIT_MS = 1_000;
/** No response can silence us for longer than this. */
export const LONGEST_WAIT_MS = 3_600_000;
/** Nor keep us from asking again for one image. */
const LONGEST_BUSY_MS = 10_000;

/** `nowMs` is wall time, for a Retry-After that is a date. */
export async function readErrorResponse(
  response: UpstreamResponse,
  nowMs: number,
  mask: Pick<Mask, 'clean'>,
  isHead = false,
): Promise<ErrorResponse> {
  const text = (await readAll(response, BODY_LIMIT_BYTES).catch(() => undefined))?.toString('utf8') ?? '';
  const { code, words } = parseBody(text, response.header('content-type'));
  const message = mask.clean(words, MESSAGE_LIMIT);
  const isLimit = response.status === 429 || (response.status === 403 && /secondary rate limit/i.test(text));
  return {
    status: response.status,
    code,
    message,
    challenge: response.header('www-authenticate'),
    retryAfterMs: isLimit ? waitMs(response.header('retry-after'), message, nowMs, isHead) : undefined,
    busyMs: response.status === 503 ? busyMs(response.header('retry-after'), nowMs) : undefined,
  };
}

/** Whether access was denied, so that another identity could fare better. */
export function isDenial({ status, retryAfterMs }: ErrorResponse): boolean {
  return (status === 401 || status === 403) && retryAfterMs === undefined;
}

/** What an upstream may find wrong with something that is written to it; other codes mean nothing to our clients. */
const WRITE_CODES: ReadonlyMap<string, ErrorCode> = new Map([
  ['MANIFEST_BLOB_UNKNOWN', 'MANIFEST_BLOB_UNKNOWN'],
  ['MANIFEST_INVALID', 'MANIFEST_INVALID'],
  ['MANIFEST_UNVERIFIED', 'MANIFEST_INVALID'],
  ['BLOB_UPLOAD_INVALID', 'BLOB_UPLOAD_INVALID'],
  ['BLOB_UPLOAD_UNKNOWN', 'BLOB_UPLOAD_UNKNOWN'],
  ['DIGEST_INVALID', 'DIGEST_INVALID'],
  ['SIZE_INVALID', 'SIZE_INVALID'],
  ['TAG_INVALID', 'TAG_INVALID'],
  ['NAME_INVALID', 'NAME_INVALID'],
]);

/**
 * The error that a response means. `what` is the image as a person writes it; `notFound` is the code of a 404. What is
 * wrong with the request itself is told for writes alone: reads are all our own.
 */
export function toError(
  { status, code, message, retryAfterMs, busyMs }: ErrorResponse,
  what: string,
  notFound: ErrorCode,
  isWrite = false,
): RegistryError {
  const said = message === '' ? `${status}` : `${status} "${message}"`;
  const host = what.slice(0, what.indexOf('/'));
  if (retryAfterMs !== undefined) {
    return new RegistryError('TOOMANYREQUESTS', `${host} limits our requests: ${said}`, { retryAfterMs });
  }
  if (isWrite) {
    const writeCode = WRITE_CODES.get(code ?? '');
    if (writeCode !== undefined && [400, 404, 416].includes(status)) {
      return new RegistryError(writeCode, `${host} rejects ${what}: ${said}`);
    }
    if (status === 405) return new RegistryError('UNSUPPORTED', `${host} does not support this for ${what}: ${said}`);
    if (status === 413) return new RegistryError('TOO_LARGE', `${what} is larger than ${host} takes: ${said}`);
  }
  switch (status) {
    case 401:
    case 403:
      return new RegistryError('DENIED', `${host} denies access to ${what}: ${said}`);
    case 404:
      return new RegistryError(notFound, `${what} is not found at ${host}: ${said}`);
    case 408:
    case 500:
    case 502:
    case 503:
    case 504:
      return new RegistryError('UPSTREAM_UNAVAILABLE', `${host} cannot serve ${what} now: ${said}`, {
        ...(busyMs !== undefined && { retryAfterMs: busyMs }),
      });
    default:
      return new RegistryError('UPSTREAM_INVALID', `${host} answers a request for ${what} with ${said}`);
  }
}

/**
 * The error of a denial, which says which credential was denied, or that there is none, and what to do. Anything else
 * becomes what toError makes of it.
 */
export function toDeniedError(
  response: ErrorResponse,
  repository: Repository,
  credential: string | undefined,
  { actions }: Access,
): RegistryError {
  const error = toError(response, imageName(repository), 'NAME_UNKNOWN');
  if (!isDenial(response)) return error;
  if (credential === undefined) {
    const why = actions === 'pull' ? 'It is private or does not exist' : 'This takes a credential';
    return new RegistryError('DENIED', `${error.message}. ${why}, and ${lacksCredential(repository)}`);
  }
  const pulls = actions === 'pull' ? ', and it cannot be pulled anonymously' : '';
  const advice =
    `Credential "${credential}" was denied${pulls}: check that it has not expired and that it has the ` +
    `right to this package (${PAT_SCOPES[actions]})`;
  return new RegistryError('DENIED', `${error.message}. ${advice}`, { detail: { credential } });
}

/**
 * The error of a host that the registry has sent us to, which does not speak for the registry, whatever it says: nothing
 * is denied or missing because of it, and no request for anything else is held back.
 */
export function toElsewhereError(error: ErrorResponse, host: string, what: string): RegistryError {
  const { status, retryAfterMs = error.busyMs } = error;
  const code = error.retryAfterMs === undefined ? 'UPSTREAM_UNAVAILABLE' : 'TOOMANYREQUESTS';
  const mayRetry = status >= 500 || code === 'TOOMANYREQUESTS';
  const message = `${host} does not serve ${what}: ${status} ${error.message}`;
  // We asked for bytes behind the end, and what we have of it is wrong; or for a range of a host that gives none.
  if (status === 416 || status === 501) return new RegistryError('UPSTREAM_INVALID', message);
  return new Trouble(code, message, { of: 'image', mayRetry, retryAfterMs });
}

/** The first code and all messages of an OCI error body; of anything else, a short text or its content type. */
function parseBody(text: string, contentType: string | undefined): { code: string | undefined; words: string } {
  let first: unknown;
  let words: string;
  try {
    const { errors } = JSON.parse(text) as { errors: { code?: unknown; message?: unknown; detail?: unknown }[] };
    first = errors[0]?.code;
    const messages = errors.map(({ code, message, detail }) =>
      [[code, message].filter(Boolean).join(': '), digestIn(detail)].filter(Boolean).join(' '),
    );
    words = messages.join('; ');
  } catch {
    // A page or a document does not belong in a sentence.
    words = text.includes('<') ? `(${contentType ?? 'a body of no type'})` : text;
  }
  return { code: typeof first === 'string' ? first : undefined, words };
}

/** The digest that an error is about, which some registries put into `detail` alone. */
function digestIn(detail: unknown): string | undefined {
  const found = typeof detail === 'string' ? detail : (Object(detail).Digest ?? Object(detail).digest);
  return typeof found === 'string' ? parseDigest(found) : undefined;
}

function waitMs(header: string | undefined, message: string, nowMs: number, isHead: boolean): number {
  const ms = retryAfterMs(header, nowMs) ?? goDurationMs(/retry-after:\s*([0-9a-zµμ.]+)/i.exec(message)?.[1]);
  return Math.min(ms ?? (isHead ? HEAD_WAIT_MS : UNNAMED_WAIT_MS), LONGEST_WAIT_MS);
}

function busyMs(header: string | undefined, nowMs: number): number | undefined {
  const ms = retryAfterMs(header, nowMs);
  return ms === undefined ? undefined : Math.min(ms, LONGEST_BUSY_MS);
}

/** A Retry-After header (RFC 9110, section 10.2.3): seconds, or a date in one of three forms (section 5.6.7). */
export function retryAfterMs(header: string | undefined, nowMs: number): number | undefined {
  const text = header?.trim() ?? '';
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  // Date.parse alone takes nearly anything for a date, and one without a zone for local time.
  const isAsctime = /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}$/.test(text);
  const date = isAsctime ? Date.parse(`${text} GMT`) : /GMT$/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

/** Micro is written with U+00B5 or U+03BC. */
const UNITS_MS: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, s: 1e3, m: 60e3, h: 3600e3 };

/** A duration as Go prints it, such as `880.092µs` or `1m30s`, in milliseconds; undefined when it is none. */
export function goDurationMs(text: string | undefined): number | undefined {
  if (text === undefined || !/^(?:\d{1,12}(?:\.\d{0,9})?(?:ns|us|µs|μs|ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, number, unit = ''] of text.matchAll(/([\d.]+)(\D+)/g)) total += Number(number) * (UNITS_MS[unit] ?? 0);
  return total;
}
