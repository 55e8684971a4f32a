// An answer that is no success, read once and turned into what it means. ghcr.io puts some of its meaning
// into the text: how long to wait after a 429, and whether a 403 is a right that lacks or a rate limit.
import { parseDigest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { type Answer, readAll } from './transport/dialer.ts';

export interface ErrorResponse {
  readonly status: number;
  /** The code of the first error of an OCI error body. */
  readonly code: string | undefined;
  /** The upstream's own words, shortened, safe to print. */
  readonly message: string;
  readonly challenge: string | undefined;
  /** Set when the upstream wants to be left alone: for how long. */
  readonly retryAfterMs: number | undefined;
}

const BODY_LIMIT_BYTES = 64 * 1024;
const MESSAGE_LIMIT = 300;
/** What GitHub's documentation asks for when it names no time. */
const UNNAMED_WAIT_MS = 60_000;
/** What is named in the body is not told to HEAD: the next question with a body is to learn it. */
const HEAD_WAIT_MS = 1_000;
/** No upstream can silence us for longer than this by one answer. */
const LONGEST_WAIT_MS = 3_600_000;

/** `mask` takes our secrets out of what the upstream says: one that echoes them must not make us tell. */
export async function readErrorResponse(
  answer: Answer,
  nowMs: number,
  mask: (text: string) => string,
  isHead = false,
): Promise<ErrorResponse> {
  const text = (await readAll(answer, BODY_LIMIT_BYTES).catch(() => undefined))?.toString('utf8') ?? '';
  const message = mask(wordsOf(text, answer.header('content-type'))).slice(0, MESSAGE_LIMIT);
  const limited = answer.status === 429 || (answer.status === 403 && /secondary rate limit/i.test(text));
  return {
    status: answer.status,
    code: codeOf(text),
    message,
    challenge: answer.header('www-authenticate'),
    retryAfterMs: limited ? waitOf(answer.header('retry-after'), message, nowMs, isHead) : undefined,
  };
}

/** What an upstream may find wrong with something pushed to it; the rest says nothing to our own clients. */
const MEANT: ReadonlyMap<string, ErrorCode> = new Map([
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
 * The error of a status that no caller knows better. `what` is the image, as a person writes it. What an
 * upstream finds wrong with something written to it is the writer's to know.
 */
export function toError(
  refusal: ErrorResponse,
  what: string,
  notFound: ErrorCode,
  isWrite = false,
): RegistryError {
  const said = refusal.message === '' ? `${refusal.status}` : `${refusal.status} "${refusal.message}"`;
  const host = what.slice(0, what.indexOf('/'));
  if (refusal.retryAfterMs !== undefined) {
    return new RegistryError('TOOMANYREQUESTS', `${host} limits our requests: ${said}`, {
      retryAfterMs: refusal.retryAfterMs,
    });
  }
  if (isWrite) {
    const meant = MEANT.get(refusal.code ?? '');
    if (meant !== undefined && [400, 404, 416].includes(refusal.status)) {
      return new RegistryError(meant, `${host} refuses ${what}: ${said}`);
    }
    if (refusal.status === 405)
      return new RegistryError('UNSUPPORTED', `${host} does not do this with ${what}: ${said}`);
    if (refusal.status === 413)
      return new RegistryError('TOO_LARGE', `${what} is larger than ${host} takes: ${said}`);
  }
  switch (refusal.status) {
    case 401:
      return new RegistryError('UNAUTHORIZED', `${host} refuses ${what}: ${said}`);
    case 403:
      return new RegistryError('DENIED', `${host} refuses ${what}: ${said}`);
    case 404:
      return new RegistryError(notFound, `${what} is not there, says ${host}: ${said}`);
    case 408:
    case 500:
    case 502:
    case 503:
    case 504:
      return new RegistryError('UPSTREAM_UNAVAILABLE', `${host} cannot serve ${what} now: ${said}`);
    default:
      return new RegistryError('UPSTREAM_INVALID', `${host} answers a request for ${what} with ${said}`);
  }
}

function codeOf(text: string): string | undefined {
  try {
    const { errors } = JSON.parse(text) as { errors: { code?: unknown }[] };
    const code = errors[0]?.code;
    return typeof code === 'string' ? code : undefined;
  } catch {
    return undefined;
  }
}

/** The messages of an OCI error body; for anything else, what kind of thing it is. */
function wordsOf(text: string, contentType: string | undefined): string {
  let words: string;
  try {
    const { errors } = JSON.parse(text) as {
      errors: { code?: unknown; message?: unknown; detail?: unknown }[];
    };
    words = errors
      .map(({ code, message, detail }) =>
        [[code, message].filter(Boolean).join(': '), digestIn(detail)].filter(Boolean).join(' '),
      )
      .join('; ');
  } catch {
    // A page or a document says nothing that belongs into a sentence, a short text may.
    words = text.includes('<') ? `(${contentType ?? 'a body of no type'})` : text;
  }
  return (
    words
      // biome-ignore lint/suspicious/noControlCharactersInRegex: taking them out is the point
      .replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ')
      .trim()
  );
}

/** The digest that is meant, which some registries put into the particulars alone. */
function digestIn(detail: unknown): string | undefined {
  const found = typeof detail === 'string' ? detail : (Object(detail).Digest ?? Object(detail).digest);
  return typeof found === 'string' ? parseDigest(found) : undefined;
}

function waitOf(header: string | undefined, message: string, nowMs: number, isHead: boolean): number {
  const ms = retryAfterMs(header, nowMs) ?? goDurationMs(/retry-after:\s*([0-9a-zµμ.]+)/i.exec(message)?.[1]);
  return Math.min(ms ?? (isHead ? HEAD_WAIT_MS : UNNAMED_WAIT_MS), LONGEST_WAIT_MS);
}

/** RFC 9110, section 10.2.3: seconds, or a date. */
export function retryAfterMs(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header.trim())) return Number(header) * 1000;
  // Date.parse by itself takes nearly anything for a date.
  const date = /GMT$/.test(header.trim()) ? Date.parse(header) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

const GO_UNITS_MS: Record<string, number> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3, // U+00B5
  μs: 1e-3, // U+03BC
  ms: 1,
  s: 1e3,
  m: 60e3,
  h: 3600e3,
};

/** A duration as Go prints it, such as `880.092µs` or `1m30s`, in milliseconds; undefined when it is none. */
export function goDurationMs(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  let total = 0;
  let rest = text;
  while (rest !== '') {
    const match = /^(\d{1,12}(?:\.\d{0,9})?)(ns|us|µs|μs|ms|s|m|h)/.exec(rest);
    if (!match) return undefined;
    total += Number(match[1]) * (GO_UNITS_MS[match[2] ?? ''] ?? 0);
    rest = rest.slice(match[0].length);
  }
  return total;
}
