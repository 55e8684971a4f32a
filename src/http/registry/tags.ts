// The tags of a repository.
import { pageOf, sendPage } from './pagination.ts';
import type { Handler } from './services.ts';

/** In pages (distribution spec 1.1, "Listing Tags"). */
export const getTags: Handler<'tags'> = async ({ tagLists }, exchange, { resource: { repository }, query }) => {
  // Checked first: a bad page number needs no upstream.
  const page = pageOf(query);
  exchange.outcome = 'miss';
  const { tags, outcome, stale } = await tagLists.pull(repository);
  exchange.outcome = outcome;
  sendPage(exchange, page(tags), found => ({ name: repository.name, tags: found }), stale);
};
