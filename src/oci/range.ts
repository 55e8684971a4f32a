// Range requests (RFC 9110, section 14) for a representation of known size, and the ranges of upload chunks.
import type { Span } from '../base/spans.ts';

/** More ranges in one request cost more than they can save, and are a known attack. */
const SPANS_LIMIT = 64;

/**
 * The spans that a `Range` header requests of `size` bytes, in its order, without those that cannot be satisfied; none
 * at all means 416. Undefined, for 200 with everything, when there is no header or it is to be ignored: another unit,
 * malformed, too many ranges, or ranges that together are longer than the whole.
 */
export function parseRange(header: string | undefined, size: number): Span[] | undefined {
  if (header === undefined) return undefined;
  const equals = header.indexOf('=');
  if (equals < 0 || header.slice(0, equals).trim().toLowerCase() !== 'bytes') return undefined;
  const parts = header.slice(equals + 1).split(',', SPANS_LIMIT + 1);
  if (parts.length > SPANS_LIMIT) return undefined;

  const spans: Span[] = [];
  let total = 0;
  for (const part of parts) {
    const dash = part.indexOf('-');
    if (dash < 0) return undefined;
    const first = parsePosition(part.slice(0, dash).trim());
    const last = parsePosition(part.slice(dash + 1).trim());
    if (Number.isNaN(first) || Number.isNaN(last)) return undefined;

    let span: Span;
    if (first === undefined) {
      if (last === undefined) return undefined;
      span = { start: Math.max(0, size - last), end: size };
    } else {
      // The RFC allows ignoring this as well as a 416; the conformance suite of the spec wants the latter.
      if (last !== undefined && last < first) continue;
      span = { start: first, end: last === undefined ? size : Math.min(last + 1, size) };
    }
    if (span.start >= span.end) continue;
    spans.push(span);
    total += span.end - span.start;
  }
  return total > size ? undefined : spans;
}

/** A position; undefined when it is left out, NaN when it is not a number. Beyond 2^53 it is clipped, harmlessly. */
function parsePosition(text: string): number | undefined {
  if (text === '') return undefined;
  return /^\d+$/.test(text) ? Math.min(Number(text), Number.MAX_SAFE_INTEGER - 1) : Number.NaN;
}

/** Parses the `Content-Range: bytes first-last/size` of a response; undefined when malformed or impossible. */
export function parseContentRange(header: string | undefined): (Span & { size: number | undefined }) | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(header ?? '');
  if (!match) return undefined;
  const start = Number(match[1]);
  const end = Number(match[2]) + 1;
  const size = match[3] === '*' ? undefined : Number(match[3]);
  return start < end && (size === undefined || end <= size) ? { start, end, size } : undefined;
}

/**
 * Parses the `Content-Range` of an upload chunk: `<first>-<last>` without a unit (distribution spec 1.1, "Pushing a
 * blob in chunks"), or `bytes first-last/size`, which some clients send. Undefined when it is neither.
 */
export function parseChunkRange(header: string): Span | undefined {
  const match = /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/(?:\d{1,15}|\*))?$/.exec(header.trim());
  if (!match) return undefined;
  const span = { start: Number(match[1]), end: Number(match[2]) + 1 };
  return span.start < span.end ? span : undefined;
}
