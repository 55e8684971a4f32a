// The clients of one upstream, as compose puts them together, against a scripted server or the fake ghcr.io.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { credentialsOf, type OwnedCredential } from '../../src/credentials/credential.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { type ErrorCode, RegistryError } from '../../src/oci/errors.ts';
import type { Repository } from '../../src/oci/reference.ts';
import { UpstreamClient } from '../../src/upstream/client.ts';
import { Packages } from '../../src/upstream/github/packages.ts';
import { GITHUB_CAPABILITIES } from '../../src/upstream/github/profile.ts';
import { Requests } from '../../src/upstream/requests.ts';
import { Dialer, type DialerOptions } from '../../src/upstream/transport/dialer.ts';
import type { Capabilities } from '../../src/upstream/upstream.ts';
import { WriteClient } from '../../src/upstream/writes.ts';
import { TestClock, testRandom } from './clock.ts';
import { type Ghcr, type Switches, startGhcr } from './ghcr/ghcr.ts';
import { LOOPBACK_TLS } from './tls.ts';

export const APP: Repository = { upstream: 'ghcr.io', name: 'owner/app' };
export const SECRET = 'ghp_0123456789secret';
export const CREDENTIAL: OwnedCredential = {
  name: 'ci',
  owner: '*',
  read: async () => ({ username: 'octocat', secret: SECRET }),
};
export const SHORT_TIMEOUTS = { connectMs: 2_000, headersMs: 2_000, stallMs: 2_000, uploadMs: 2_000 };
export const never = new AbortController().signal;

export interface UpstreamClientOptions {
  readonly credentials?: readonly OwnedCredential[];
  /** Of GitHub's API for packages. */
  readonly api?: string;
  readonly clock?: TestClock;
  readonly capabilities?: Capabilities;
  /** Default: one connection for each blob. */
  readonly parallel?: number;
}

/** Of an upstream whose hosts are not known, and of which nobody is told that they are down. */
export const AS_TO_HOSTS = { blobHosts: [], onlyBlobHosts: false, onDown: () => {}, onUp: () => {} };

/** A dialer for an upstream on loopback, closed after the test. */
export function dialerOf(t: TestContext, options: Partial<DialerOptions> = {}): Dialer {
  const registry = new URL('http://127.0.0.1:1');
  const dialer = new Dialer({
    ...{ registry, trusted: [], blobHosts: [], areAll: false, onDown: () => {}, onUp: () => {} },
    ...{ clock: new TestClock(), timeouts: SHORT_TIMEOUTS, ...options },
  });
  t.after(() => dialer.close());
  return dialer;
}

export function connectTo(t: TestContext, url: string, options: UpstreamClientOptions = {}) {
  const { clock = new TestClock() } = options;
  const credentials = credentialsOf(options.credentials ?? []);
  /** Each as `name: message`. */
  const denied: string[] = [];
  const requests = new Requests({
    ...{ name: 'ghcr.io', url: new URL(url), offline: false, realms: [], credentials, clock, ...AS_TO_HOSTS },
    ...{ timeouts: SHORT_TIMEOUTS, ca: LOOPBACK_TLS.cert, random: testRandom() },
    onDenied: (credential, message) => denied.push(`${credential}: ${message}`),
  });
  t.after(() => requests.close());
  const api = options.api && new URL(options.api);
  const packages = api ? new Packages({ api, credentials, dialer: requests.dialer, clock }) : undefined;
  const { capabilities = GITHUB_CAPABILITIES } = options;
  const reads = new UpstreamClient(requests, capabilities, options.parallel ?? 1);
  const writes = new WriteClient({ requests, reads, capabilities, packages });
  return { requests, reads, writes, clock, denied };
}

/** Time passes while anyone sleeps. */
export class PassingClock extends TestClock {
  override async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.advance(ms);
    await super.sleep(ms, signal);
  }
}

/** The fake ghcr.io with a user who may do anything, and the clients of that user. */
export async function connectToGhcr(t: TestContext, options: { withApi?: boolean; switches?: Partial<Switches> } = {}) {
  const clock = new PassingClock();
  const ghcr: Ghcr = await startGhcr({ now: clock.now, switches: options.switches ?? {} });
  t.after(() => ghcr.close());
  const scopes = ['write:packages', 'delete:packages'];
  ghcr.addUser({ username: 'octocat', token: SECRET, scopes, packages: ['owner/*'] });
  const api = options.withApi ? { api: ghcr.apiUrl } : {};
  return { ghcr, ...connectTo(t, ghcr.url, { credentials: [CREDENTIAL], clock, ...api }) };
}

/** For assert.rejects: the code and the sentence of an error, which holds no secret. */
export function fails(code: ErrorCode, said: RegExp = /./) {
  return (error: unknown) => {
    assert.ok(error instanceof RegistryError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, said);
    assert.ok(!error.message.includes(SECRET));
    return true;
  };
}

/** Bytes to be sent, in chunks, and how often they were asked for. */
export function bytesToSend(bytes: Uint8Array, chunkBytes = 100_000) {
  const asked = { times: 0 };
  async function* send() {
    asked.times++;
    for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
  }
  return { send, asked };
}

/** The scopes of a token request. */
export function scopesIn(path: string | undefined): string[] {
  return new URL(path ?? assert.fail('no such request'), 'http://x').searchParams.getAll('scope');
}

export function tagsIn(ghcr: Ghcr, name = APP.name): Record<string, Digest> {
  return Object.fromEntries(ghcr.packages().find(each => each.name === name)?.tags ?? []);
}

export function manifestsIn(ghcr: Ghcr, name = APP.name): string[] {
  const found = ghcr.packages().find(each => each.name === name);
  return [...(found?.manifests.keys() ?? [])];
}

/** Short where tests wait for them to pass. */
export const DIAL_TIMEOUTS = { connectMs: 2_000, headersMs: 200, stallMs: 200, uploadMs: 2_000 };

/** A dialer, and a server for it that counts its connections. */
export async function dialTo(t: TestContext, listener: RequestListener) {
  const server = createServer(listener);
  let connections = 0;
  server.on('connection', () => connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const dialer = dialerOf(t, { timeouts: DIAL_TIMEOUTS, clock: systemClock });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  const dial = (signal?: AbortSignal, headers = {}) => dialer.dial({ method: 'GET', url, headers, signal });
  return { dialer, url, dial, connections: () => connections };
}
