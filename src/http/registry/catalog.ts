// The repositories of which something is cached.
import { pageOf, sendPage } from './pagination.ts';
import type { Handler } from './services.ts';

/** Repositories of other upstreams than the default are listed with their host in front. */
export const getCatalog: Handler<'catalog'> = async (services, exchange, { query, namespace }) => {
  const page = pageOf(query);
  exchange.outcome = 'hit';
  const repositories = await services.repositories();
  const names = repositories
    .filter(({ upstream }) => namespace === undefined || upstream === namespace)
    .map(({ upstream, name }) =>
      namespace !== undefined || upstream === services.upstreams.default ? name : `${upstream}/${name}`,
    )
    .sort();
  sendPage(exchange, page(names), found => ({ repositories: found }));
};
