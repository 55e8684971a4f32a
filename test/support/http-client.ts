// A client of the cache that returns what came over the wire, complete or not, and can disconnect in the middle of a
// body.
import type http from 'node:http';
import { type Asking, ask } from './ghcr/ask.ts';

export interface RawRequest extends Pick<Asking, 'method' | 'headers' | 'body'> {
  /** Disconnects after this many bytes of the body. */
  readonly leaveAfter?: number;
  /** Called with the number of bytes received so far, whenever it has grown. */
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

/** Rejects, with a `code`, only when there was no response at all. */
export async function fetchRaw(url: string, request: RawRequest = {}): Promise<Reply> {
  const { leaveAfter = Number.POSITIVE_INFINITY, onData, ...asking } = request;
  let phrase = '';
  const got = await ask(url, {
    ...asking,
    onHeaders: response => {
      phrase = response.statusMessage ?? '';
      let length = 0;
      response.on('data', (chunk: Buffer) => {
        length += chunk.length;
        onData?.(length);
        if (length >= leaveAfter) response.destroy();
      });
    },
  });
  const { status, headers, body, complete, code } = got;
  if (status === undefined) throw Object.assign(new Error(`no response from ${url}: ${code}`), { code });
  return { status, phrase, headers, body, complete };
}

/** The OCI error in a response. */
export function errorOf({ body }: Pick<Reply, 'body'>): { code: string; message: string } {
  return JSON.parse(body.toString()).errors[0];
}
