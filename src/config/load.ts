// From a config file, or none, to a Config that holds together: reads, checks, merges with the defaults.
// Everything that can be known to be wrong is refused here, at start, with one ConfigError. Relative paths
// are relative to the folder of the config file; without one, to the working directory. `assertServable`
// refuses what is a valid config but beyond this version, where to ignore it would be unsafe.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { z } from 'zod';
import { fileProblem } from '../base/file-problem.ts';
import type { OwnedCredential } from '../credentials/credential.ts';
import { dockerCredential } from '../credentials/docker.ts';
import {
  ANY_USERNAME,
  environmentCredentials,
  fileCredential,
  fixedCredential,
} from '../credentials/sources.ts';
import { isLoopback, isUpstreamHost } from './host.ts';
import {
  type AccessConfig,
  type Config,
  type CredentialSettings,
  GHCR,
  type ListenConfig,
  type Settings,
  settingsSchema,
  type TagRule,
  type UpstreamConfig,
  type UpstreamSettings,
} from './schema.ts';
import { ConfigError, type KeyPath, NO_SOURCE, readSource, type Source } from './source.ts';

export { ConfigError } from './source.ts';

export interface LoadOptions {
  /** Absent: the defaults. */
  readonly file?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** The working directory. */
  readonly cwd: string;
}

/** Where upstreams are whose address does not follow from their name. */
const KNOWN_UPSTREAMS: Record<string, { url: string; api?: string; realms?: readonly string[] }> = {
  [GHCR]: { url: 'https://ghcr.io', api: 'https://api.github.com' },
  'docker.io': { url: 'https://registry-1.docker.io', realms: ['auth.docker.io'] },
};

/** What holds for a tag that no rule matches. */
const LAST_TAG_RULE: TagRule = { match: '*', freshMs: 60_000, keepDeleted: false };

/** For errors about a config that comes after it was loaded. */
const sources = new WeakMap<Config, Source>();

/** Throws ConfigError. */
export function loadConfig({ file, env, cwd }: LoadOptions): Config {
  const path = file === undefined ? undefined : resolve(cwd, file);
  const source = file === undefined || path === undefined ? NO_SOURCE : readSource(path, file, env);
  const loading = { source, env, folder: path === undefined ? cwd : dirname(path) };
  const settings = parseSettings(source);
  const config: Config = {
    listen: listenConfig(settings, loading),
    data: resolve(loading.folder, settings.data),
    cache: settings.cache,
    upstreams: upstreamConfigs(settings, loading),
    default: settings.default,
    tags: tagRules(settings, loading),
    staleIfErrorMs: settings.staleIfError,
    push: settings.push,
    access: accessConfig(settings, loading),
    pins: pins(settings, loading),
    mirror: settings.mirror,
    log: settings.log,
    ...(file !== undefined && { file }),
  };
  sources.set(config, source);
  return config;
}

/**
 * Throws ConfigError when `config` asks for what this version does not do and what may not be ignored: somebody
 * relies on it to keep others out, or would see it silently not happen.
 */
export function assertServable(config: Config): void {
  const { listen, access, mirror } = config;
  const beyond: [isBeyond: boolean, keys: KeyPath, what: string][] = [
    [access.mode !== 'open', ['access', 'mode'], `access mode ${access.mode}`],
    [access.admin !== undefined, ['access', 'admin'], 'a list of administrators'],
    [listen.tls !== undefined, ['listen', 'tls'], 'TLS'],
    [listen.workers !== 1, ['listen', 'workers'], 'more than one process'],
    [mirror.length > 0, ['mirror'], 'mirroring'],
  ];
  for (const [isBeyond, keys, what] of beyond) {
    if (!isBeyond) continue;
    const source = sources.get(config) ?? NO_SOURCE;
    throw source.error(
      keys,
      `this version cannot serve with ${what} yet; take the key out if it may go without`,
    );
  }
}

interface Loading {
  readonly source: Source;
  readonly env: NodeJS.ProcessEnv;
  /** What paths are relative to. */
  readonly folder: string;
}

function parseSettings(source: Source): Settings {
  const result = settingsSchema.safeParse(source.value ?? {});
  if (result.success) return result.data;
  // People mend a file from the top.
  const [first] = result.error.issues
    .flatMap(innermost)
    .map(issue => issueError(issue, source))
    .sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
  throw first;
}

/** Of a union, what its last alternative says. */
function innermost(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const inner = issue.errors.at(-1) ?? [];
  return inner.map(each => ({ ...each, path: [...issue.path, ...each.path] }));
}

function issueError(issue: z.core.$ZodIssue, source: Source): ConfigError {
  const { path, message } = issue;
  if (issue.code === 'unrecognized_keys') return source.error([...path, ...issue.keys.slice(0, 1)], message);
  const value = mayBeSecret(path) ? 'the value' : source.quote(path);
  return source.error(path, value === undefined ? 'missing' : `${value} ${message}`);
}

/** A token, or what stands where people may put one by mistake. */
function mayBeSecret(path: KeyPath): boolean {
  return path.at(-1) === 'token' || path.slice(-2).includes('credentials');
}

function listenConfig({ listen }: Settings, loading: Loading): ListenConfig {
  const { tls, ...rest } = listen;
  if (tls === undefined) return rest;
  const path = (key: 'cert' | 'key' | 'clientCa', value: string) => {
    readText(['listen', 'tls', key], value, loading);
    return resolve(loading.folder, value);
  };
  return {
    ...rest,
    tls: {
      cert: path('cert', tls.cert),
      key: path('key', tls.key),
      ...(tls.clientCa !== undefined && { clientCa: path('clientCa', tls.clientCa) }),
    },
  };
}

function upstreamConfigs(settings: Settings, loading: Loading): ReadonlyMap<string, UpstreamConfig> {
  const upstreams = new Map<string, UpstreamConfig>();
  for (const [host, upstream] of Object.entries(settings.upstreams)) {
    upstreams.set(host, upstreamConfig(host, upstream, loading));
  }
  if (upstreams.has(settings.default)) return upstreams;
  const known = [...upstreams.keys()].join(', ');
  throw loading.source.error(
    ['default'],
    `"${settings.default}" is not one of the upstreams, which are ${known}`,
  );
}

function upstreamConfig(host: string, settings: UpstreamSettings, loading: Loading): UpstreamConfig {
  const { source } = loading;
  const keys = ['upstreams', host];
  if (!isUpstreamHost(host)) {
    throw source.error(
      keys,
      'not a host; write it in lower case and with a dot or a port, as in ghcr.io or registry:5000',
    );
  }
  const known = KNOWN_UPSTREAMS[host];
  const { offline, parallel } = settings;
  const url = settings.url ?? new URL(known?.url ?? `https://${host}`);
  const api = settings.api ?? (known?.api === undefined ? undefined : new URL(known.api));
  const credentials = credentialsOf(host, settings, loading);
  refuseClearText([...keys, 'url'], url, credentials, source);
  if (api) refuseClearText([...keys, 'api'], api, credentials, source);
  return {
    host,
    url,
    ...(api && { api }),
    credentials,
    offline,
    realms: settings.realms ?? known?.realms ?? [],
    parallel,
    ...(settings.ca !== undefined && { ca: readCertificates([...keys, 'ca'], settings.ca, loading) }),
  };
}

function refuseClearText(
  keys: KeyPath,
  url: URL,
  [credential]: readonly OwnedCredential[],
  source: Source,
): void {
  if (credential === undefined || url.protocol === 'https:' || isLoopback(url.hostname)) return;
  throw source.error(
    keys,
    `plain http would send the credential ${credential.name} readable to ${url.host}; ` +
      'write https, or "credentials: []" to go without',
  );
}

function credentialsOf(
  host: string,
  settings: UpstreamSettings,
  loading: Loading,
): readonly OwnedCredential[] {
  if (settings.credentials === undefined)
    return host === GHCR ? environmentCredentials(loading.env, environmentError) : [];
  const names = new Set<string>();
  return settings.credentials.map((item, i) => {
    const keys = ['upstreams', host, 'credentials', i];
    const credential =
      item === 'docker'
        ? dockerCredential(host, loading.env, problem => loading.source.error(keys, problem))
        : writtenCredential(host, item, keys, loading);
    if (names.has(credential.name)) {
      throw loading.source.error(
        keys,
        `two credentials are called ${credential.name}; logs could not tell them apart`,
      );
    }
    names.add(credential.name);
    return credential;
  });
}

function environmentError(key: string, problem: string): ConfigError {
  return new ConfigError(problem, { file: 'environment', key });
}

function writtenCredential(
  host: string,
  item: CredentialSettings,
  keys: KeyPath,
  loading: Loading,
): OwnedCredential {
  const { source, folder } = loading;
  const { token, tokenFile } = item;
  if (item.username === undefined && host !== GHCR) throw source.error([...keys, 'username'], 'missing');
  const identity = {
    name: item.name ?? `credential ${Number(keys.at(-1)) + 1}`,
    owner: item.owner,
    username: item.username ?? ANY_USERNAME,
  };
  if (token !== undefined && tokenFile !== undefined)
    throw source.error(keys, 'token and tokenFile exclude each other');
  if (token !== undefined) {
    return fixedCredential(identity, token, problem => source.error([...keys, 'token'], problem));
  }
  if (tokenFile === undefined) throw source.error(keys, 'a credential needs a token or a tokenFile');
  const complain = (problem: string) => source.error([...keys, 'tokenFile'], problem);
  return fileCredential(identity, resolve(folder, tokenFile), complain);
}

function tagRules({ tags }: Settings, { source }: Loading): readonly TagRule[] {
  if (tags.length === 0)
    throw source.error(
      ['tags'],
      'an empty list says nothing about any tag; take the key out for the default',
    );
  const isTotal = ({ match, images }: TagRule) => match === '*' && images === undefined;
  return tags.some(isTotal) ? tags : [...tags, LAST_TAG_RULE];
}

function accessConfig({ access, listen }: Settings, loading: Loading): AccessConfig {
  const { source } = loading;
  const { htpasswd, ...rest } = access;
  if (access.mode === 'open' && !access.network && !isLoopback(listen.host)) {
    throw source.error(
      ['listen', 'host'],
      `${listen.host} is not loopback, and in open mode everybody who reaches it can use your credentials; ` +
        'write "access: { network: true }" if they all may',
    );
  }
  if (access.mode === 'basic' && htpasswd === undefined) {
    throw source.error(['access', 'mode'], 'basic needs a file of users in access.htpasswd');
  }
  for (const key of ['htpasswd', 'rules'] as const) {
    if (access.mode !== 'basic' && access[key] !== undefined) {
      throw source.error(
        ['access', key],
        `keeps nobody out in mode ${access.mode}; write "mode: basic", or take it out`,
      );
    }
  }
  if (htpasswd === undefined) return rest;
  readText(['access', 'htpasswd'], htpasswd, loading);
  return { ...rest, htpasswd: resolve(loading.folder, htpasswd) };
}

function pins({ pins, upstreams }: Settings, { source }: Loading): readonly string[] {
  for (const [i, pin] of pins.entries()) {
    const host = pin.slice(0, Math.max(0, pin.indexOf('/')));
    if (isUpstreamHost(host) && !Object.hasOwn(upstreams, host)) {
      throw source.error(['pins', i], `"${pin}" is of ${host}, which is not one of the upstreams`);
    }
  }
  return pins;
}

function readCertificates(keys: KeyPath, path: string, loading: Loading): string {
  const text = readText(keys, path, loading);
  try {
    new X509Certificate(text);
    return text;
  } catch {
    throw loading.source.error(keys, `${resolve(loading.folder, path)} holds no certificate in PEM format`);
  }
}

function readText(keys: KeyPath, path: string, { folder, source }: Loading): string {
  const absolute = resolve(folder, path);
  try {
    return readFileSync(absolute, 'utf8');
  } catch (error) {
    throw source.error(keys, `${absolute}: ${fileProblem(error)}`);
  }
}
