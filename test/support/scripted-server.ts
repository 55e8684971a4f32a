// A server that answers each request as the test says, for responses that no fake registry should give, and that records
// exactly what came over the wire.
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { LOOPBACK_TLS } from './tls.ts';

export interface Seen {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface ScriptedReply {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body?: string | Uint8Array;
}

/** `reply` says nothing: the server hangs up. /v2/ itself is answered with the challenge, if any, and not recorded. */
export async function startScripted(
  t: TestContext,
  reply: (seen: Seen) => ScriptedReply | undefined | Promise<ScriptedReply | undefined>,
  { tls = false, challenge }: { tls?: boolean; challenge?: string } = {},
): Promise<{ origin: string; seen: Seen[] }> {
  const seen: Seen[] = [];
  const listener = async (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '', origin);
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return;
    }
    if (url.pathname === '/v2/') {
      return response.writeHead(challenge ? 401 : 200, challenge ? { 'www-authenticate': challenge } : {}).end();
    }
    const one = { method: request.method ?? '', url, headers: request.headers, body: Buffer.concat(chunks) };
    seen.push(one);
    const scripted = await reply(one);
    if (scripted === undefined) return response.destroy();
    response.writeHead(scripted.status, scripted.headers).end(scripted.body);
  };
  const server = tls ? createTlsServer(LOOPBACK_TLS, listener) : createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const origin = `${tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { origin, seen };
}
