// The fake ghcr.io, the test double that the cache is tested against: a real server on loopback with three origins, the
// registry with its token realm, the blob host that it redirects to, and GitHub's package API. It answers as they are
// known to, quirks included. Tests fill it with packages and users, turn its switches, add faults, stop it, and query
// its log. It knows nothing of the cache and never contacts anything.
import type { Digest } from '../../../src/oci/digest.ts';
import type { Content, Image, Index } from '../images.ts';
import { PackageApi } from './api.ts';
import { Auth } from './auth.ts';
import { BlobHost } from './blobhost.ts';
import { Blobs } from './blobs.ts';
import type { Site } from './exchange.ts';
import { type Fault, type FaultAction, type FaultMatch, Faults } from './faults.ts';
import { handlerOf } from './handler.ts';
import { Lags } from './lag.ts';
import { type RequestFilter, RequestLog, type RequestRecord } from './log.ts';
import { Manifests } from './manifests.ts';
import { Origin, type TlsIdentity } from './origin.ts';
import { type Package, Packages, type User, type Visibility } from './packages.ts';
import { Registry } from './registry.ts';
import { Spools } from './spool.ts';
import type { OriginName, State } from './state.ts';
import { defaultSwitches, type Switches } from './switches.ts';
import { Uploads } from './uploads.ts';

export { type Answer, answers, type Fault, type FaultAction, type FaultMatch } from './faults.ts';
export type { Endpoint, RequestFilter, RequestRecord } from './log.ts';
export type { TlsIdentity } from './origin.ts';
export type { User, Visibility } from './packages.ts';
export type { OriginName } from './state.ts';
export type { Switches } from './switches.ts';

export interface GhcrOptions {
  /** Default: 0, any free port. */
  port?: number;
  blobPort?: number;
  apiPort?: number;
  /** Makes that origin https. */
  tls?: TlsIdentity;
  blobTls?: TlsIdentity;
  apiTls?: TlsIdentity;
  /** The host in its own URLs, as a certificate may require. It always listens on 127.0.0.1. */
  hostname?: string;
  /** The clock of tokens, signed URLs and uploads, in ms. Default: the real one. */
  now?: () => number;
  switches?: Partial<Switches>;
}

export interface Ghcr extends AsyncDisposable {
  /** The registry's origin, without a trailing slash. */
  readonly url: string;
  readonly blobUrl: string;
  /** In place of api.github.com. */
  readonly apiUrl: string;
  readonly switches: Switches;
  close(): Promise<void>;
  /** Stops listening and destroys all connections: clients get ECONNREFUSED. Default: all origins. */
  stop(origin?: OriginName): Promise<void>;
  /** Listens again, on the same ports, wherever it was stopped. */
  restart(): Promise<void>;

  /** Adds an empty package, or changes the visibility of an existing one. */
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
  /** The user's credentials become invalid; tokens issued before still work until they expire. */
  removeUser(username: string): void;
  /** Expires every token issued so far. */
  expireTokens(): void;

  fault(spec: FaultMatch & FaultAction): Fault;
  /** Removes all faults. */
  clearFaults(): void;

  /** Every request since the start or the last reset, oldest first. */
  readonly requests: readonly RequestRecord[];
  count(filter?: RequestFilter): number;
  /** Bytes of response bodies sent to the requests that match. */
  bytes(filter?: RequestFilter): number;
  /** Bytes read of the bodies of the requests that match. */
  received(filter?: RequestFilter): number;
  resetCounters(): void;
  /** Resolves once at least `count` requests (default 1) match. */
  until(filter: RequestFilter, count?: number): Promise<void>;
}

export async function startGhcr(options: GhcrOptions = {}): Promise<Ghcr> {
  const switches: Switches = { ...defaultSwitches(), ...options.switches };
  const packages = new Packages();
  const log = new RequestLog();
  const faults = new Faults();
  const spools = new Spools();
  const now = options.now ?? Date.now;
  const state: State = {
    packages,
    switches,
    lags: new Lags({ switches, now }),
    now,
    originOf: name => origins[name].url,
  };
  const auth = new Auth(state);
  const blobHost = new BlobHost(state);
  const uploads = new Uploads(state, auth, spools);
  const registry = new Registry(state, {
    auth,
    blobHost,
    uploads,
    blobs: new Blobs(state, blobHost),
    manifests: new Manifests(state, auth),
  });

  const originFor = (site: Site, tls: TlsIdentity | undefined) =>
    new Origin(options.hostname, tls, handlerOf(site, { log, faults, switches }));
  const origins: Record<OriginName, Origin> = {
    registry: originFor(registry, options.tls),
    blobhost: originFor(blobHost, options.blobTls),
    api: originFor(new PackageApi(state), options.apiTls),
  };
  await Promise.all([
    origins.registry.listen(options.port),
    origins.blobhost.listen(options.blobPort),
    origins.api.listen(options.apiPort),
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
    url: origins.registry.url,
    blobUrl: origins.blobhost.url,
    apiUrl: origins.api.url,
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
