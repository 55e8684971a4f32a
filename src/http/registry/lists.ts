// What is listed: the repositories of the registry, the tags of a repository, and the referrers of a manifest.
import { artifactTypeOf, INDEX_TYPE, indexOf } from '../../oci/referrers.ts';
import type { Headers } from '../body/send.ts';
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

/** In pages (distribution spec 1.1, "Listing Tags"). */
export const getTags: Handler<'tags'> = async ({ tagLists }, exchange, { resource: { repository }, query }) => {
  // Checked first: a bad page number needs no upstream.
  const page = pageOf(query);
  exchange.outcome = 'miss';
  const { tags, outcome, stale } = await tagLists.pull(repository);
  exchange.outcome = outcome;
  sendPage(exchange, page(tags), found => ({ name: repository.name, tags: found }), stale);
};

/** Never 404, and always on one page (distribution spec 1.1, "Listing Referrers"). */
export const getReferrers: Handler<'referrers'> = async ({ referrers }, exchange, { resource, query }) => {
  exchange.outcome = 'miss';
  const { descriptors, outcome, stale } = await referrers.pull(resource.repository, resource.digest);
  exchange.outcome = outcome;
  const type = query.get('artifactType');
  const wanted = type === null ? descriptors : descriptors.filter(entry => artifactTypeOf(entry) === type);
  const headers: Headers = { 'content-type': INDEX_TYPE };
  if (type !== null) headers['oci-filters-applied'] = 'artifactType';
  exchange.send(200, headers, indexOf(wanted), stale);
};
