// A listening socket of the fake ghcr.io, plain or TLS, on loopback. It can be stopped, and then comes back on the same
// port.
import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server as HttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { SEND_BUFFER_BYTES } from './send.ts';

/** PEM texts. */
export interface TlsIdentity {
  cert: string;
  key: string;
}

export class Origin {
  readonly #server: HttpServer | HttpsServer;
  readonly #base: string;
  #port = 0;

  constructor(
    hostname = '127.0.0.1',
    tls: TlsIdentity | undefined,
    handler: (request: IncomingMessage, response: ServerResponse) => void,
  ) {
    const options = { highWaterMark: SEND_BUFFER_BYTES };
    this.#server = tls ? createTlsServer({ ...options, ...tls }, handler) : createServer(options, handler);
    this.#base = `${tls ? 'https' : 'http'}://${hostname}`;
  }

  /** Without a trailing slash. */
  get url(): string {
    return `${this.#base}:${this.#port}`;
  }

  /** On this port, by default the one it had before; 0: any free one. */
  async listen(port = this.#port): Promise<void> {
    if (this.#server.listening) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', reject);
    this.#server.listen(port, '127.0.0.1', resolve);
    await promise;
    this.#server.off('error', reject);
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Stops listening and destroys all connections. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise(resolve => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }
}
