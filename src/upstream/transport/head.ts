// The head of a response (RFC 9112), from bytes in pieces of any size. It is strict: who reads a head in another way than
// its sender meant it takes one response for a part of another. Responses that only announce the final one (1xx) are
// passed over. It looks at nothing behind the head, holds 16 KiB at most, and throws nothing but MalformedHead.
import { INTERIM_LIMIT, LISTS } from './response.ts';

export interface ResponseHead {
  readonly status: number;
  /** As UpstreamResponse.header. */
  readonly header: (name: string) => string | undefined;
  /** The length of the body; undefined when it comes in chunks, or ends with the connection. */
  readonly bodyBytes: number | undefined;
  /** Whether another request may follow on its connection. */
  readonly isKeptAlive: boolean;
  /** How many bytes of the last piece are the head's; the body begins behind them. */
  readonly takenBytes: number;
}

export class MalformedHead extends Error {}

const LIMIT_BYTES = 16 * 1024;
const LIMIT_LINES = 100;
const LF = 10;
/** The blank before an empty reason is often left out. */
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/;
/** A name, and words. In time that grows as the line does: wherever it is, one part of this can go on. */
const HEADER_LINE = /^([!#$%&'*+.^`|~\w-]+):[\t ]*(?:([\x21-\x7e\x80-\xff]+(?:[\t ]+[\x21-\x7e\x80-\xff]+)*)[\t ]*)?$/;
const LENGTH = /^\d{1,15}$/;
const CLOSE = /(?:^|[,\t ])close(?:[,\t ]|$)/i;
const SWITCHING_PROTOCOLS = 101;
const WITHOUT_BODY: ReadonlySet<number> = new Set([204, 304]);

/** Reads one head. */
export class HeadParser {
  /** The beginning of a line whose rest is still to come. */
  #line = '';
  #bytes = 0;
  #lines = 0;
  #interim = 0;
  #minorVersion = '';
  /** Once its line is read. */
  #status: number | undefined;
  readonly #headers = new Map<string, string>();

  /** Takes the next piece; returns the head that it completes, after which there is nothing to be parsed. */
  parse(bytes: Buffer): ResponseHead | undefined {
    for (let at = 0; at < bytes.length; ) {
      const newline = bytes.indexOf(LF, at);
      const end = newline === -1 ? bytes.length : newline + 1;
      this.#bytes += end - at;
      if (this.#bytes > LIMIT_BYTES) throw new MalformedHead(`the head of the response exceeds ${LIMIT_BYTES} bytes`);
      this.#line += bytes.toString('latin1', at, end);
      if (newline === -1) return undefined;
      at = end;
      const line = this.#line;
      this.#line = '';
      if (!line.endsWith('\r\n')) throw new MalformedHead('a line of the head ends in LF alone');
      if (this.#takeLine(line.slice(0, -2))) return this.#head(at);
    }
    return undefined;
  }

  /** Whether it was the last one. */
  #takeLine(line: string): boolean {
    if (this.#status !== undefined && line === '') return !this.#isInterim(this.#status);
    if (++this.#lines > LIMIT_LINES) throw new MalformedHead(`the head of the response exceeds ${LIMIT_LINES} lines`);
    if (this.#status === undefined) this.#takeStatus(line);
    else this.#takeHeader(line);
    return false;
  }

  #takeStatus(line: string): void {
    const [, minorVersion, status] = STATUS_LINE.exec(line) ?? [];
    if (minorVersion === undefined) throw new MalformedHead('what came does not begin as a response does');
    this.#minorVersion = minorVersion;
    this.#status = Number(status);
  }

  #takeHeader(line: string): void {
    const [, written, value = ''] = HEADER_LINE.exec(line) ?? [];
    if (written === undefined) throw new MalformedHead('a line of the head is no header');
    const name = written.toLowerCase();
    const known = this.#headers.get(name);
    if (known === undefined) this.#headers.set(name, value);
    else if (name === 'content-length') throw new MalformedHead('the response has more than one length');
    else if (name === 'connection' || LISTS.has(name)) this.#headers.set(name, `${known}, ${value}`);
  }

  /** Whether the head that has ended only announces another one, which is then begun. */
  #isInterim(status: number): boolean {
    if (status >= 200) return false;
    if (status === SWITCHING_PROTOCOLS) throw new MalformedHead('another protocol is offered, which nobody asked for');
    if (++this.#interim > INTERIM_LIMIT) throw new MalformedHead(`nothing but ${status} after ${status}`);
    this.#bytes = 0;
    this.#lines = 0;
    this.#status = undefined;
    this.#headers.clear();
    return true;
  }

  #head(takenBytes: number): ResponseHead {
    const status = this.#status ?? 0;
    const headers = this.#headers;
    const length = headers.get('content-length');
    if (length !== undefined && (!LENGTH.test(length) || headers.has('transfer-encoding'))) {
      throw new MalformedHead('the length of the response is not clear');
    }
    const givenBytes = length === undefined ? undefined : Number(length);
    return {
      status,
      header: name => headers.get(name),
      bodyBytes: WITHOUT_BODY.has(status) ? 0 : givenBytes,
      isKeptAlive: this.#minorVersion === '1' && !CLOSE.test(headers.get('connection') ?? ''),
      takenBytes,
    };
  }
}
