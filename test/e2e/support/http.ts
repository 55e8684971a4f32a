// Requests as bytes on the wire: nothing is followed, decoded or repeated on the way, unlike with fetch.
import { request } from 'node:http';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Buffer;
  /** How long it took until the last byte. */
  readonly elapsedMs: number;
}

/** An OCI error body. */
export interface ErrorBody {
  readonly errors: readonly { readonly code: string; readonly message: string }[];
}

/** All manifest types, as every client of today sends them. */
export const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');

export function ask(
  method: string,
  url: string,
  headers: Record<string, string> = {},
  body?: Uint8Array,
): Promise<Answer> {
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const asking = request(url, { method, headers, agent: false }, async response => {
      try {
        const chunks: Buffer[] = [];
        for await (const chunk of response) chunks.push(chunk as Buffer);
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers as Record<string, string | undefined>,
          body: Buffer.concat(chunks),
          elapsedMs: Math.round(performance.now() - started),
        });
      } catch (error) {
        reject(error);
      }
    });
    asking.once('error', reject);
    asking.end(body);
  });
}

export function get(url: string, headers?: Record<string, string>): Promise<Answer> {
  return ask('GET', url, { accept: ACCEPT, ...headers });
}

export function head(url: string, headers?: Record<string, string>): Promise<Answer> {
  return ask('HEAD', url, { accept: ACCEPT, ...headers });
}

/** The body of an error answer. Throws when it is not one as the OCI spec has it. */
export function errorBody(answer: Answer): ErrorBody {
  const body = JSON.parse(answer.body.toString('utf8')) as ErrorBody;
  if (typeof body.errors?.[0]?.code !== 'string') throw new Error(`not an OCI error: ${answer.body}`);
  return body;
}
