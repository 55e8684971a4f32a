// The tags of a repository, in pages (distribution spec 1.1, "Listing Tags").
import type { TagLists } from '../../pull/tag-lists.ts';
import type { Exchange } from './exchange.ts';
import { pageOf, sendPage } from './pagination.ts';
import type { ParsedRequest } from './request.ts';

export interface TagServices {
  readonly tagLists: TagLists;
}

export async function getTags(
  { tagLists }: TagServices,
  exchange: Exchange,
  { resource: { repository }, query }: ParsedRequest<'tags'>,
): Promise<void> {
  // Checked first: a bad page number needs no upstream.
  const page = pageOf(query);
  exchange.outcome = 'miss';
  const { tags, outcome, stale } = await tagLists.pull(repository);
  exchange.outcome = outcome;
  sendPage(exchange, page(tags), found => ({ name: repository.name, tags: found }), stale);
}
