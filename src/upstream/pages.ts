// Lists that an upstream sends in pages, each with a Link to the next (RFC 8288). A list is read whole or not at all: one
// that is too long, or whose pages lead elsewhere, is an error and never cut.
import { RegistryError } from '../oci/errors.ts';
import type { Repository } from '../oci/reference.ts';
import type { UpstreamResponse } from './transport/response.ts';
import { type Room, responseMemory } from './transport/response-memory.ts';
import { isNotFound } from './upstream.ts';

export interface PagedList {
  readonly repository: Repository;
  /** Below `/v2/<name>/`. */
  readonly path: string;
  /** Of the first page: `?n=1000`, or nothing. */
  readonly query: string;
  /** What errors call it. */
  readonly what: string;
}

export interface Page<T> {
  readonly response: UpstreamResponse;
  readonly body: Buffer | undefined;
  readonly entries: readonly T[];
}

/** `path` is below `/v2/<name>/`; what is read of the body is held in the room. */
type ReadPage<T> = (path: string, room: Room, isFirst: boolean) => Promise<Page<T> | undefined>;

const PAGES_LIMIT = 1_000;
const ENTRIES_LIMIT = 100_000;
const LIST_LIMIT_BYTES = 16 * 1024 * 1024;

/** All entries; undefined when `readPage` resolves to that for the first page. Throws UPSTREAM_INVALID. */
export async function readPages<T>(list: PagedList, readPage: ReadPage<T>): Promise<T[] | undefined> {
  const { path, what } = list;
  // Entries take as much memory as the bodies that they come from, at least.
  using room = responseMemory.room();
  const all: T[] = [];
  const queries = new Set<string>();
  let bytes = 0;
  for (let query: string | undefined = list.query; query !== undefined; ) {
    const isFirst = queries.size === 0;
    queries.add(query);
    const page = await readPage(path + query, room, isFirst).catch(error => {
      // Only the first tells that there is no such list.
      throw !isFirst && isNotFound(error) ? invalid(what, `a further page of it is missing: ${error.message}`) : error;
    });
    if (page === undefined && isFirst) return undefined;
    if (page === undefined) throw invalid(what, 'a further page of it is something else');
    for (const entry of page.entries) all.push(entry);
    bytes += page.body?.length ?? 0;
    if (all.length > ENTRIES_LIMIT) throw invalid(what, `it has more than ${ENTRIES_LIMIT} entries`);
    if (bytes > LIST_LIMIT_BYTES) throw invalid(what, `it is larger than ${LIST_LIMIT_BYTES / 1024 / 1024} MiB`);
    query = nextQuery(list, page.response);
    if (query === undefined) break;
    if (queries.size >= PAGES_LIMIT) throw invalid(what, `it has more than ${PAGES_LIMIT} pages`);
    if (!queries.has(query)) continue;
    // Some registries let an empty last page lead to itself.
    if (page.entries.length === 0) break;
    throw invalid(what, 'its pages lead in a circle');
  }
  return all;
}

export function invalid(what: string, why: string): RegistryError {
  return new RegistryError('UPSTREAM_INVALID', `the upstream's response for ${what} cannot be used: ${why}`);
}

/**
 * The query of the next page, which is all that counts of its address: a registry behind a proxy may not know its own
 * host, scheme or prefix.
 */
function nextQuery({ repository, path, what }: PagedList, response: UpstreamResponse): string | undefined {
  const link = nextLink(response.header('link') ?? '');
  if (link === undefined) return undefined;
  const url = URL.parse(link, response.url.href);
  if (url?.pathname.endsWith(`/${repository.name}/${path}`)) return url.search;
  throw invalid(what, 'its next page is said to be one of another list');
}

/** The target of the first link with the relation `next`. */
function nextLink(header: string): string | undefined {
  for (const [, target, parameters = ''] of header.matchAll(/<([^>]*)>((?:[^,"]|"(?:[^"\\]|\\.)*")*)/g)) {
    if (/;\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next(?![^\s;]))/i.test(parameters)) return target;
  }
  return undefined;
}
