// The HTTP server: one Hono app of which the distribution API and the admin endpoints are parts, limits against hostile
// clients, and an orderly shutdown.
import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono } from 'hono';
import type { HostCheck } from '../access/hosts.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { createHealth, type HealthServices } from './admin/health.ts';
import { checkRequest, toOriginForm } from './door.ts';
import { type Bindings, Exchange } from './registry/exchange.ts';
import type { InFlight } from './registry/in-flight.ts';
import { createRegistry } from './registry/routes.ts';
import type { Services } from './registry/services.ts';

/** A connection on which nothing moves for so long is closed, unless it waits for us. */
const IDLE_MS = 120_000;
/** How long the head of a request may take to arrive. */
const HEAD_MS = 20_000;
/** Room for a Range header of some thousand ranges, which is then ignored for their number. */
const HEAD_LIMIT_BYTES = 64 * 1024;
/** After so long without a byte the system asks the other side whether it is there at all. */
const PROBE_AFTER_MS = 30_000;
const SWEEP_MS = 50;

const SERVER_OPTIONS: ServerOptions = {
  maxHeaderSize: HEAD_LIMIT_BYTES,
  headersTimeout: HEAD_MS,
  keepAliveTimeout: IDLE_MS,
  // A large layer over a slow line takes its time; that it moves at all is seen to below.
  requestTimeout: 0,
  noDelay: true,
  // A client may vanish without a word while its response is waited for.
  keepAlive: true,
  keepAliveInitialDelay: PROBE_AFTER_MS,
};

export interface RunningServer {
  readonly address: AddressInfo;
  /**
   * Accepts nothing more; resolves when the last response is out, or after `graceMs`, when it calls `beforeCut` and then
   * closes all connections.
   */
  stop(graceMs: number, beforeCut?: () => void): Promise<void>;
}

export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  /** The Hosts of requests that are answered. */
  readonly isOurs: HostCheck;
}

type App = Hono<{ Bindings: Bindings }>;

export function createApp(services: Services & HealthServices): App {
  return new Hono<{ Bindings: Bindings }>()
    .route('/v2', createRegistry(services))
    .route('/', createHealth(services))
    .notFound(({ env: { exchange } }) => {
      exchange.sendText(404, 'not found; the registry is under /v2/\n');
      return RESPONSE_ALREADY_SENT;
    });
}

/** How many clients may be connected at a time, and what is told of one that was turned away. */
interface ConnectionLimit {
  readonly maxConnections: number;
  turnedAway(): void;
}

interface ServerDependencies {
  readonly clock: Clock;
  readonly log: Log;
  readonly inFlight: InFlight;
  /** Absent: no limit. */
  readonly connections?: ConnectionLimit;
}

/** Listens. Rejects with a message that names the address when it cannot. */
export function startServer(
  app: App,
  listen: ListenOptions,
  { clock, log, inFlight, connections }: ServerDependencies,
): Promise<RunningServer> {
  const handle = (request: Request, incoming: IncomingMessage, outgoing: ServerResponse) => {
    const exchange = new Exchange(incoming, outgoing);
    const startedMs = clock.monotonic();
    const place = inFlight.add(exchange);
    outgoing.on('close', () => {
      inFlight.delete(place);
      exchange.log(log, clock.monotonic() - startedMs);
    });
    outgoing.on('timeout', onIdle);
    const refusal = checkRequest(incoming, listen.isOurs);
    if (refusal === undefined) return app.fetch(request.method === 'HEAD' ? asGet(request) : request, { exchange });
    exchange.fail(refusal);
    return RESPONSE_ALREADY_SENT;
  };
  const answer = getRequestListener(
    (request, bindings) => handle(request, bindings.incoming as IncomingMessage, bindings.outgoing as ServerResponse),
    // Where there is no Host, as in HTTP/1.0; nothing but the path is looked at.
    { hostname: 'localhost' },
  );
  const onRequest = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    toOriginForm(incoming);
    void answer(incoming, outgoing);
  };
  const server = createServer(SERVER_OPTIONS, onRequest);
  server.on('checkContinue', (incoming, outgoing) => {
    toOriginForm(incoming);
    // What is refused at the door need not be sent.
    if (checkRequest(incoming, listen.isOurs) === undefined) outgoing.writeContinue();
    onRequest(incoming, outgoing);
  });
  server.timeout = IDLE_MS;
  allowHalfClosing(server);
  limit(server, connections);
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

function limit(server: Server, connections: ConnectionLimit | undefined): void {
  if (connections === undefined || connections.maxConnections === Infinity) return;
  server.maxConnections = connections.maxConnections;
  server.on('drop', () => {
    // The next one finds the place of one that has no request.
    server.closeIdleConnections();
    connections.turnedAway();
  });
}

/**
 * Called when nothing has moved on a connection with a request in progress. It is the client that is waited for while
 * bytes of the request are due, or of the response are not taken; otherwise the client waits for us, which may take
 * as long as it takes.
 */
function onIdle(this: ServerResponse, socket: Socket): void {
  const { req: incoming } = this;
  const isReceiving = !incoming.complete && incoming.readableFlowing === true;
  if (isReceiving || socket.writableLength > 0) socket.destroy();
  else socket.setTimeout(IDLE_MS);
}

/**
 * A client that closes its side when the request is out still gets its response. Node drops it otherwise, unless it is
 * quick enough; this is no documented property, but has been Node's own switch for it since its first versions.
 */
function allowHalfClosing(server: Server): void {
  (server as { httpAllowHalfOpen?: boolean }).httpAllowHalfOpen = true;
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
