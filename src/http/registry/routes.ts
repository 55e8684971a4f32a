// The route table: what can be done to each kind of resource, which right it takes, and the handler. Dispatch, the
// Allow header and `push: off` all follow from it, so a new route is one line here.
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono } from 'hono';
import { RegistryError } from '../../oci/errors.ts';
import { deleteBlob, getBlob } from './blobs.ts';
import { getCatalog } from './catalog.ts';
import type { Bindings, Exchange } from './exchange.ts';
import { deleteManifest, getManifest, putManifest } from './manifests.ts';
import { getReferrers } from './referrers.ts';
import { type Kind, type ParsedRequest, parseRequest } from './request.ts';
import type { Handler, Services } from './services.ts';
import { getTags } from './tags.ts';
import { deleteUpload, getUpload, patchUpload, postUploads, putUpload } from './uploads.ts';

export type Action = 'pull' | 'push' | 'delete';

interface Route<K extends Kind> {
  readonly action: Action;
  readonly handle: Handler<K>;
}

/** Distribution spec 1.1, "Determining Support". */
const getBase: Handler<'base'> = (_services, exchange) => {
  exchange.outcome = 'hit';
  exchange.send(200, { 'content-type': 'application/json' }, '{}\n');
};

/** By kind and method. HEAD is handled as GET; Node leaves out the body. */
export const ROUTES: { readonly [K in Kind]: Readonly<Record<string, Route<K>>> } = {
  base: { GET: { action: 'pull', handle: getBase } },
  catalog: { GET: { action: 'pull', handle: getCatalog } },
  manifest: {
    GET: { action: 'pull', handle: getManifest },
    PUT: { action: 'push', handle: putManifest },
    DELETE: { action: 'delete', handle: deleteManifest },
  },
  blob: {
    GET: { action: 'pull', handle: getBlob },
    DELETE: { action: 'delete', handle: deleteBlob },
  },
  tags: { GET: { action: 'pull', handle: getTags } },
  referrers: { GET: { action: 'pull', handle: getReferrers } },
  uploads: { POST: { action: 'push', handle: postUploads } },
  upload: {
    GET: { action: 'push', handle: getUpload },
    PATCH: { action: 'push', handle: patchUpload },
    PUT: { action: 'push', handle: putUpload },
    DELETE: { action: 'push', handle: deleteUpload },
  },
};

/**
 * The distribution API, to be mounted at /v2. It is one Hono handler that dispatches by the table: a pattern with names
 * for each route takes up to a third of the rate of hot manifests, and an async middleware as much again.
 */
export function createRegistry(services: Services): Hono<{ Bindings: Bindings }> {
  return new Hono<{ Bindings: Bindings }>().all('/*', ({ env: { exchange } }) => {
    handle(services, exchange)
      .catch(error => exchange.fail(services.explain(error)))
      .catch(error => {
        services.log.error({ err: error }, 'an error response could not be sent');
        exchange.outgoing.destroy();
      });
    return RESPONSE_ALREADY_SENT;
  });
}

async function handle(services: Services, exchange: Exchange): Promise<void> {
  exchange.parsed = parse(services, exchange);
  exchange.kind = exchange.parsed.resource.kind;
  return dispatch(services, exchange, exchange.parsed);
}

function dispatch<K extends Kind>(
  services: Services,
  exchange: Exchange,
  request: ParsedRequest<K>,
): Promise<void> | void {
  const { method = '' } = exchange.incoming;
  const routes: Readonly<Record<string, Route<K>>> = ROUTES[request.resource.kind];
  const route = routes[exchange.isHead ? 'GET' : method];
  if (route === undefined) {
    const message = `the OCI distribution API does not define ${method} for this path`;
    throw new RegistryError('UNSUPPORTED', message, { headers: { allow: allowOf(routes) } });
  }
  if (services.pushesOff && route.action !== 'pull') {
    const message = 'this cache accepts no pushes and deletes (push: off in its config); use the upstream directly';
    throw new RegistryError('DENIED', message);
  }
  return route.handle(services, exchange, request);
}

function allowOf(routes: Readonly<Record<string, unknown>>): string {
  return Object.keys(routes)
    .flatMap(method => (method === 'GET' ? ['GET', 'HEAD'] : [method]))
    .join(', ');
}

function parse(services: Services, exchange: Exchange): ParsedRequest {
  try {
    return parseRequest(exchange.incoming.url ?? '', services.upstreams);
  } catch (error) {
    // For reads, an invalid tag is simply not found.
    const isRead = exchange.incoming.method === 'GET' || exchange.isHead;
    if (!isRead || !(error instanceof RegistryError) || error.code !== 'TAG_INVALID') throw error;
    throw new RegistryError('MANIFEST_UNKNOWN', error.message);
  }
}
