// What is asked of the registry as a whole: whether it is one, and which repositories it has something of.
import type { Repository } from '../../oci/reference.ts';
import type { Exchange } from './exchange.ts';
import { pageOf, sendPage } from './pagination.ts';
import type { ParsedRequest, Upstreams } from './request.ts';

export interface CatalogServices {
  readonly upstreams: Upstreams;
  /** All repositories that something is cached of, in lexical order of upstream and name. */
  repositories(): Promise<Repository[]>;
}

/** Distribution spec 1.1, "Determining Support". */
export function getBase(_services: unknown, exchange: Exchange): void {
  exchange.outcome = 'hit';
  exchange.send(200, { 'content-type': 'application/json' }, '{}\n');
}

/** Repositories of other upstreams than the default are listed with their host in front. */
export async function getCatalog(
  services: CatalogServices,
  exchange: Exchange,
  { query, namespace }: ParsedRequest<'catalog'>,
): Promise<void> {
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
}
