// The HTTP server: one Hono app of which the distribution API and the admin endpoints are parts, limits against hostile
// clients, and an orderly shutdown.
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import type { Clock } from '../base/clock.ts';
import { createHealth, type HealthServices } from './admin/health.ts';
import { createRegistry } from './registry/routes.ts';
import type { Services } from './registry/services.ts';

/** A connection on which nothing moves for so long is closed. */
const IDLE_MS = 120_000;
/** How long the head of a request may take to arrive. */
const HEAD_MS = 20_000;
const HEAD_LIMIT_BYTES = 16 * 1024;
const SWEEP_MS = 50;

export interface RunningServer {
  readonly address: AddressInfo;
  /**
   * Accepts nothing more; resolves when the last response is out, or after `graceMs`, when it calls `beforeCut` and then
   * closes all connections.
   */
  stop(graceMs: number, beforeCut?: () => void): Promise<void>;
}

type App = Hono<{ Bindings: HttpBindings }>;

export function createApp(services: Services & HealthServices): App {
  return new Hono<{ Bindings: HttpBindings }>()
    .route('/v2', createRegistry(services))
    .route('/', createHealth(services))
    .notFound(c => c.text('not found; the registry is under /v2/\n', 404));
}

/** Listens. Rejects with a message that names the address when it cannot. */
export function startServer(app: App, listen: { host: string; port: number }, clock: Clock): Promise<RunningServer> {
  const server = createAdaptorServer({
    fetch: (request, bindings) =>
      app.fetch(request.method === 'HEAD' ? asGet(request) : request, bindings as HttpBindings),
    serverOptions: {
      maxHeaderSize: HEAD_LIMIT_BYTES,
      headersTimeout: HEAD_MS,
      keepAliveTimeout: IDLE_MS,
      // A large layer over a slow line takes its time; that it moves at all is checked below.
      requestTimeout: 0,
      noDelay: true,
    },
  }) as Server;
  // Measured from one movement of bytes to the next: a long response may take its time, a stuck one may not.
  server.timeout = IDLE_MS;
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why =
        error.code === 'EADDRINUSE' ? 'another program listens there; choose another listen.port' : error.message;
      reject(new Error(`cannot listen on ${listen.host}:${listen.port}: ${why}`, { cause: error }));
    });
    server.listen(listen.port, listen.host, () => {
      resolve({ address: server.address() as AddressInfo, stop: (...how) => stop(server, clock, ...how) });
    });
  });
}

/**
 * A HEAD request as the GET that it is handled as; Node leaves out the body. For HEAD, Hono wraps each response in
 * another one, of which the adapter no longer knows that it was sent already.
 */
function asGet(request: Request): Request {
  return Object.defineProperty(request, 'method', { value: 'GET' });
}

async function stop(server: Server, clock: Clock, graceMs: number, beforeCut?: () => void): Promise<void> {
  const closed = new AbortController();
  // A kept-alive connection becomes idle only when its last response is out.
  const endSweep = clock.every(SWEEP_MS, () => server.closeIdleConnections());
  clock.sleep(graceMs, closed.signal).then(
    () => {
      beforeCut?.();
      server.closeAllConnections();
    },
    () => {},
  );
  await new Promise<void>(resolve => server.close(() => resolve()));
  endSweep();
  closed.abort();
}
