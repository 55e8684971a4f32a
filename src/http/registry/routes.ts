// The routes. Every request under /v2/ is an Exchange: parsed, answered or failed, and logged.
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono } from 'hono';
import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import { RegistryError, reasonOf } from '../../oci/errors.ts';
import { send } from '../body/send.ts';
import { Exchange } from './exchange.ts';
import {
  answerBlob,
  answerCatalog,
  answerManifest,
  answerReferrers,
  answerTags,
  type Pulls,
} from './pulls.ts';
import {
  answerUploadStatus,
  beginUpload,
  cancelUpload,
  continueUpload,
  deleteBlob,
  deleteManifest,
  finishUpload,
  type Pushes,
  putManifest,
} from './pushes.ts';
import { type Asked, type ParsedRequest, parseRequest, type Upstreams } from './request.ts';

export interface Services extends Pulls, Pushes {
  readonly upstreams: Upstreams;
  readonly clock: Clock;
  readonly log: Log;
  /** Rejects with the reason why the server cannot do its work now. */
  ready(): Promise<void>;
}

/** Whether the answer is being written by `send.ts`; what Hono makes of the request has no meaning then. */
export type Bindings = HttpBindings & { isTaken?: true };

export function createApp(services: Services): Hono<{ Bindings: Bindings }> {
  const app = new Hono<{ Bindings: Bindings }>();

  app.get('/healthz', c => c.text('ok\n'));
  app.get('/readyz', async c => {
    try {
      await services.ready();
      return c.text('ready\n');
    } catch (error) {
      return c.text(`not ready: ${reasonOf(error)}\n`, 503);
    }
  });

  const { clock, log } = services;
  const registry = ({ env }: { env: Bindings }) => {
    env.isTaken = true;
    const { incoming, outgoing } = env;
    const exchange = new Exchange(incoming, outgoing);
    const startedMs = clock.now();
    outgoing.on('close', () => exchange.log(log, clock.now() - startedMs));
    answer(services, exchange)
      .catch(error => exchange.fail(error))
      .catch(error => {
        log.error({ err: error }, 'a request could not even be refused');
        outgoing.destroy();
      });
    return RESPONSE_ALREADY_SENT;
  };
  app.all('/v2', registry);
  app.all('/v2/*', registry);

  app.notFound(c => c.text('not found; the registry is under /v2/\n', 404));
  return app;
}

async function answer(services: Services, exchange: Exchange): Promise<void> {
  const { incoming, outgoing } = exchange;
  exchange.parsed = parse(services, exchange);
  const { asked, query } = exchange.parsed;
  switch (incoming.method) {
    case 'GET':
    case 'HEAD':
      switch (asked.kind) {
        case 'base':
          exchange.outcome = 'hit';
          return send(outgoing, 200, { ...exchange.headers(), 'content-type': 'application/json' }, '{}\n');
        case 'manifest':
          return answerManifest(services, exchange, asked.repository, asked.reference);
        case 'blob':
          return answerBlob(services, exchange, asked.repository, asked.digest);
        case 'tags':
          return answerTags(services, exchange, asked.repository, query);
        case 'referrers':
          return answerReferrers(services, exchange, asked.repository, asked.digest, query);
        case 'catalog':
          return answerCatalog(services, exchange, query);
        case 'upload':
          if (asked.id !== undefined)
            return answerUploadStatus(services, exchange, asked.repository, asked.id);
      }
      break;
    case 'POST':
      if (asked.kind === 'upload' && asked.id === undefined) {
        return beginUpload(services, exchange, asked.repository, query);
      }
      break;
    case 'PATCH':
      if (asked.kind === 'upload' && asked.id !== undefined) {
        return continueUpload(services, exchange, asked.repository, asked.id);
      }
      break;
    case 'PUT':
      if (asked.kind === 'upload' && asked.id !== undefined) {
        return finishUpload(services, exchange, asked.repository, asked.id, query);
      }
      if (asked.kind === 'manifest') {
        return putManifest(services, exchange, asked.repository, asked.reference, query);
      }
      break;
    case 'DELETE':
      if (asked.kind === 'upload' && asked.id !== undefined) {
        return cancelUpload(services, exchange, asked.repository, asked.id);
      }
      if (asked.kind === 'manifest')
        return deleteManifest(services, exchange, asked.repository, asked.reference);
      if (asked.kind === 'blob') return deleteBlob(services, exchange, asked.repository, asked.digest);
      break;
  }
  outgoing.setHeader('allow', METHODS[asked.kind]);
  throw new RegistryError('UNSUPPORTED', `${incoming.method} of this is not in the OCI distribution API`);
}

const METHODS: Record<Asked['kind'], string> = {
  base: 'GET, HEAD',
  catalog: 'GET, HEAD',
  manifest: 'GET, HEAD, PUT, DELETE',
  blob: 'GET, HEAD, DELETE',
  tags: 'GET, HEAD',
  referrers: 'GET, HEAD',
  upload: 'GET, POST, PATCH, PUT, DELETE',
};

function parse(services: Services, exchange: Exchange): ParsedRequest {
  try {
    return parseRequest(exchange.incoming.url ?? '', services.upstreams);
  } catch (error) {
    // A tag that cannot be is one that is not there, for who reads.
    const isRead = exchange.incoming.method === 'GET' || exchange.isHead;
    if (!isRead || !(error instanceof RegistryError) || error.code !== 'TAG_INVALID') throw error;
    throw new RegistryError('MANIFEST_UNKNOWN', error.message);
  }
}
