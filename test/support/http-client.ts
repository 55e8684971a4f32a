// A client that shows what came over the wire, complete or not, and can leave in the middle.
import http from 'node:http';

export interface RawRequest {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
  /** Hangs up after so many bytes of the body. */
  readonly leaveAfter?: number;
  /** Sees the body as it comes; `stop` hangs up. */
  readonly onData?: (soFar: number) => void;
}

export interface Reply {
  readonly status: number;
  readonly phrase: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  /** False when the connection ended before the body did. */
  readonly complete: boolean;
}

/** Rejects only when no answer came at all. */
export function fetchRaw(url: string, request: RawRequest = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const { method = 'GET', headers = {}, leaveAfter = Number.POSITIVE_INFINITY } = request;
    const outgoing = http.request(url, { method, headers, agent: false }, incoming => {
      const chunks: Buffer[] = [];
      let length = 0;
      const done = (complete: boolean) =>
        resolve({
          status: incoming.statusCode ?? 0,
          phrase: incoming.statusMessage ?? '',
          headers: incoming.headers,
          body: Buffer.concat(chunks),
          complete,
        });
      incoming.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        length += chunk.length;
        request.onData?.(length);
        if (length >= leaveAfter) outgoing.destroy();
      });
      incoming.on('end', () => done(incoming.complete));
      incoming.on('error', () => done(false));
      incoming.on('close', () => done(incoming.complete));
    });
    outgoing.on('error', reject);
    outgoing.end(request.body);
  });
}

/** The OCI error of an answer. */
export function errorOf(reply: Reply): { code: string; message: string } {
  return JSON.parse(reply.body.toString()).errors[0];
}
