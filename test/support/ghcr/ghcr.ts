// A stand-in for ghcr.io on loopback: a registry with its token realm, a second origin for blobs, and a third
// for GitHub's package interface. It answers as they have been seen to, odd answers included; tests fill it
// with packages and users, turn its switches, add faults, stop it, and ask its log what reached it. Nothing
// here knows the cache.
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer, type Server as HttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Digest } from '../../../src/oci/digest.ts';
import type { Content, Image, Index } from '../images.ts';
import { PackageApi } from './api.ts';
import { Auth } from './auth.ts';
import { BlobHost } from './blobhost.ts';
import { type Fault, type FaultAction, type FaultMatch, Faults } from './faults.ts';
import { type RequestFilter, RequestLog, type RequestRecord, type Route } from './log.ts';
import { ManifestWrites } from './manifests.ts';
import { type Package, Packages, type User, type Visibility } from './packages.ts';
import { hold, RequestBody, RequestGone } from './receive.ts';
import { Registry } from './registry.ts';
import { type Exchange, type Reply, replyOf, SEND_BUFFER_BYTES, send } from './send.ts';
import { Spools } from './spool.ts';
import { defaultSwitches, type Switches } from './switches.ts';
import { Uploads } from './uploads.ts';

export { type Answer, answers, type Fault, type FaultAction, type FaultMatch } from './faults.ts';
export type { Endpoint, RequestFilter, RequestRecord } from './log.ts';
export type { User, Visibility } from './packages.ts';
export type { Switches } from './switches.ts';

/** PEM texts. */
export interface TlsIdentity {
  cert: string;
  key: string;
}

export interface GhcrOptions {
  /** Default: 0, any free port. */
  port?: number;
  blobPort?: number;
  apiPort?: number;
  /** Makes that origin https. */
  tls?: TlsIdentity;
  blobTls?: TlsIdentity;
  apiTls?: TlsIdentity;
  /** The host in the stand-in's own URLs, as a certificate may require. It always listens on 127.0.0.1. */
  hostname?: string;
  /** The clock of tokens and signed URLs, in ms. Default: the real one. */
  now?: () => number;
  switches?: Partial<Switches>;
}

export interface Ghcr extends AsyncDisposable {
  /** The registry's origin, without a slash at the end. */
  readonly url: string;
  readonly blobUrl: string;
  /** What stands in for api.github.com. */
  readonly apiUrl: string;
  readonly switches: Switches;
  close(): Promise<void>;
  /** Stops listening and destroys all connections: clients get ECONNREFUSED. Default: all origins. */
  stop(origin?: OriginName): Promise<void>;
  /** Listens again, on the same ports, wherever it was stopped. */
  restart(): Promise<void>;

  /** Adds an empty package, or changes the visibility of one that is there. */
  addPackage(name: string, options?: { visibility?: Visibility }): void;
  /** Adds an image, or an index with its images, and sets the tags. A new package is public. */
  push(name: string, image: Image | Index, ...tags: string[]): void;
  addBlob(name: string, blob: Content): void;
  deleteBlob(name: string, digest: Digest): void;
  setTag(name: string, tag: string, digest: Digest): void;
  deleteTag(name: string, tag: string): void;
  /** Deletes the manifest and every tag that points to it; its blobs stay. */
  deleteManifest(name: string, digest: Digest): void;
  deletePackage(name: string): void;
  packages(): readonly Package[];

  addUser(user: User): void;
  /** The user's credentials become bad ones; tokens issued before still work until they expire. */
  removeUser(username: string): void;
  /** Makes every token issued so far an expired one. */
  expireTokens(): void;

  fault(spec: FaultMatch & FaultAction): Fault;
  /** Removes all faults. */
  clearFaults(): void;

  /** Every request since the start or the last reset, oldest first. */
  readonly requests: readonly RequestRecord[];
  count(filter?: RequestFilter): number;
  /** Bytes of bodies sent in answer to the requests that fit. */
  bytes(filter?: RequestFilter): number;
  /** Bytes of the bodies of the requests that fit, as far as they were taken. */
  received(filter?: RequestFilter): number;
  resetCounters(): void;
  /** Resolves once at least `count` requests (default 1) fit. */
  until(filter: RequestFilter, count?: number): Promise<void>;
}

export type OriginName = 'registry' | 'blobhost' | 'api';

export async function startGhcr(options: GhcrOptions = {}): Promise<Ghcr> {
  const now = options.now ?? Date.now;
  const switches: Switches = { ...defaultSwitches(), ...options.switches };
  const packages = new Packages();
  const log = new RequestLog();
  const faults = new Faults();
  const auth = new Auth(packages, switches, now);
  const blobHost = new BlobHost(packages, switches, now);
  const spools = new Spools();
  const origin = () => registryOrigin.url;
  const uploads = new Uploads({ packages, switches, auth, spools, now, origin });
  const registry = new Registry({
    packages,
    switches,
    auth,
    blobHost,
    uploads,
    manifestWrites: new ManifestWrites(packages, switches, auth),
    origin,
    blobOrigin: () => blobOrigin.url,
  });

  const api = new PackageApi(packages, switches, () => apiOrigin.url);

  /** The one way that a request takes, at any origin. */
  const listener =
    (site: Site) =>
    async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
      const url = new URL(request.url ?? '/', 'http://stand-in.invalid');
      const record = log.begin(request, site.route(url));
      const fault = faults.take(record);
      const gone = new Promise<void>(resolve => {
        response.once('close', () => {
          if (!response.writableFinished) record.state = 'aborted';
          log.changed();
          resolve();
        });
      });
      const arrived = { request, response, url, record, fault, gone };
      const exchange: Exchange = { ...arrived, body: new RequestBody(arrived) };
      try {
        const reply = await replyTo(exchange, site);
        if (reply) await send(exchange, log, reply, switches.omitContentLength);
      } catch (error) {
        if (!(error instanceof RequestGone)) throw error;
      }
    };

  const registryOrigin = new Origin(options.hostname, options.tls, listener(registry));
  const blobOrigin = new Origin(options.hostname, options.blobTls, listener(blobHost));
  const apiOrigin = new Origin(options.hostname, options.apiTls, listener(api));
  const origins = { registry: registryOrigin, blobhost: blobOrigin, api: apiOrigin };
  await Promise.all([
    registryOrigin.listen(options.port),
    blobOrigin.listen(options.blobPort),
    apiOrigin.listen(options.apiPort),
  ]);

  const stop = async (origin?: OriginName): Promise<void> => {
    const stopped = origin === undefined ? Object.values(origins) : [origins[origin]];
    await Promise.all(stopped.map(each => each.stop()));
  };
  const close = async (): Promise<void> => {
    await stop();
    faults.clear();
    await uploads.close();
    await spools.close();
  };

  return {
    url: registryOrigin.url,
    blobUrl: blobOrigin.url,
    apiUrl: apiOrigin.url,
    switches,
    close,
    [Symbol.asyncDispose]: close,
    stop,
    restart: async () => {
      await Promise.all(Object.values(origins).map(each => each.listen()));
    },

    addPackage: (name, { visibility = 'public' } = {}) => void packages.add(name, visibility),
    push: (name, image, ...tags) => packages.push(name, image, tags),
    addBlob: (name, blob) => void packages.obtain(name).blobs.set(blob.digest, blob),
    deleteBlob: (name, digest) => void packages.get(name)?.blobs.delete(digest),
    setTag: (name, tag, digest) => void packages.obtain(name).tags.set(tag, digest),
    deleteTag: (name, tag) => void packages.get(name)?.tags.delete(tag),
    deleteManifest: (name, digest) => packages.deleteManifest(name, digest),
    deletePackage: name => packages.delete(name),
    packages: () => packages.list(),

    addUser: user => packages.addUser(user),
    removeUser: username => packages.removeUser(username),
    expireTokens: () => auth.expireTokens(),

    fault: spec => faults.add(spec),
    clearFaults: () => faults.clear(),

    requests: log.requests,
    count: (filter = {}) => log.find(filter).length,
    bytes: (filter = {}) => log.bytes(filter),
    received: (filter = {}) => log.received(filter),
    resetCounters: () => log.reset(),
    until: (filter, count = 1) => log.until(filter, count),
  };
}

/** What answers at an origin: the registry, the blob host, or the package interface. */
interface Site {
  route(url: URL): Route;
  answer(exchange: Exchange): Reply | Promise<Reply>;
}

/** The site's answer, or the one that a fault puts in its place; undefined when a fault ended the connection. */
async function replyTo(exchange: Exchange, site: Site): Promise<Reply | undefined> {
  const { at = 'headers', answer } = exchange.fault?.action ?? {};
  if (at === 'headers' && !(await hold(exchange))) return undefined;
  const carriedOut = answer && at !== 'done' ? undefined : await site.answer(exchange);
  // Where the site had no use for the body, it is still to be here.
  if (at === 'body') await exchange.body.skip();
  if (at === 'done' && !(await hold(exchange))) return undefined;
  return answer ? replyOf(answer) : carriedOut;
}

/** A listening socket that can be stopped and comes back on the same port. */
class Origin {
  readonly #server: HttpServer | HttpsServer;
  readonly #base: string;
  #port = 0;

  constructor(
    hostname = '127.0.0.1',
    tls: TlsIdentity | undefined,
    listener: (request: IncomingMessage, response: ServerResponse) => void,
  ) {
    const options = { highWaterMark: SEND_BUFFER_BYTES };
    this.#server = tls ? createTlsServer({ ...options, ...tls }, listener) : createServer(options, listener);
    this.#base = `${tls ? 'https' : 'http'}://${hostname}`;
  }

  get url(): string {
    return `${this.#base}:${this.#port}`;
  }

  async listen(port = this.#port): Promise<void> {
    if (this.#server.listening) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', reject);
    this.#server.listen(port, '127.0.0.1', resolve);
    await promise;
    this.#server.off('error', reject);
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise(resolve => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }
}
