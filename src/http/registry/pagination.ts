// Pages of a sorted list, and the link to the next one (distribution spec 1.1, "Listing tags").
import { RegistryError } from '../../oci/errors.ts';
import type { Staleness } from '../../pull/outcome.ts';
import type { Headers } from '../body/send.ts';
import type { Exchange } from './exchange.ts';

export interface Page {
  readonly found: readonly string[];
  /** The query of the next page, if there is one. */
  readonly next: URLSearchParams | undefined;
}

/** The most on one page: a response is written on the event loop. */
const PAGE_LIMIT = 10_000;

/** Selects by `n` and `last` of the query; a long list is in pages also without `n`. Throws PAGINATION_NUMBER_INVALID when `n` is not a number. */
export function pageOf(query: URLSearchParams): (sorted: readonly string[]) => Page {
  const n = query.get('n');
  if (n !== null && !/^\d{1,9}$/.test(n)) {
    const message = `n=${JSON.stringify(n.slice(0, 50))} is not a number of entries`;
    throw new RegistryError('PAGINATION_NUMBER_INVALID', message);
  }
  const last = query.get('last');
  return sorted => {
    const after = last === null ? 0 : firstAfter(sorted, last);
    const end = after + Math.min(Number(n ?? PAGE_LIMIT), PAGE_LIMIT);
    const found = sorted.slice(after, end);
    const lastFound = found.at(-1);
    const more = end < sorted.length && lastFound !== undefined;
    const next = new URLSearchParams({ n: n ?? `${PAGE_LIMIT}`, last: lastFound ?? '' });
    return { found, next: more ? next : undefined };
  };
}

/** Responds with a page as `body` renders it, and a Link to the next one. */
export function sendPage(
  exchange: Exchange,
  { found, next }: Page,
  body: (found: readonly string[]) => object,
  stale?: Staleness,
): void {
  const headers: Headers = { 'content-type': 'application/json' };
  if (next !== undefined) {
    const namespace = exchange.parsed?.namespace;
    if (namespace !== undefined) next.set('ns', namespace);
    headers.link = `<${exchange.path}?${next}>; rel="next"`;
  }
  exchange.send(200, headers, `${JSON.stringify(body(found))}\n`, stale);
}

/** The index of the first entry after `last`, which itself need not be in the list. */
function firstAfter(sorted: readonly string[], last: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? '') <= last) low = middle + 1;
    else high = middle;
  }
  return low;
}
