// Faults: what a test makes go wrong, on which requests and how often. A fault replaces, delays or spoils the response
// to each request that it matches, or the reading of its body; handler.ts, receive.ts and send.ts carry that out. Also
// here: the error responses of ghcr.io and its blob host, for faults and for the fake's own use.
import type { Span } from '../../../src/base/spans.ts';
import type { Endpoint, RequestRecord } from './log.ts';

/** A response with a small body. */
export interface Answer {
  status: number;
  headers?: Record<string, string>;
  /** An object is sent as JSON. */
  body?: string | Uint8Array | object;
}

/**
 * Which requests: every given field must match. When several faults match, the one added first applies.
 * The bytes of a blob come from `blobhost`, behind a redirect; `blob` is then only that redirect.
 */
export interface FaultMatch {
  endpoint: Endpoint;
  repository?: string;
  digest?: string;
  reference?: string;
  method?: string;
  /** Only requests with a Range header, or only those without. */
  range?: boolean;
  /** How many matching requests to skip first. Default: none. */
  skip?: number;
  /** How many requests to hit. Default: all, until the fault is removed. */
  times?: number;
}

/**
 * What goes wrong: usually one of these. `gate`, `throttle` and `chunked` combine with any other. Numbers of bytes
 * count the body of one response, for a range the part that is sent, unless they name the request.
 */
export interface FaultAction {
  /**
   * When `answer`, `refuse`, `hang` and `gate` act: after the headers of the request, after its body, or after it was
   * carried out, so that only its response is lost. With an `answer` the request is carried out only in the last
   * case. Default: `headers`.
   */
  at?: 'headers' | 'body' | 'done';
  /** Sent in place of the true response. */
  answer?: Answer;
  /** The connection is closed before any header is sent; `reset`: by a TCP reset. */
  refuse?: true | 'reset';
  /** No header is sent until the fault is removed; then the request proceeds normally. */
  hang?: true;
  /** No header is sent before this resolves. */
  gate?: Promise<unknown>;
  /**
   * The connection is closed after this many bytes of the request's body, with `reset` by a TCP reset. What was read
   * before has reached the upload.
   */
  cutRequestAfter?: number;
  /**
   * The request's body is not read beyond this many bytes until the fault is removed. A client that disconnects
   * meanwhile is noticed only then.
   */
  stallRequestAfter?: number;
  /** The connection is closed after this many bytes; with `reset` by a TCP reset, which may overtake them. */
  cutAfter?: number;
  reset?: true;
  /** Nothing is sent beyond this many bytes until the fault is removed; then the rest. */
  stallAfter?: number;
  /** This many bytes are missing at the end, and Content-Length agrees. */
  short?: number;
  /** This many bytes are missing at the end despite Content-Length; the connection ends in order. */
  shortClaimed?: number;
  /** This many extra bytes are sent: beyond Content-Length, or with `chunked` as part of the body. */
  tooLong?: number;
  /** The byte at this offset of the whole content is flipped, whenever it is sent. */
  corruptAt?: number;
  /** The Content-Range of a 206, regardless of what is sent. */
  contentRange?: (span: Span, sizeBytes: number) => string;
  /** A range request gets a 200 with everything. */
  ignoreRange?: true;
  /** Bytes per second, roughly. */
  throttle?: number;
  /** The body is sent without a Content-Length. */
  chunked?: true;
}

export interface Fault {
  /** How many requests it has matched. */
  readonly hits: number;
  /** Ends the fault, and lets requests proceed that hang or stall because of it. */
  remove(): void;
  /**
   * Resolves when it has taken effect `count` times: a request is held at its gate or hangs, the stall or cut was
   * reached, or, for other faults, a request matched.
   */
  reached(count?: number): Promise<void>;
}

export class ActiveFault implements Fault {
  readonly action: FaultAction;
  /** Resolves when the fault is removed. */
  readonly removed: Promise<void>;
  readonly remove: () => void;
  readonly #match: FaultMatch;
  #skipped = 0;
  #hits = 0;
  #effects = 0;
  #waiters: { count: number; resolve: () => void }[] = [];

  constructor(spec: FaultMatch & FaultAction, onRemove: (fault: ActiveFault) => void) {
    this.action = spec;
    this.#match = spec;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.removed = promise;
    this.remove = () => {
      onRemove(this);
      resolve();
    };
  }

  get hits(): number {
    return this.#hits;
  }

  /** Whether the fault applies to this request; counts it. */
  take(record: RequestRecord): boolean {
    const { skip = 0, times = Number.POSITIVE_INFINITY, range, ...wanted } = this.#match;
    const { endpoint, repository, digest, reference, method } = wanted;
    if (this.#hits >= times || endpoint !== record.endpoint) return false;
    if (repository !== undefined && repository !== record.repository) return false;
    if (digest !== undefined && digest !== record.digest) return false;
    if (reference !== undefined && reference !== record.reference) return false;
    if (method !== undefined && method !== record.method) return false;
    if (range !== undefined && range !== (record.range !== undefined)) return false;
    if (this.#skipped < skip) {
      this.#skipped++;
      return false;
    }
    this.#hits++;
    const { at = 'headers', cutAfter, stallAfter, cutRequestAfter, stallRequestAfter } = this.action;
    const later = cutAfter ?? stallAfter ?? cutRequestAfter ?? stallRequestAfter;
    if (later === undefined && at === 'headers') this.tookEffect();
    return true;
  }

  tookEffect(): void {
    this.#effects++;
    for (const { count, resolve } of this.#waiters) if (this.#effects >= count) resolve();
    this.#waiters = this.#waiters.filter(({ count }) => this.#effects < count);
  }

  reached(count = 1): Promise<void> {
    if (this.#effects >= count) return Promise.resolve();
    return new Promise(resolve => this.#waiters.push({ count, resolve }));
  }
}

export class Faults {
  readonly #active = new Set<ActiveFault>();

  add(spec: FaultMatch & FaultAction): ActiveFault {
    const fault = new ActiveFault(spec, removed => this.#active.delete(removed));
    this.#active.add(fault);
    return fault;
  }

  take(record: RequestRecord): ActiveFault | undefined {
    for (const fault of this.#active) if (fault.take(record)) return fault;
    return undefined;
  }

  clear(): void {
    for (const fault of this.#active) fault.remove();
  }
}

/** The body of an OCI error as ghcr.io writes it: with a trailing newline. */
function errorBody(code: string, message: string, detail?: unknown): string {
  return `${JSON.stringify({ errors: [{ code, message, detail }] })}\n`;
}

export function errorAnswer(status: number, code: string, message: string, detail?: unknown): Answer {
  return { status, headers: { 'content-type': 'application/json' }, body: errorBody(code, message, detail) };
}

/** An error of the blob host, which is Azure storage. */
export function xmlAnswer(status: number, code: string, message: string): Answer {
  return {
    status,
    headers: { 'content-type': 'application/xml', 'x-ms-error-code': code },
    body: `\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`,
  };
}

/** Ready-made answers for `fault({ …, answer })`. */
export const answers = {
  /** ghcr.io's 429: the time to wait is in the message, as a Go duration. For pushes it says 2000 a minute. */
  tooManyRequests: (retryAfter = '880.092µs', allowed = 44_000) =>
    errorAnswer(429, 'TOOMANYREQUESTS', `retry-after: ${retryAfter}, allowed: ${allowed}/minute`),
  /** The 429 of the distribution spec, with the Retry-After header: seconds or an HTTP date. */
  retryAfter: (value: string) => {
    const answer = errorAnswer(429, 'TOOMANYREQUESTS', 'too many requests');
    return { ...answer, headers: { ...answer.headers, 'retry-after': value } };
  },
  secondaryRateLimit: errorAnswer(
    403,
    'DENIED',
    'You have exceeded a secondary rate limit. Please wait a few minutes before you try again.',
  ),
  denied: errorAnswer(403, 'DENIED', 'requested access to the resource is denied'),
  unsupported: errorAnswer(405, 'UNSUPPORTED', 'The operation is unsupported.'),
  digestInvalid: errorAnswer(400, 'DIGEST_INVALID', 'invalid digest'),
  blobUnknown: errorAnswer(404, 'BLOB_UNKNOWN', 'blob unknown to registry'),
  manifestUnknown: errorAnswer(404, 'MANIFEST_UNKNOWN', 'manifest unknown'),
  serverError: (status = 500) => errorAnswer(status, 'UNKNOWN', 'unknown error'),
  /** From the blob host when it is overloaded. */
  serverBusy: xmlAnswer(503, 'ServerBusy', 'The server is busy.'),
  /** What captive portals and proxies send in place of any response. */
  htmlPage: {
    status: 200,
    headers: { 'content-type': 'text/html; charset=utf-8' },
    body: '<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in to go on.</body></html>\n',
  },
} as const;
