// The upstreams of a configuration, each with a client for reads and one for writes over the same connections.
import { ExpiringCache } from '../base/expiring-cache.ts';
import type { Config } from '../config/load.ts';
import type { UpstreamConfig } from '../config/sections/upstreams.ts';
import { credentialsOf } from '../credentials/credential.ts';
import type { Repository } from '../oci/reference.ts';
import { LaggingUpstream, LaggingWrites } from '../pull/lagging-upstream.ts';
import type { LocalWrites } from '../pull/local-writes.ts';
import { UpstreamClient } from '../upstream/client.ts';
import { Packages } from '../upstream/github/packages.ts';
import { GITHUB_CAPABILITIES, isGitHub } from '../upstream/github/profile.ts';
import { Requests } from '../upstream/requests.ts';
import { SPEC_CAPABILITIES, type Upstream, type UpstreamWrites } from '../upstream/upstream.ts';
import type { Environment } from './environment.ts';

/** How long a credential that was denied once is not complained about again. */
const DENIED_AGAIN_MS = 3_600_000;

/** Contacts no upstream. `stack` owns the connections. */
export function createUpstreams(
  config: Config,
  environment: Environment,
  localWrites: LocalWrites,
  stack: AsyncDisposableStack,
) {
  const clients = new Map(
    [...config.upstreams].map(([name, upstream]) => [
      name,
      createClients(name, upstream, environment, localWrites, stack),
    ]),
  );
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

function createClients(
  name: string,
  config: UpstreamConfig,
  { clock, log, random, timeouts }: Environment,
  localWrites: LocalWrites,
  stack: AsyncDisposableStack,
) {
  const { url, offline, realms, ca, api } = config;
  const credentials = credentialsOf(config.credentials);
  const said = new ExpiringCache<true>({ clock, max: 1_000, ttlMs: DENIED_AGAIN_MS });
  const requests = new Requests({
    ...{ name, url, offline, realms, ca, credentials, clock, random },
    ...(timeouts && { timeouts }),
    onDenied: (credential, message) => {
      if (said.get(credential)) return;
      said.set(credential, true);
      log.error({ upstream: name, credential }, `credential "${credential}" was denied: ${message}`);
    },
  });
  stack.defer(() => requests.close());
  const packages = api && new Packages({ credentials, clock, api, dialer: requests.dialer });
  const capabilities = isGitHub(name, api) ? GITHUB_CAPABILITIES : SPEC_CAPABILITIES;
  const reads = new LaggingUpstream(new UpstreamClient(requests), localWrites);
  return { reads, writes: new LaggingWrites({ requests, reads, capabilities, packages }, localWrites) };
}
