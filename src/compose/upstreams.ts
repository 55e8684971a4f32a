// The upstreams of a configuration, each with a client for reads and one for writes over the same connections.
import { ExpiringCache } from '../base/expiring-cache.ts';
import { isPlainHttp } from '../config/host.ts';
import type { Config } from '../config/load.ts';
import type { UpstreamConfig } from '../config/sections/upstreams.ts';
import { type Credentials, changingCredentials, type OwnedCredential } from '../credentials/credential.ts';
import type { CredentialStore } from '../credentials/store.ts';
import type { Repository } from '../oci/reference.ts';
import { type WatchedUpstream, watchTokens } from '../operations/token-watch.ts';
import { LaggingUpstream, LaggingWrites } from '../pull/lagging-upstream.ts';
import type { LocalWrites } from '../pull/local-writes.ts';
import { UpstreamClient } from '../upstream/client.ts';
import { Packages } from '../upstream/github/packages.ts';
import { isGitHub } from '../upstream/github/profile.ts';
import { profileOf } from '../upstream/profile.ts';
import { Requests } from '../upstream/requests.ts';
import type { Timeouts } from '../upstream/transport/dialer.ts';
import type { Upstream, UpstreamWrites } from '../upstream/upstream.ts';
import type { Descriptors } from './descriptors.ts';
import type { Environment } from './environment.ts';

/** How long an upstream may take at least to answer a write, for which it may have to copy an upload. */
const UPLOAD_MS = 60_000;
/** How long a credential that was denied once is not complained about again. */
const DENIED_AGAIN_MS = 3_600_000;

export interface UpstreamDependencies {
  readonly localWrites: LocalWrites;
  readonly descriptors: Descriptors;
  readonly logins: CredentialStore;
}

interface Clients {
  readonly reads: Upstream;
  readonly writes: UpstreamWrites;
}

/** Contacts no upstream. `stack` owns the connections. */
export function createUpstreams(
  config: Config,
  environment: Environment,
  { localWrites, descriptors, logins }: UpstreamDependencies,
  stack: AsyncDisposableStack,
) {
  const clients = new Map<string, Clients>();
  const watched: WatchedUpstream[] = [];
  for (const [name, upstream] of config.upstreams) {
    const list = () => credentialsFor(name, upstream, logins);
    const credentials = changingCredentials(list, listener => logins.onChange(listener));
    const requests = requestsTo(name, upstream, credentials, environment);
    stack.defer(() => requests.close());
    descriptors.onShrink(() => requests.dialer.shrink());
    const { api, offline } = upstream;
    if (api !== undefined && !offline) watched.push({ name, api, dialer: requests.dialer, credentials: list });
    clients.set(name, createClients(requests, upstream, credentials, localWrites));
  }
  stack.defer(watchTokens(watched, environment.clock, environment.log));
  /** Throws when the repository's upstream is not configured, which is a bug: parsing checks it. */
  const clientsOf = ({ upstream }: Repository) => {
    const found = clients.get(upstream);
    if (found === undefined) throw new Error(`no upstream ${upstream}`);
    return found;
  };
  return {
    has: (host: string) => clients.has(host),
    default: config.default,
    // At GitHub; of other registries that is not known.
    ownersWithoutDots: isGitHub(config.default, config.upstreams.get(config.default)?.api),
    upstream: (repository: Repository): Upstream => clientsOf(repository).reads,
    writes: (repository: Repository): UpstreamWrites => clientsOf(repository).writes,
  };
}

/**
 * Who we are to an upstream, the first first: as the config has it; as `login` has kept it; as the environment has it.
 * `credentials: []` means to be no one.
 */
export function credentialsFor(
  name: string,
  { url, api, credentials, isUnwritten }: UpstreamConfig,
  logins: Pick<CredentialStore, 'of'>,
): readonly OwnedCredential[] {
  // The config has no credential that would go over plain HTTP to another machine, and a login must not either.
  const kept = isPlainHttp(url) || isPlainHttp(api) ? [] : logins.of(name);
  if (isUnwritten) return [...kept, ...credentials];
  return credentials.length === 0 ? [] : [...credentials, ...kept];
}

/** Requests to an upstream. Contacts nothing yet. */
export function requestsTo(
  name: string,
  config: UpstreamConfig,
  credentials: Credentials,
  { clock, log, random, timeouts }: Environment,
): Requests {
  const { url, offline, realms, ca, api } = config;
  const said = new ExpiringCache<true>({ clock, max: 1_000, ttlMs: DENIED_AGAIN_MS });
  credentials.onChange(() => said.clear());
  const { blobHosts: known } = profileOf(name, url, api);
  return new Requests({
    ...{ name, url, offline, realms, ca, api, credentials, clock, random },
    ...{ blobHosts: [...(known ?? []), ...config.blobHosts], onlyBlobHosts: known !== undefined },
    timeouts: timeouts ?? timeoutsOf(config),
    onDenied: (credential, message) => {
      if (said.get(credential)) return;
      said.set(credential, true);
      log.error({ upstream: name, credential }, `credential "${credential}" was denied: ${message}`);
    },
    onDown: (host, why) =>
      log.warn({ upstream: name, host }, `${host} is down, and is asked again each second: ${why}`),
    onUp: (host, awayMs) =>
      log.info({ upstream: name, host, awayMs }, `${host} is back, after ${(awayMs / 1000).toFixed(1)} s`),
  });
}

function createClients(
  requests: Requests,
  { url, api, parallel }: UpstreamConfig,
  credentials: Credentials,
  localWrites: LocalWrites,
): Clients {
  const { capabilities } = profileOf(requests.name, url, api);
  const { dialer, clock } = requests;
  const packages = api && new Packages({ credentials, clock, api, dialer });
  const reads = new LaggingUpstream(new UpstreamClient(requests, capabilities, parallel), localWrites);
  return { reads, writes: new LaggingWrites({ requests, reads, capabilities, packages }, localWrites) };
}

function timeoutsOf({ timeouts }: UpstreamConfig): Timeouts {
  const { connectMs, headersMs, stallMs } = timeouts;
  return { connectMs, headersMs, stallMs, uploadMs: Math.max(headersMs, UPLOAD_MS) };
}
