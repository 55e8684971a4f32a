// A server that writes what a test tells it to, byte for byte, over plain sockets or TLS.
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { LOOPBACK_TLS } from './tls.ts';

export interface RawServer {
  readonly url: URL;
  /** In the order in which they were opened. */
  readonly sockets: readonly Socket[];
  /** The head of each request, as it came. */
  readonly requests: readonly string[];
}

/** `answer` is called for each request that has come whole, which must have no body. Clients trust LOOPBACK_TLS. */
export async function startRaw(
  t: TestContext,
  answer: (socket: Socket, request: string, count: number) => void,
  { tls = false, host = '127.0.0.1' } = {},
): Promise<RawServer> {
  const sockets: Socket[] = [];
  const requests: string[] = [];
  const serve = (socket: Socket) => {
    let got = '';
    sockets.push(socket);
    // Two pieces are two, and neither waits for the other.
    socket.setNoDelay(true);
    socket.setEncoding('latin1');
    socket.on('error', () => {});
    socket.on('data', text => {
      got += text;
      for (let end = got.indexOf('\r\n\r\n'); end !== -1; end = got.indexOf('\r\n\r\n')) {
        const request = got.slice(0, end);
        got = got.slice(end + 4);
        requests.push(request);
        answer(socket, request, requests.length);
      }
    });
  };
  const server = tls ? createTlsServer({ ...LOOPBACK_TLS, ALPNProtocols: ['http/1.1'] }, serve) : createServer(serve);
  server.listen(0, host);
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const url = new URL(`${tls ? 'https' : 'http'}://${host}:${(server.address() as AddressInfo).port}/`);
  return { url, sockets, requests };
}
