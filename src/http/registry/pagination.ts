// Pages of a list in lexical order (distribution spec 1.1, "Listing tags").
import { RegistryError } from '../../oci/errors.ts';

export interface Page {
  readonly found: readonly string[];
  /** The query of the next page, when there is one. */
  readonly next: URLSearchParams | undefined;
}

/** What `n` and `last` of the query select. Throws PAGINATION_NUMBER_INVALID when `n` is no number. */
export function pageOf(query: URLSearchParams): (sorted: readonly string[]) => Page {
  const n = query.get('n');
  if (n !== null && !/^\d{1,9}$/.test(n)) {
    throw new RegistryError(
      'PAGINATION_NUMBER_INVALID',
      `n=${JSON.stringify(n.slice(0, 50))} is not a number of entries`,
    );
  }
  const last = query.get('last');
  return sorted => {
    const after = last === null ? 0 : firstAfter(sorted, last);
    if (n === null) return { found: sorted.slice(after), next: undefined };
    const end = after + Number(n);
    const found = sorted.slice(after, end);
    const lastFound = found.at(-1);
    const more = end < sorted.length && lastFound !== undefined;
    return { found, next: more ? new URLSearchParams({ n, last: lastFound }) : undefined };
  };
}

/** The place of the first entry behind `last`, which itself need not be there. */
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
