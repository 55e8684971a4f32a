// Manifests: pull by tag or digest, push, delete (distribution spec 1.1, /v2/<name>/manifests/<reference>).
import { RegistryError } from '../../oci/errors.ts';
import { accepts, MANIFEST_LIMIT_BYTES } from '../../oci/manifest.ts';
import { imageName, isTag } from '../../oci/reference.ts';
import { receiveAll } from '../body/receive.ts';
import type { Headers } from '../body/send.ts';
import { contentHeaders, isKnownToClient } from './conditional.ts';
import type { Handler } from './services.ts';

/** The most tags that one manifest may be pushed under in one request. */
const TAGS_LIMIT = 100;

export const getManifest: Handler<'manifest'> = async ({ manifests, tags, seen }, exchange, { resource }) => {
  const { repository, reference } = resource;
  exchange.outcome = 'miss';
  const { manifest, outcome, stale } =
    reference.tag === undefined
      ? await manifests.pull(repository, reference.digest)
      : await tags.pull(repository, reference.tag);
  exchange.outcome = outcome;
  const { digest, mediaType, bytes } = manifest;
  if (!accepts(exchange.header('accept'), mediaType)) {
    const message = `${imageName(repository, reference)} is of type ${mediaType}, which the Accept header does not allow`;
    throw new RegistryError('MANIFEST_UNKNOWN', message);
  }
  if (!exchange.isHead) seen.gave(exchange.client, repository, digest);
  const headers = contentHeaders(digest, mediaType);
  if (isKnownToClient(exchange.header('if-none-match'), digest)) exchange.send(304, headers, undefined, stale);
  else exchange.send(200, headers, bytes, stale);
};

export const putManifest: Handler<'manifest'> = async (services, exchange, { resource, query }) => {
  const tags = query.getAll('tag');
  if (tags.length > TAGS_LIMIT || !tags.every(isTag)) {
    throw new RegistryError('TAG_INVALID', `the query has a tag that is not valid, or more than ${TAGS_LIMIT} tags`);
  }
  using body = await receiveAll(exchange.incoming, MANIFEST_LIMIT_BYTES, services.bodyMemory);
  const { repository, reference } = resource;
  const mediaType = exchange.header('content-type');
  const pushed = await services.manifestPushes.push(repository, reference, tags, mediaType, body.bytes);
  const { digest, subject, outcome, warning } = pushed;
  exchange.outcome = outcome;
  const further: Headers = {};
  if (subject !== undefined) further['oci-subject'] = subject;
  if (tags.length > 0) further['oci-tag'] = tags.join(', ');
  if (warning !== undefined) further.warning = `299 - "${warning}"`;
  exchange.sendCreated('manifests', digest, further);
};

export const deleteManifest: Handler<'manifest'> = async ({ deletes }, exchange, { resource }) => {
  const { repository, reference } = resource;
  if (reference.tag === undefined) await deletes.manifest(repository, reference.digest);
  else await deletes.tag(repository, reference.tag);
  exchange.send(202);
};
