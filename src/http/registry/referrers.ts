// The referrers of a manifest (distribution spec 1.1, "Listing Referrers"): never 404, and always on one page.
import { artifactTypeOf, INDEX_TYPE, indexOf } from '../../oci/referrers.ts';
import type { Referrers } from '../../pull/referrers.ts';
import type { Headers } from '../body/send.ts';
import type { Exchange } from './exchange.ts';
import type { ParsedRequest } from './request.ts';

export interface ReferrerServices {
  readonly referrers: Referrers;
}

export async function getReferrers(
  { referrers }: ReferrerServices,
  exchange: Exchange,
  { resource: { repository, digest }, query }: ParsedRequest<'referrers'>,
): Promise<void> {
  exchange.outcome = 'miss';
  const { descriptors, outcome, stale } = await referrers.pull(repository, digest);
  exchange.outcome = outcome;
  const type = query.get('artifactType');
  const wanted = type === null ? descriptors : descriptors.filter(entry => artifactTypeOf(entry) === type);
  const headers: Headers = { 'content-type': INDEX_TYPE };
  if (type !== null) headers['oci-filters-applied'] = 'artifactType';
  exchange.send(200, headers, indexOf(wanted), stale);
}
