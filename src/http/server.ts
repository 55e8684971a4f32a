// The HTTP server around the app: limits against hostile clients, and an orderly end.
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Bindings, createApp } from './registry/routes.ts';

/** A connection on which nothing moves for so long is dropped. */
const IDLE_MS = 120_000;
/** Time for a request's head to come in. */
const HEAD_MS = 20_000;
const HEAD_LIMIT_BYTES = 16 * 1024;

export interface RunningServer {
  readonly address: AddressInfo;
  /** Accepts nothing more; resolves when the last answer is out, or after `graceMs`, cutting what is left. */
  stop(graceMs: number): Promise<void>;
}

/** Listens. Rejects with a sentence that names the address when it cannot. */
export function startServer(
  app: ReturnType<typeof createApp>,
  listen: { host: string; port: number },
): Promise<RunningServer> {
  const server = createAdaptorServer({
    fetch: (request, bindings) => {
      const env: Bindings = bindings as HttpBindings;
      const response = app.fetch(request, env);
      // For HEAD Hono makes a response of its own out of the word that there will be one.
      return env.isTaken ? RESPONSE_ALREADY_SENT : response;
    },
    serverOptions: {
      maxHeaderSize: HEAD_LIMIT_BYTES,
      headersTimeout: HEAD_MS,
      keepAliveTimeout: IDLE_MS,
      // A large layer over a slow line takes its time; that it moves at all is watched below.
      requestTimeout: 0,
      noDelay: true,
    },
  }) as Server;
  // Measured between two movements of bytes: a long answer may take its time, a stuck one may not.
  server.timeout = IDLE_MS;
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why =
        error.code === 'EADDRINUSE'
          ? 'another program listens there; choose another listen.port'
          : error.message;
      reject(new Error(`cannot listen on ${listen.host}:${listen.port}: ${why}`, { cause: error }));
    });
    server.listen(listen.port, listen.host, () => {
      resolve({ address: server.address() as AddressInfo, stop: graceMs => stop(server, graceMs) });
    });
  });
}

function stop(server: Server, graceMs: number): Promise<void> {
  return new Promise(resolve => {
    server.close(() => {
      clearInterval(sweep);
      clearTimeout(cut);
      resolve();
    });
    // A kept-alive connection becomes idle only when its last answer is out.
    const sweep = setInterval(() => server.closeIdleConnections(), 50);
    const cut = setTimeout(() => server.closeAllConnections(), graceMs);
  });
}
