// Blobs: pull, whole or in ranges, and delete (distribution spec 1.1, /v2/<name>/blobs/<digest>).
import { RegistryError } from '../../oci/errors.ts';
import { parseRange } from '../../oci/range.ts';
import type { Blobs } from '../../pull/blobs.ts';
import type { Deletes } from '../../push/delete.ts';
import { type BodySending, sendSource } from '../body/send.ts';
import { contentHeaders, isKnownToClient, rangeFor } from './conditional.ts';
import type { Exchange } from './exchange.ts';
import type { ParsedRequest } from './request.ts';

export interface BlobServices extends BodySending {
  readonly blobs: Blobs;
  readonly deletes: Deletes;
}

export async function getBlob(
  services: BlobServices,
  exchange: Exchange,
  { resource: { repository, digest } }: ParsedRequest<'blob'>,
): Promise<void> {
  exchange.outcome = 'miss';
  const content = contentHeaders(digest, 'application/octet-stream');
  content['accept-ranges'] = 'bytes';
  const isKnown = isKnownToClient(exchange.header('if-none-match'), digest);
  if (exchange.isHead || isKnown) {
    const { sizeBytes, outcome } = await services.blobs.stat(repository, digest);
    exchange.outcome = outcome;
    if (isKnown) exchange.send(304, content);
    else exchange.send(200, { ...content, 'content-length': sizeBytes });
    return;
  }
  const { source, outcome } = await services.blobs.pull(repository, digest);
  exchange.outcome = outcome;
  const range = rangeFor(exchange.header('range'), exchange.header('if-range'), digest);
  const spans = parseRange(range, source.sizeBytes);
  if (spans?.length === 0) {
    source.close();
    const message = `no byte of the range ${range} is in the ${source.sizeBytes} bytes of ${digest}`;
    throw new RegistryError('RANGE_INVALID', message, {
      headers: { 'content-range': `bytes */${source.sizeBytes}` },
    });
  }
  const headers = Object.assign(exchange.headers(), content);
  await sendSource(exchange.outgoing, headers, source, spans, services);
}

export async function deleteBlob(
  { deletes }: BlobServices,
  exchange: Exchange,
  { resource: { repository, digest } }: ParsedRequest<'blob'>,
): Promise<void> {
  await deletes.blob(repository, digest);
  exchange.send(202);
}
