// The routes. Every answer under /v2/ goes out through send.ts, with an X-Cache outcome, and leaves one log line.
import type { ServerResponse } from 'node:http';
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono } from 'hono';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError, reasonOf } from '../oci/errors.ts';
import { accepts } from '../oci/manifest.ts';
import { parseRange } from '../oci/range.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import type { Blobs } from '../pull/blob.ts';
import type { Manifests } from '../pull/manifest.ts';
import type { Outcome, Staleness } from '../pull/pulled.ts';
import type { Tags } from '../pull/tag.ts';
import type { TagLists } from '../pull/tag-list.ts';
import { entityTag, isKnownToClient, rangeFor } from './conditional.ts';
import { errorAnswer, printable } from './errors.ts';
import { type Asked, type ParsedRequest, parseRequest, type Upstreams } from './request.ts';
import { type Headers, send, sendSource } from './send.ts';
import { pageOf } from './tag-page.ts';

export interface Services {
  readonly upstreams: Upstreams;
  readonly blobs: Blobs;
  readonly manifests: Manifests;
  readonly tags: Tags;
  readonly tagLists: TagLists;
  readonly clock: Clock;
  readonly log: Log;
  /** Rejects with the reason why the server cannot do its work now. */
  ready(): Promise<void>;
}

/** One request on its way to its answer. */
interface Exchange {
  readonly outgoing: ServerResponse;
  readonly isHead: boolean;
  readonly parsed: ParsedRequest;
  header(name: string): string | undefined;
}

const BASE_HEADERS: Headers = { 'docker-distribution-api-version': 'registry/2.0' };

export function createApp(services: Services): Hono<{ Bindings: HttpBindings }> {
  const app = new Hono<{ Bindings: HttpBindings }>();

  app.get('/healthz', c => c.text('ok\n'));
  app.get('/readyz', async c => {
    try {
      await services.ready();
      return c.text('ready\n');
    } catch (error) {
      return c.text(`not ready: ${reasonOf(error)}\n`, 503);
    }
  });

  const registry = async (env: HttpBindings) => {
    const { incoming, outgoing } = env;
    const startedMs = services.clock.now();
    const about: About = { image: undefined, outcome: 'miss', error: undefined };
    outgoing.once('close', () => logRequest(services, env, about, startedMs));
    try {
      const parsed = parseRequest(incoming.url ?? '', services.upstreams);
      about.image = imageOf(parsed.asked);
      const header = (name: string) => incoming.headers[name]?.toString();
      const exchange = { outgoing, isHead: incoming.method === 'HEAD', parsed, header };
      if (incoming.method !== 'GET' && !exchange.isHead) throw unsupported(incoming.method ?? '');
      await answer(services, exchange, about);
    } catch (error) {
      about.error = error;
      if (!outgoing.headersSent) sendError(outgoing, error, about.outcome);
    }
    return RESPONSE_ALREADY_SENT;
  };
  app.all('/v2', c => registry(c.env));
  app.all('/v2/*', c => registry(c.env));

  app.notFound(c => c.text('not found; the registry is under /v2/\n', 404));
  return app;
}

/** What the log line will say. */
interface About {
  image: string | undefined;
  outcome: Outcome;
  error: unknown;
}

async function answer(services: Services, exchange: Exchange, about: About): Promise<void> {
  const { asked } = exchange.parsed;
  switch (asked.kind) {
    case 'base':
      about.outcome = 'hit';
      return send(
        exchange.outgoing,
        200,
        { ...headersOf(exchange, about.outcome), 'content-type': 'application/json' },
        '{}\n',
      );
    case 'manifest':
      return answerManifest(services, exchange, about, asked.repository, asked.reference);
    case 'blob':
      return answerBlob(services, exchange, about, asked.repository, asked.digest);
    case 'tags':
      return answerTags(services, exchange, about, asked.repository);
    case 'referrers':
      // 404 makes clients look for the fallback tag, which is how referrers are kept on ghcr.io.
      throw new RegistryError(
        'MANIFEST_UNKNOWN',
        'referrers are not served; look for them under the fallback tag',
      );
    case 'catalog':
    case 'upload':
      throw unsupported(exchange.outgoing.req.method ?? '');
  }
}

async function answerManifest(
  services: Services,
  exchange: Exchange,
  about: About,
  repository: Repository,
  reference: Reference,
): Promise<void> {
  const { outgoing } = exchange;
  const { manifest, outcome, stale } =
    reference.tag === undefined
      ? await services.manifests.pull(repository, reference.digest)
      : await services.tags.pull(repository, reference.tag);
  about.outcome = outcome;
  const { digest, mediaType, bytes } = manifest;
  if (!accepts(exchange.header('accept'), mediaType)) {
    const what = imageName(repository, reference);
    throw new RegistryError(
      'MANIFEST_UNKNOWN',
      `${what} is of type ${mediaType}, which the Accept header does not allow`,
    );
  }
  const headers = { ...headersOf(exchange, outcome, stale), ...contentHeaders(digest, mediaType) };
  if (isKnownToClient(exchange.header('if-none-match'), digest)) return send(outgoing, 304, headers);
  send(outgoing, 200, headers, bytes);
}

async function answerBlob(
  services: Services,
  exchange: Exchange,
  about: About,
  repository: Repository,
  digest: Digest,
): Promise<void> {
  const { outgoing, header } = exchange;
  const known = isKnownToClient(header('if-none-match'), digest);
  const ours = contentHeaders(digest, 'application/octet-stream');
  if (exchange.isHead || known) {
    const { sizeBytes, outcome } = await services.blobs.stat(repository, digest);
    about.outcome = outcome;
    const headers = { ...headersOf(exchange, outcome), ...ours, 'accept-ranges': 'bytes' };
    return known
      ? send(outgoing, 304, headers)
      : send(outgoing, 200, { ...headers, 'content-length': sizeBytes });
  }
  const { source, outcome } = await services.blobs.pull(repository, digest);
  about.outcome = outcome;
  const headers = { ...headersOf(exchange, outcome), ...ours, 'accept-ranges': 'bytes' };
  const spans = parseRange(rangeFor(header('range'), header('if-range'), digest), source.sizeBytes);
  if (spans?.length === 0) {
    const { sizeBytes } = source;
    source.close();
    outgoing.setHeader('content-range', `bytes */${sizeBytes}`);
    throw new RegistryError(
      'RANGE_INVALID',
      `no byte of the range ${header('range')} is in the ${sizeBytes} bytes of ${digest}`,
    );
  }
  await sendSource(outgoing, headers, source, spans);
}

async function answerTags(
  services: Services,
  exchange: Exchange,
  about: About,
  repository: Repository,
): Promise<void> {
  const { query } = exchange.parsed;
  // Checked first: a bad page number needs no upstream.
  const page = pageOf(query);
  const { tags, outcome, stale } = await services.tagLists.pull(repository);
  about.outcome = outcome;
  const { found, next } = page(tags);
  const headers: Headers = { ...headersOf(exchange, outcome, stale), 'content-type': 'application/json' };
  if (next !== undefined) {
    const path = exchange.outgoing.req.url?.split('?', 1)[0];
    if (exchange.parsed.namespace !== undefined) next.set('ns', exchange.parsed.namespace);
    headers.link = `<${path}?${next}>; rel="next"`;
  }
  send(exchange.outgoing, 200, headers, `${JSON.stringify({ name: repository.name, tags: found })}\n`);
}

function headersOf(exchange: Exchange, outcome: Outcome, stale?: Staleness): Headers {
  const headers: Headers = { ...BASE_HEADERS, 'x-cache': outcome };
  if (exchange.parsed.namespace !== undefined) headers['oci-namespace'] = exchange.parsed.namespace;
  if (stale !== undefined) {
    headers.age = Math.max(0, Math.floor(stale.ageMs / 1000));
    headers.warning = `299 - "${printable(stale.why).replace(/["\\]/g, "'")}"`;
  }
  return headers;
}

function contentHeaders(digest: Digest, type: string): Headers {
  return { 'content-type': type, 'docker-content-digest': digest, etag: entityTag(digest) };
}

function sendError(outgoing: ServerResponse, error: unknown, outcome: Outcome): void {
  const { status, headers, body, phrase } = errorAnswer(error);
  if (phrase !== undefined) outgoing.statusMessage = phrase;
  const all: Headers = {
    ...BASE_HEADERS,
    ...headers,
    'x-cache': outcome,
    'content-type': 'application/json',
  };
  if (status === 405) all.allow = 'GET, HEAD';
  send(outgoing, status, all, body);
}

function unsupported(method: string): RegistryError {
  return new RegistryError(
    'UNSUPPORTED',
    `${method} of this is not supported: this cache serves pulls only; push to the upstream itself`,
  );
}

function imageOf(asked: Asked): string | undefined {
  switch (asked.kind) {
    case 'manifest':
      return imageName(asked.repository, asked.reference);
    case 'blob':
    case 'referrers':
      return imageName(asked.repository, { digest: asked.digest });
    case 'tags':
    case 'upload':
      return imageName(asked.repository);
    default:
      return undefined;
  }
}

function logRequest(services: Services, env: HttpBindings, about: About, startedMs: number): void {
  const { incoming, outgoing } = env;
  const { error } = about;
  const fields = {
    method: incoming.method,
    path: about.image === undefined ? incoming.url?.slice(0, 200) : undefined,
    image: about.image,
    status: outgoing.statusCode,
    outcome: about.outcome,
    ms: services.clock.now() - startedMs,
    client: incoming.socket.remoteAddress,
    reason: error === undefined ? undefined : reasonOf(error),
  };
  if (error !== undefined && !(error instanceof RegistryError)) {
    services.log.error({ ...fields, err: error }, 'request failed by an unexpected error');
  } else if (error !== undefined && outgoing.statusCode < 400) services.log.warn(fields, 'answer cut short');
  else if (!outgoing.writableFinished) services.log.info(fields, 'client left');
  else services.log.info(fields, 'request');
}
