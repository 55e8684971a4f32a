// The request log of the fake ghcr.io: a record of every request that reached it, and the queries that tests make. A
// record is made when the request arrives and kept up to date while its response is sent.
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';

/**
 * What a request addresses. `upload-start` opens an upload or mounts a blob, `upload` is any request for an upload's
 * own URL. `blobhost` is a signed URL, `hop` a redirect on the way to one, `page` the web page that ghcr.io redirects
 * requests for referrers to. `api` is GitHub's package API, `api-user` the part of it about users; `other` is anything
 * else.
 */
export type Endpoint =
  | 'ping'
  | 'catalog'
  | 'token'
  | 'manifest'
  | 'blob'
  | 'upload-start'
  | 'upload'
  | 'tags'
  | 'referrers'
  | 'blobhost'
  | 'hop'
  | 'page'
  | 'api'
  | 'api-user'
  | 'other';

/**
 * What a URL stands for. For `token` the repository is the first one in the scopes; for `api` it is the owner with the
 * package, and unknown where the path says only `/user/`.
 */
export interface Route {
  readonly endpoint: Endpoint;
  readonly repository?: string | undefined;
  /** The tag or digest of a manifest, or the id of a version at `api`. */
  readonly reference?: string | undefined;
  /**
   * Of a blob, of the subject of referrers, or of a manifest requested by digest. For an upload, of the blob to mount
   * or the one that the closing PUT names.
   */
  readonly digest?: string | undefined;
  /** The uuid of an upload. */
  readonly upload?: string | undefined;
}

/** The path with its escapes decoded, or as it is when they are malformed. */
export function decodedPath({ pathname }: URL): string {
  try {
    return decodeURIComponent(pathname);
  } catch {
    return pathname;
  }
}

export interface RequestRecord extends Route {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: 'none' | 'basic' | 'bearer' | 'other';
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  /** Undefined while no header has been sent. */
  status: number | undefined;
  /** Bytes of the response body written to the socket so far; exact unless the client disconnected. */
  bytesSent: number;
  /** Bytes of the request body read so far. */
  bytesReceived: number;
  /** `aborted`: the connection ended, on either side, before the response was complete. */
  state: 'open' | 'finished' | 'aborted';
}

export type RequestFilter = Partial<
  Pick<
    RequestRecord,
    'endpoint' | 'method' | 'repository' | 'reference' | 'digest' | 'upload' | 'authorization' | 'status' | 'state'
  >
>;

export class RequestLog {
  readonly requests: RequestRecord[] = [];
  readonly #waiters = new Set<() => void>();

  begin(request: IncomingMessage, route: Route): RequestRecord {
    const { method = '', url = '', headers, rawHeaders } = request;
    const record: RequestRecord = {
      ...route,
      method,
      path: url,
      range: headers.range,
      authorization: authorizationKind(headers.authorization),
      headers,
      rawHeaders,
      status: undefined,
      bytesSent: 0,
      bytesReceived: 0,
      state: 'open',
    };
    this.requests.push(record);
    this.changed();
    return record;
  }

  find(filter: RequestFilter): RequestRecord[] {
    const wanted = Object.entries(filter) as [keyof RequestFilter, unknown][];
    return this.requests.filter(record => wanted.every(([key, value]) => record[key] === value));
  }

  bytes(filter: RequestFilter): number {
    return this.find(filter).reduce((sum, record) => sum + record.bytesSent, 0);
  }

  received(filter: RequestFilter): number {
    return this.find(filter).reduce((sum, record) => sum + record.bytesReceived, 0);
  }

  reset(): void {
    this.requests.length = 0;
  }

  /** Must be called after every change to a record's `status` or `state`. */
  changed(): void {
    for (const check of this.#waiters) check();
  }

  /** Resolves once at least `count` requests match: what tests use in place of sleeping. */
  until(filter: RequestFilter, count: number): Promise<void> {
    return new Promise(resolve => {
      const check = () => {
        if (this.find(filter).length < count) return;
        this.#waiters.delete(check);
        resolve();
      };
      this.#waiters.add(check);
      check();
    });
  }
}

function authorizationKind(header: string | undefined): RequestRecord['authorization'] {
  if (header === undefined) return 'none';
  const scheme = header.split(' ', 1)[0]?.toLowerCase();
  return scheme === 'basic' || scheme === 'bearer' ? scheme : 'other';
}
