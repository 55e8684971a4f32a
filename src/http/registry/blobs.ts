// Blobs: pull, whole or in ranges, and delete (distribution spec 1.1, /v2/<name>/blobs/<digest>).

import type { Span } from '../../base/spans.ts';
import { RegistryError } from '../../oci/errors.ts';
import { parseRange } from '../../oci/range.ts';
import { isNotFound } from '../../upstream/upstream.ts';
import { sendSource } from '../body/send.ts';
import { contentHeaders, isKnownToClient, rangeFor } from './conditional.ts';
import type { Handler } from './services.ts';

export const getBlob: Handler<'blob'> = async (services, exchange, { resource: { repository, digest } }) => {
  exchange.outcome = 'miss';
  const content = contentHeaders(digest, 'application/octet-stream');
  content['accept-ranges'] = 'bytes';
  const isKnown = isKnownToClient(exchange.header('if-none-match'), digest);
  if (exchange.isHead || isKnown) {
    const found = await services.blobs.stat(repository, digest).catch(error => {
      // Some upstreams answer 404 to HEAD alone, which says nothing of a GET.
      if (exchange.isHead || !isNotFound(error)) throw error;
      return undefined;
    });
    if (found !== undefined) {
      exchange.outcome = found.outcome;
      if (isKnown) exchange.send(304, content);
      else exchange.send(200, { ...content, 'content-length': found.sizeBytes });
      return;
    }
  }
  const { source, outcome, ahead } = await services.blobs.pull(repository, digest, exchange);
  exchange.outcome = outcome;
  const range = rangeFor(exchange.header('range'), exchange.header('if-range'), digest);
  const asked = parseRange(range, source.sizeBytes);
  // What passes through comes once, forwards; a range may be ignored (RFC 9110, section 14.2).
  const spans = outcome === 'bypass' && asked !== undefined && !areInOrder(asked) ? undefined : asked;
  if (spans?.length === 0) {
    source.close();
    const message = `no byte of the range ${range} is in the ${source.sizeBytes} bytes of ${digest}`;
    throw new RegistryError('RANGE_INVALID', message, { headers: { 'content-range': `bytes */${source.sizeBytes}` } });
  }
  const elsewhere = spans && (await ahead?.(spans));
  if (elsewhere !== undefined) exchange.outcome = 'bypass';
  const headers = Object.assign(exchange.headers(), content);
  await sendSource(exchange, headers, elsewhere ?? source, spans, services);
};

function areInOrder(spans: readonly Span[]): boolean {
  return spans.every(({ start }, i) => start >= (spans[i - 1]?.end ?? 0));
}

export const deleteBlob: Handler<'blob'> = async ({ deletes }, exchange, { resource: { repository, digest } }) => {
  await deletes.blob(repository, digest);
  exchange.send(202);
};
