// The HTTP client of the tests: one request on a connection of its own, and exactly what came back. It never rejects,
// retries or follows redirects; a connection that breaks is an outcome like any other.
import http from 'node:http';
import https from 'node:https';
import { LOOPBACK_TLS } from '../tls.ts';

export interface Got {
  status: number | undefined;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
  /** Whether the body is complete; if not, `code` says why. */
  complete: boolean;
  code: string | undefined;
}

export interface Asking {
  method?: string;
  headers?: http.OutgoingHttpHeaders;
  /** Sent whole with its length, or piece by piece in chunks; a generator that throws closes the connection. */
  body?: Uint8Array | string | AsyncIterable<Uint8Array>;
  onHeaders?: (response: http.IncomingMessage) => void;
}

export function ask(url: string, { method = 'GET', headers = {}, body, onHeaders }: Asking = {}): Promise<Got> {
  return new Promise(resolve => {
    const got: Got = {
      status: undefined,
      headers: {},
      body: Buffer.alloc(0),
      complete: false,
      code: undefined,
    };
    const chunks: Buffer[] = [];
    const fail = (error: NodeJS.ErrnoException) => {
      got.code ??= error.code ?? error.message;
    };
    const end = () => resolve({ ...got, body: Buffer.concat(chunks) });
    const client = url.startsWith('https:') ? https : http;
    const request = client.request(url, { method, headers, agent: false, ca: LOOPBACK_TLS.cert }, response => {
      Object.assign(got, { status: response.statusCode, headers: response.headers });
      onHeaders?.(response);
      response
        .on('data', chunk => chunks.push(chunk))
        .on('end', () => {
          got.complete = response.complete;
        })
        .on('error', fail)
        .on('close', end);
    });
    request.on('error', error => {
      fail(error);
      end();
    });
    if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) request.end(body);
    else void sendPieces(request, body);
  });
}

async function sendPieces(request: http.ClientRequest, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  const closed = new Promise(resolve => request.once('close', resolve));
  try {
    for await (const piece of pieces) {
      if (request.destroyed) return;
      if (!request.write(piece)) {
        await Promise.race([new Promise(resolve => request.once('drain', resolve)), closed]);
      }
    }
    request.end();
  } catch {
    request.destroy();
  }
}

export const errorOf = ({ body }: Got) => JSON.parse(body.toString()).errors[0];

export const basic = (username: string, token: string) => ({
  authorization: `Basic ${Buffer.from(`${username}:${token}`).toString('base64')}`,
});

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
