// Answers to pulls: a manifest, a blob, a list of tags.
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { accepts } from '../../oci/manifest.ts';
import { parseRange } from '../../oci/range.ts';
import { imageName, type Reference, type Repository } from '../../oci/reference.ts';
import { artifactTypeOf, INDEX_TYPE, indexOf } from '../../oci/referrers.ts';
import type { Blobs } from '../../pull/blobs.ts';
import type { Manifests } from '../../pull/manifests.ts';
import type { Staleness } from '../../pull/outcome.ts';
import type { Referrers } from '../../pull/referrers.ts';
import type { TagLists } from '../../pull/tag-lists.ts';
import type { Tags } from '../../pull/tags.ts';
import type { Pump } from '../body/pump.ts';
import { type Headers, send, sendSource } from '../body/send.ts';
import { entityTag, isKnownToClient, rangeFor } from './conditional.ts';
import type { Exchange } from './exchange.ts';
import { type Page, pageOf } from './pagination.ts';
import type { Upstreams } from './request.ts';

export interface Pulls {
  readonly blobs: Blobs;
  readonly manifests: Manifests;
  readonly tags: Tags;
  readonly tagLists: TagLists;
  readonly referrers: Referrers;
  readonly upstreams: Upstreams;
  /** How bodies of blobs are sent. */
  readonly pump: Pump;
  /** All repositories of which something is here, in lexical order of upstream and name. */
  repositories(): Promise<Repository[]>;
}

export async function answerManifest(
  pulls: Pulls,
  exchange: Exchange,
  repository: Repository,
  reference: Reference,
): Promise<void> {
  exchange.outcome = 'miss';
  const { manifest, outcome, stale } =
    reference.tag === undefined
      ? await pulls.manifests.pull(repository, reference.digest)
      : await pulls.tags.pull(repository, reference.tag);
  exchange.outcome = outcome;
  const { digest, mediaType, bytes } = manifest;
  if (!accepts(exchange.header('accept'), mediaType)) {
    const what = imageName(repository, reference);
    throw new RegistryError(
      'MANIFEST_UNKNOWN',
      `${what} is of type ${mediaType}, which the Accept header does not allow`,
    );
  }
  const headers = { ...exchange.headers(stale), ...contentHeaders(digest, mediaType) };
  if (isKnownToClient(exchange.header('if-none-match'), digest)) send(exchange.outgoing, 304, headers);
  else send(exchange.outgoing, 200, headers, bytes);
}

export async function answerBlob(
  pulls: Pulls,
  exchange: Exchange,
  repository: Repository,
  digest: Digest,
): Promise<void> {
  exchange.outcome = 'miss';
  const content = { ...contentHeaders(digest, 'application/octet-stream'), 'accept-ranges': 'bytes' };
  const known = isKnownToClient(exchange.header('if-none-match'), digest);
  if (exchange.isHead || known) {
    const { sizeBytes, outcome } = await pulls.blobs.stat(repository, digest);
    exchange.outcome = outcome;
    const headers = { ...exchange.headers(), ...content };
    if (known) send(exchange.outgoing, 304, headers);
    else send(exchange.outgoing, 200, { ...headers, 'content-length': sizeBytes });
    return;
  }
  const { source, outcome } = await pulls.blobs.pull(repository, digest);
  exchange.outcome = outcome;
  const range = rangeFor(exchange.header('range'), exchange.header('if-range'), digest);
  const spans = parseRange(range, source.sizeBytes);
  if (spans?.length === 0) {
    source.close();
    exchange.outgoing.setHeader('content-range', `bytes */${source.sizeBytes}`);
    const message = `no byte of the range ${range} is in the ${source.sizeBytes} bytes of ${digest}`;
    throw new RegistryError('RANGE_INVALID', message);
  }
  await sendSource(exchange.outgoing, { ...exchange.headers(), ...content }, source, spans, pulls.pump);
}

export async function answerTags(
  pulls: Pulls,
  exchange: Exchange,
  repository: Repository,
  query: URLSearchParams,
): Promise<void> {
  // Checked first: a bad page number needs no upstream.
  const page = pageOf(query);
  exchange.outcome = 'miss';
  const { tags, outcome, stale } = await pulls.tagLists.pull(repository);
  exchange.outcome = outcome;
  sendPage(exchange, query, page(tags), stale, found => ({ name: repository.name, tags: found }));
}

/** Distribution spec 1.1, "Listing Referrers": never 404, and all on one page. */
export async function answerReferrers(
  pulls: Pulls,
  exchange: Exchange,
  repository: Repository,
  subject: Digest,
  query: URLSearchParams,
): Promise<void> {
  exchange.outcome = 'miss';
  const { descriptors, outcome, stale } = await pulls.referrers.pull(repository, subject);
  exchange.outcome = outcome;
  const type = query.get('artifactType');
  const wanted = type === null ? descriptors : descriptors.filter(entry => artifactTypeOf(entry) === type);
  const headers: Headers = { ...exchange.headers(stale), 'content-type': INDEX_TYPE };
  if (type !== null) headers['oci-filters-applied'] = 'artifactType';
  send(exchange.outgoing, 200, headers, indexOf(wanted));
}

/** The repositories that this cache knows, those of other upstreams than the default one by their whole names. */
export async function answerCatalog(pulls: Pulls, exchange: Exchange, query: URLSearchParams): Promise<void> {
  const page = pageOf(query);
  exchange.outcome = 'hit';
  const namespace = exchange.parsed?.namespace;
  const repositories = await pulls.repositories();
  const names = repositories
    .filter(({ upstream }) => namespace === undefined || upstream === namespace)
    .map(({ upstream, name }) =>
      namespace !== undefined || upstream === pulls.upstreams.default ? name : `${upstream}/${name}`,
    )
    .sort();
  sendPage(exchange, query, page(names), undefined, found => ({ repositories: found }));
}

function sendPage(
  exchange: Exchange,
  query: URLSearchParams,
  { found, next }: Page,
  stale: Staleness | undefined,
  body: (found: readonly string[]) => object,
): void {
  const headers: Headers = { ...exchange.headers(stale), 'content-type': 'application/json' };
  if (next !== undefined) {
    const path = exchange.incoming.url?.split('?', 1)[0];
    const namespace = query.get('ns');
    if (namespace !== null) next.set('ns', namespace);
    headers.link = `<${path}?${next}>; rel="next"`;
  }
  send(exchange.outgoing, 200, headers, `${JSON.stringify(body(found))}\n`);
}

function contentHeaders(digest: Digest, type: string): Headers {
  return { 'content-type': type, 'docker-content-digest': digest, etag: entityTag(digest) };
}
