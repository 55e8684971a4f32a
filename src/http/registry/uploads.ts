// Uploads of blobs: started or done at once, continued, finished, cancelled (distribution spec 1.1, "Pushing Blobs").
// A blob that another repository holds is mounted where that is possible.
import { ALGORITHMS, type Algorithm, algorithmOf } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { parseChunkRange } from '../../oci/range.ts';
import type { Upload } from '../../push/upload.ts';
import { receive } from '../body/receive.ts';
import type { Exchange } from './exchange.ts';
import { digestIn, repositoryNamed } from './request.ts';
import type { Handler } from './services.ts';

/** Mounts a blob, receives it whole in this request, or starts an upload. */
export const postUploads: Handler<'uploads'> = async ({ uploads, mounts, upstreams }, exchange, request) => {
  const { query, namespace } = request;
  const { repository } = request.resource;
  const mount = query.get('mount');
  if (mount !== null) {
    const digest = digestIn(mount, 'mount');
    const from = query.get('from');
    const source = from === null ? undefined : repositoryNamed(from, namespace, upstreams);
    const isSameUpstream = source === undefined || source.upstream === repository.upstream;
    if (isSameUpstream && (await mounts.mount(repository, digest, source))) {
      return exchange.sendCreated('blobs', digest);
    }
  }
  const whole = query.get('digest');
  if (whole === null)
    return sendProgress(exchange, 202, await uploads.start(repository, algorithmIn(query), exchange.client));
  const digest = digestIn(whole, 'digest');
  const upload = await uploads.start(repository, algorithmOf(digest), exchange.client);
  upload.expect(digest);
  try {
    await upload.append(undefined, (onChunk, stop) => receive(exchange.incoming, onChunk, stop));
    exchange.outcome = await upload.finish(digest);
  } finally {
    // The client was told no location to continue at.
    if (!upload.isOver) await upload.cancel();
  }
  exchange.sendCreated('blobs', digest);
};

export const getUpload: Handler<'upload'> = async ({ uploads }, exchange, { resource: { repository, id } }) => {
  sendProgress(exchange, 204, await uploads.find(repository, id, exchange.client));
};

/** Appends bytes, at the position in Content-Range if there is one. */
export const patchUpload: Handler<'upload'> = async ({ uploads }, exchange, { resource: { repository, id } }) => {
  const upload = await uploads.find(repository, id, exchange.client);
  await append(exchange, upload);
  sendProgress(exchange, 202, upload);
};

/** Appends the last bytes, if any, and finishes with the digest of them all. */
export const putUpload: Handler<'upload'> = async ({ uploads }, exchange, { resource: { repository, id }, query }) => {
  const digest = digestIn(query.get('digest') ?? '', 'digest');
  const upload = await uploads.find(repository, id, exchange.client);
  if (exchange.hasBody) {
    upload.expect(digest);
    await append(exchange, upload);
  }
  exchange.outcome = await upload.finish(digest);
  exchange.sendCreated('blobs', digest);
};

export const deleteUpload: Handler<'upload'> = async ({ uploads }, exchange, { resource: { repository, id } }) => {
  await (await uploads.find(repository, id, exchange.client)).cancel();
  exchange.send(204);
};

async function append(exchange: Exchange, upload: Upload): Promise<void> {
  try {
    const header = exchange.header('content-range');
    const span = header === undefined ? undefined : parseChunkRange(header);
    if (header !== undefined && span === undefined) {
      const shown = JSON.stringify(header.slice(0, 100));
      throw new RegistryError('RANGE_INVALID', `Content-Range ${shown} is not <first>-<last>`);
    }
    const sizeBytes = span && span.end - span.start;
    const length = exchange.header('content-length');
    if (sizeBytes !== undefined && length !== undefined && Number(length) !== sizeBytes) throw wrongLength(sizeBytes);
    let receivedBytes = 0;
    await upload.append(span?.start, (onChunk, stop) => {
      const counted = (chunk: Buffer) => {
        receivedBytes += chunk.length;
        if (sizeBytes !== undefined && receivedBytes > sizeBytes) throw wrongLength(sizeBytes);
        return onChunk(chunk);
      };
      return receive(exchange.incoming, counted, stop);
    });
    if (sizeBytes !== undefined && receivedBytes < sizeBytes) throw wrongLength(sizeBytes);
  } catch (error) {
    if (!(error instanceof RegistryError) || error.code !== 'RANGE_INVALID') throw error;
    // Tells the client where to continue.
    const headers = progressHeaders(exchange, upload);
    throw new RegistryError('RANGE_INVALID', error.message, { headers, cause: error });
  }
}

function wrongLength(sizeBytes: number): RegistryError {
  return new RegistryError('SIZE_INVALID', `Content-Range names ${sizeBytes} bytes, but the body has another length`);
}

function sendProgress(exchange: Exchange, status: 202 | 204, upload: Upload): void {
  const length = status === 202 ? { 'content-length': 0 } : undefined;
  exchange.send(status, { ...progressHeaders(exchange, upload), ...length });
}

function progressHeaders(exchange: Exchange, upload: Upload): Record<string, string> {
  return {
    location: exchange.location(`blobs/uploads/${upload.id}`),
    range: `0-${Math.max(0, upload.offset - 1)}`,
    'docker-upload-uuid': upload.id,
  };
}

function algorithmIn(query: URLSearchParams): Algorithm {
  const named = query.get('digest-algorithm') ?? 'sha256';
  const algorithm = ALGORITHMS.find(known => known === named);
  if (algorithm !== undefined) return algorithm;
  const message = `digest-algorithm=${JSON.stringify(named.slice(0, 50))} is not one of ${ALGORITHMS.join(', ')}`;
  throw new RegistryError('DIGEST_INVALID', message);
}
