// The referrers of a manifest.
import { artifactTypeOf, INDEX_TYPE, indexOf } from '../../oci/referrers.ts';
import type { Headers } from '../body/send.ts';
import type { Handler } from './services.ts';

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
