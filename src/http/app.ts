// The routes. Every request under /v2/ is an Exchange: parsed, answered or failed, and logged.
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono } from 'hono';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { RegistryError, reasonOf } from '../oci/errors.ts';
import { Exchange } from './exchange.ts';
import { answerBlob, answerManifest, answerTags, type Pulls } from './pulls.ts';
import { parseRequest, type Upstreams } from './request.ts';
import { send } from './send.ts';

export interface Services extends Pulls {
  readonly upstreams: Upstreams;
  readonly clock: Clock;
  readonly log: Log;
  /** Rejects with the reason why the server cannot do its work now. */
  ready(): Promise<void>;
}

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

  const registry = async ({ incoming, outgoing }: HttpBindings) => {
    const exchange = new Exchange(incoming, outgoing);
    const startedMs = services.clock.now();
    outgoing.once('close', () => exchange.log(services.log, services.clock.now() - startedMs));
    await answer(services, exchange).catch(error => exchange.fail(error));
    return RESPONSE_ALREADY_SENT;
  };
  app.all('/v2', c => registry(c.env));
  app.all('/v2/*', c => registry(c.env));

  app.notFound(c => c.text('not found; the registry is under /v2/\n', 404));
  return app;
}

async function answer(services: Services, exchange: Exchange): Promise<void> {
  const { incoming, outgoing } = exchange;
  exchange.parsed = parseRequest(incoming.url ?? '', services.upstreams);
  const { asked, query } = exchange.parsed;
  if (incoming.method !== 'GET' && !exchange.isHead) throw unsupported(exchange);
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
      // 404 makes clients look for the fallback tag, which is how referrers are kept on ghcr.io.
      throw new RegistryError('MANIFEST_UNKNOWN', 'referrers are not served; look under the fallback tag');
    case 'catalog':
    case 'upload':
      throw unsupported(exchange);
  }
}

function unsupported({ incoming, outgoing }: Exchange): RegistryError {
  outgoing.setHeader('allow', 'GET, HEAD');
  const isWrite = ['POST', 'PUT', 'PATCH', 'DELETE'].includes(incoming.method ?? '');
  const advice = isWrite ? '; push to and delete at the upstream itself' : '';
  return new RegistryError(
    'UNSUPPORTED',
    `${incoming.method} of this is not supported: this cache serves pulls only${advice}`,
  );
}
