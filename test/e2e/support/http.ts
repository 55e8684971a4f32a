// Requests as they go over the wire: nothing is followed, decoded or retried, unlike with fetch.
import { fetchRaw } from '../../support/http-client.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Buffer;
  /** Until the last byte. */
  readonly elapsedMs: number;
}

/** An OCI error body. */
export interface ErrorBody {
  readonly errors: readonly { readonly code: string; readonly message: string }[];
}

/** All manifest types, as current clients send them. */
export const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');

/** Rejects when the connection breaks before the response is complete. */
export async function ask(
  method: string,
  url: string,
  headers: Record<string, string> = {},
  body?: Uint8Array,
): Promise<Answer> {
  const startedMs = performance.now();
  const got = await fetchRaw(url, { method, headers, ...(body && { body }) });
  if (!got.complete) throw new Error(`${method} ${url}: broke off after ${got.body.length} bytes`);
  return {
    status: got.status,
    headers: got.headers as Record<string, string | undefined>,
    body: got.body,
    elapsedMs: Math.round(performance.now() - startedMs),
  };
}

export function get(url: string, headers?: Record<string, string>): Promise<Answer> {
  return ask('GET', url, { accept: ACCEPT, ...headers });
}

export function head(url: string, headers?: Record<string, string>): Promise<Answer> {
  return ask('HEAD', url, { accept: ACCEPT, ...headers });
}

/** The body of an error response. Throws if it is not an OCI error. */
export function errorBody(answer: Answer): ErrorBody {
  const body = JSON.parse(answer.body.toString('utf8')) as ErrorBody;
  if (typeof body.errors?.[0]?.code !== 'string') throw new Error(`not an OCI error: ${answer.body}`);
  return body;
}
