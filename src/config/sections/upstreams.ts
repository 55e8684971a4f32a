// `upstreams` and `default`: the registries that are fronted, by the host that requests name. ghcr.io is always one of
// them. What is not written follows from the host. A credential never goes over plain HTTP to another machine.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { fileProblem } from '../../base/file-problem.ts';
import { GHCR, isLookAlike, isPlainHttp, isUpstreamHost } from '../host.ts';
import type { KeyPath, Source } from '../source.ts';
import * as value from '../values.ts';
import { checkCredentials, credentials } from './credentials.ts';

export type UpstreamConfig = ReturnType<typeof checkUpstream>;

const upstream = value.section({
  /** An origin: no path, no user. */
  url: value.registryUrl.exactOptional(),
  /** The GitHub REST API, which deletes packages. */
  api: value.apiUrl.exactOptional(),
  /** The first whose owner pattern matches the repository's owner is used. */
  credentials,
  /** The most connections that one large blob is fetched over. */
  parallel: value.wholeNumber(1, 16).exactOptional(),
  /** Never contact it. */
  offline: value.flag.prefault(false),
  /** `host` or `host:port` of further token realms that may be told our credentials. */
  realms: value.list(value.realm).exactOptional(),
  /** `host`, `host:port` or `*.suffix` of further hosts that blobs may be redirected to. */
  blobHosts: value.list(value.blobHost).prefault([]),
  timeouts: value.section({
    connect: value.timeout.prefault('5s'),
    /** How long the first byte of an answer may take. */
    headers: value.timeout.prefault('60s'),
    /** How long a body may pause. */
    stall: value.timeout.prefault('30s'),
  }),
  /** A PEM file of further certificate authorities; its text once checked. */
  ca: value.path.exactOptional(),
});

export const upstreams = z.preprocess(withGhcr, z.record(z.string(), upstream, { error: 'is not a map of upstreams' }));

/** The upstream of requests that name none. */
export const defaultUpstream = value.text('a host').prefault(GHCR);

/** Where the upstreams are whose addresses do not follow from their names. */
const KNOWN: Record<string, { url: string; api?: string; realms?: string[]; parallel?: number }> = {
  [GHCR]: { url: 'https://ghcr.io', api: 'https://api.github.com', parallel: 4 },
  'docker.io': { url: 'https://registry-1.docker.io', realms: ['auth.docker.io'] },
};

/** By host. Throws ConfigError. */
export function checkUpstreams(
  written: z.output<typeof upstreams>,
  defaultHost: string,
  source: Source,
): ReadonlyMap<string, UpstreamConfig> {
  const checked = new Map(Object.entries(written).map(([host, each]) => [host, checkUpstream(host, each, source)]));
  if (checked.has(defaultHost)) return checked;
  const hosts = Object.keys(written).join(', ');
  throw source.error(['default'], `"${defaultHost}" is not one of the upstreams, which are ${hosts}`);
}

function checkUpstream(host: string, written: z.output<typeof upstream>, source: Source) {
  const keys = ['upstreams', host];
  if (!isUpstreamHost(host)) {
    const problem = 'write it in lower case and with a dot or a port, as in ghcr.io or registry:5000';
    throw source.error(keys, `not a host; ${problem}`);
  }
  rejectLookAlike(keys, host, source);
  for (const key of ['url', 'api'] as const) rejectLookAlike([...keys, key], written[key]?.host ?? '', source);
  for (const [i, realm] of (written.realms ?? []).entries()) rejectLookAlike([...keys, 'realms', i], realm, source);
  const known = KNOWN[host] ?? { url: `https://${host}` };
  const url = written.url ?? registryOf(written.api) ?? new URL(known.url);
  const api = written.api ?? apiOf(url) ?? (known.api ? new URL(known.api) : undefined);
  const checked = {
    ...written,
    url,
    api,
    credentials: checkCredentials(host, { ...written, api }, source),
    /** Whether they are those of the environment, since nothing is written about them. */
    isUnwritten: written.credentials === undefined,
    parallel: written.parallel ?? known.parallel ?? 1,
    realms: written.realms ?? known.realms ?? [],
    timeouts: {
      connectMs: written.timeouts.connect,
      headersMs: written.timeouts.headers,
      stallMs: written.timeouts.stall,
    },
    ca: written.ca === undefined ? undefined : readCertificate([...keys, 'ca'], written.ca, source),
  };
  const [credential] = checked.credentials;
  for (const key of ['url', 'api'] as const) {
    const url = checked[key];
    if (!credential || !url || !isPlainHttp(url)) continue;
    throw source.error(
      [...keys, key],
      `plain http would send the credential ${credential.name} unencrypted to ${url.host}; ` +
        'write https, or "credentials: []" to send none',
    );
  }
  return checked;
}

/**
 * The registry of the GitHub that has this API: of GitHub Enterprise Server, whose API is under /api/v3, and at ghe.com.
 * https://docs.github.com/en/enterprise-server/packages/working-with-a-github-packages-registry
 */
function registryOf(api: URL | undefined): URL | undefined {
  const [, subdomain] = GHE_API.exec(api?.origin ?? '') ?? [];
  if (subdomain !== undefined) return new URL(`https://containers.${subdomain}.ghe.com`);
  return api && /^\/api\/v3\/?$/.test(api.pathname) ? new URL(`${api.protocol}//containers.${api.host}`) : undefined;
}

/** The API of the GitHub that has this registry. A host named `containers` elsewhere may be anyone's. */
function apiOf(registry: URL): URL | undefined {
  const [, subdomain] = GHE_REGISTRY.exec(registry.origin) ?? [];
  return subdomain === undefined ? undefined : new URL(`https://api.${subdomain}.ghe.com`);
}

const GHE_API = /^https:\/\/api\.([a-z0-9-]+)\.ghe\.com$/;
const GHE_REGISTRY = /^https:\/\/containers\.([a-z0-9-]+)\.ghe\.com$/;

function rejectLookAlike(keys: KeyPath, host: string, source: Source): void {
  if (!isLookAlike(host)) return;
  throw source.error(keys, `${host} is not GitHub, and asks for logins that are meant for it; write ${GHCR}`);
}

function readCertificate(keys: KeyPath, path: string, source: Source): string {
  const file = source.resolve(path);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw source.error(keys, `${file}: ${fileProblem(error)}`);
  }
  try {
    new X509Certificate(text);
    return text;
  } catch {
    throw source.error(keys, `${file} holds no certificate in PEM format`);
  }
}

function withGhcr(input: unknown): unknown {
  if (input === undefined || input === null) return { [GHCR]: {} };
  return typeof input === 'object' && !Array.isArray(input) ? { [GHCR]: {}, ...input } : input;
}
