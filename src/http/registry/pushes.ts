// Answers to pushes and deletes: uploads by their steps, manifests, and what is to go.
import { ALGORITHMS, type Algorithm, type Digest, parseDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { MANIFEST_LIMIT_BYTES } from '../../oci/manifest.ts';
import { parseChunkRange } from '../../oci/range.ts';
import { isTag, type Reference, type Repository } from '../../oci/reference.ts';
import type { Deletes } from '../../push/delete.ts';
import type { ManifestPushes } from '../../push/manifest.ts';
import type { Mounts } from '../../push/mount.ts';
import type { Upload } from '../../push/upload.ts';
import type { Uploads } from '../../push/uploads.ts';
import { receive, receiveAll } from '../body/receive.ts';
import { type Headers, send } from '../body/send.ts';
import type { Exchange } from './exchange.ts';
import { repositoryNamed, type Upstreams } from './request.ts';

export interface Pushes {
  /** Set by the configuration: nothing is pushed or deleted through this cache. */
  readonly pushesOff: boolean;
  readonly uploads: Uploads;
  readonly mounts: Mounts;
  readonly manifestPushes: ManifestPushes;
  readonly deletes: Deletes;
  readonly upstreams: Upstreams;
}

/** How many tags one manifest may be pushed under at once. */
const TAGS_LIMIT = 100;

/** POST …/blobs/uploads/: mount, or the whole blob in one request, or the beginning of an upload. */
export async function beginUpload(
  pushes: Pushes,
  exchange: Exchange,
  repository: Repository,
  query: URLSearchParams,
): Promise<void> {
  assertOn(pushes);
  const mount = query.get('mount');
  if (mount !== null) {
    const digest = digestOf(mount, 'mount');
    const from = query.get('from');
    const source =
      from === null ? undefined : repositoryNamed(from, exchange.parsed?.namespace, pushes.upstreams);
    const isNear = source === undefined || source.upstream === repository.upstream;
    if (isNear && (await pushes.mounts.mount(repository, digest, source))) {
      return sendCreated(exchange, 'blobs', digest);
    }
  }
  const wanted = query.get('digest');
  const digest = wanted === null ? undefined : digestOf(wanted, 'digest');
  const upload = await pushes.uploads.start(repository, algorithmIn(query, digest));
  if (digest === undefined) return sendUpload(exchange, 202, upload);
  upload.expect(digest);
  try {
    await upload.append(undefined, (take, stop) => receive(exchange.incoming, take, stop));
    exchange.outcome = await upload.finish(digest);
  } finally {
    // Nobody knows of it who could go on.
    if (!upload.isOver) await upload.cancel();
  }
  sendCreated(exchange, 'blobs', digest);
}

/** PATCH: more bytes, with their place as Content-Range or wherever the upload stands. */
export async function continueUpload(
  pushes: Pushes,
  exchange: Exchange,
  repository: Repository,
  id: string,
): Promise<void> {
  assertOn(pushes);
  const upload = await pushes.uploads.find(repository, id);
  await append(exchange, upload);
  sendUpload(exchange, 202, upload);
}

/** PUT: the last bytes, if any, and what all of them hash to. */
export async function finishUpload(
  pushes: Pushes,
  exchange: Exchange,
  repository: Repository,
  id: string,
  query: URLSearchParams,
): Promise<void> {
  assertOn(pushes);
  const digest = digestOf(query.get('digest') ?? '', 'digest');
  const upload = await pushes.uploads.find(repository, id);
  if (hasBody(exchange)) {
    upload.expect(digest);
    await append(exchange, upload);
  }
  exchange.outcome = await upload.finish(digest);
  sendCreated(exchange, 'blobs', digest);
}

export async function answerUploadStatus(
  pushes: Pushes,
  exchange: Exchange,
  repository: Repository,
  id: string,
): Promise<void> {
  sendUpload(exchange, 204, await pushes.uploads.find(repository, id));
}

export async function cancelUpload(
  pushes: Pushes,
  exchange: Exchange,
  repository: Repository,
  id: string,
): Promise<void> {
  await (await pushes.uploads.find(repository, id)).cancel();
  send(exchange.outgoing, 204, exchange.headers());
}

export async function putManifest(
  pushes: Pushes,
  exchange: Exchange,
  repository: Repository,
  reference: Reference,
  query: URLSearchParams,
): Promise<void> {
  assertOn(pushes);
  const tags = query.getAll('tag');
  if (tags.length > TAGS_LIMIT || !tags.every(isTag)) {
    throw new RegistryError(
      'TAG_INVALID',
      `the tags in the query are not all tags, or more than ${TAGS_LIMIT}`,
    );
  }
  const bytes = await receiveAll(exchange.incoming, MANIFEST_LIMIT_BYTES);
  const { digest, subject, outcome, warning } = await pushes.manifestPushes.push(
    repository,
    reference,
    tags,
    exchange.header('content-type'),
    bytes,
  );
  exchange.outcome = outcome;
  const further: Headers = {};
  if (subject !== undefined) further['oci-subject'] = subject;
  if (tags.length > 0) further['oci-tag'] = tags.join(', ');
  if (warning !== undefined) further.warning = `299 - "${warning}"`;
  sendCreated(exchange, 'manifests', digest, further);
}

export async function deleteManifest(
  pushes: Pushes,
  exchange: Exchange,
  repository: Repository,
  reference: Reference,
): Promise<void> {
  assertOn(pushes);
  if (reference.tag === undefined) await pushes.deletes.manifest(repository, reference.digest);
  else await pushes.deletes.tag(repository, reference.tag);
  send(exchange.outgoing, 202, exchange.headers());
}

export async function deleteBlob(
  pushes: Pushes,
  exchange: Exchange,
  repository: Repository,
  digest: Digest,
): Promise<void> {
  assertOn(pushes);
  await pushes.deletes.blob(repository, digest);
  send(exchange.outgoing, 202, exchange.headers());
}

function assertOn({ pushesOff }: Pushes): void {
  if (!pushesOff) return;
  throw new RegistryError(
    'DENIED',
    'this cache takes no pushes and deletes (push: off in its config); do it at the upstream itself',
  );
}

async function append(exchange: Exchange, upload: Upload): Promise<void> {
  const { incoming, outgoing } = exchange;
  const header = exchange.header('content-range');
  const span = header === undefined ? undefined : parseChunkRange(header);
  const length = exchange.header('content-length');
  try {
    if (header !== undefined && span === undefined) {
      throw new RegistryError(
        'RANGE_INVALID',
        `Content-Range ${JSON.stringify(header.slice(0, 100))} is no <first>-<last>`,
      );
    }
    if (span !== undefined && length !== undefined && Number(length) !== span.end - span.start) {
      throw wrongLength(span.end - span.start);
    }
    const sizeBytes = span && span.end - span.start;
    let cameBytes = 0;
    await upload.append(span?.start, (take, stop) => {
      const counted = (chunk: Buffer) => {
        cameBytes += chunk.length;
        if (sizeBytes !== undefined && cameBytes > sizeBytes) throw wrongLength(sizeBytes);
        return take(chunk);
      };
      return receive(incoming, counted, stop);
    });
    if (sizeBytes !== undefined && cameBytes < sizeBytes) throw wrongLength(sizeBytes);
  } catch (error) {
    // So that the client sees where to go on.
    if (error instanceof RegistryError && error.code === 'RANGE_INVALID') {
      for (const [name, value] of Object.entries(uploadHeaders(exchange, upload)))
        outgoing.setHeader(name, value);
    }
    throw error;
  }
}

function wrongLength(sizeBytes: number): RegistryError {
  return new RegistryError('SIZE_INVALID', `Content-Range names ${sizeBytes} bytes, and others came`);
}

function hasBody(exchange: Exchange): boolean {
  const length = exchange.header('content-length');
  return exchange.header('transfer-encoding') !== undefined || (length !== undefined && Number(length) > 0);
}

function sendUpload(exchange: Exchange, status: number, upload: Upload): void {
  send(exchange.outgoing, status, {
    ...exchange.headers(),
    ...uploadHeaders(exchange, upload),
    ...(status === 202 && { 'content-length': 0 }),
  });
}

/** Where the upload is and stands. The location is relative: what a proxy in front is called is not known here. */
function uploadHeaders(exchange: Exchange, upload: Upload): Headers {
  return {
    location: locationOf(exchange, `blobs/uploads/${upload.id}`),
    range: `0-${Math.max(0, upload.offset - 1)}`,
    'docker-upload-uuid': upload.id,
  };
}

function sendCreated(
  exchange: Exchange,
  kind: 'blobs' | 'manifests',
  digest: Digest,
  further: Headers = {},
): void {
  send(exchange.outgoing, 201, {
    ...exchange.headers(),
    location: locationOf(exchange, `${kind}/${digest}`),
    'docker-content-digest': digest,
    ...further,
    'content-length': 0,
  });
}

/** A path in the repository of the request, named and routed as the request was. */
function locationOf(exchange: Exchange, rest: string): string {
  const path = (exchange.incoming.url ?? '').split('?', 1)[0] ?? '';
  const repository = path.replace(/\/(?:blobs\/uploads(?:\/[^/]*)?|manifests\/[^/]*)$/, '');
  const namespace = exchange.parsed?.namespace;
  return `${repository}/${rest}${namespace === undefined ? '' : `?${new URLSearchParams({ ns: namespace })}`}`;
}

function digestOf(text: string, parameter: string): Digest {
  const digest = parseDigest(text);
  if (digest !== undefined) return digest;
  throw new RegistryError(
    'DIGEST_INVALID',
    `${parameter}=${JSON.stringify(text.slice(0, 200))} in the query is not a sha256 or sha512 digest`,
  );
}

function algorithmIn(query: URLSearchParams, digest: Digest | undefined): Algorithm {
  const named = digest?.slice(0, digest.indexOf(':')) ?? query.get('digest-algorithm') ?? 'sha256';
  const algorithm = ALGORITHMS.find(known => known === named);
  if (algorithm !== undefined) return algorithm;
  throw new RegistryError(
    'DIGEST_INVALID',
    `digest-algorithm=${JSON.stringify(named.slice(0, 50))} is not one of ${ALGORITHMS.join(', ')}`,
  );
}
