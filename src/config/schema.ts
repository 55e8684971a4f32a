// What a config file may say, and what the rest of the program gets to see of it. First the result: the
// types that other rooms import, with every default filled in, every unit in the name and every path
// absolute. Then the keys of the file, with their defaults as a person would write them. The schema checks
// each value by itself; what values mean to each other, and to the disk, is load.ts.
import { z } from 'zod';
import type { OwnedCredential } from '../credentials/credential.ts';
import * as value from './values.ts';

export interface Config {
  readonly listen: ListenConfig;
  /** Absolute path of the data directory. */
  readonly data: string;
  readonly cache: CacheConfig;
  /** By the host as it is written in requests, e.g. `ghcr.io`. */
  readonly upstreams: ReadonlyMap<string, UpstreamConfig>;
  /** The key in `upstreams` of requests that name none. */
  readonly default: string;
  /** The first that matches wins; the last matches everything. */
  readonly tags: readonly TagRule[];
  /** How old a tag's answer may be when its upstream fails; 0: never serve stale. */
  readonly staleIfErrorMs: number;
  readonly push: 'through' | 'off';
  readonly access: AccessConfig;
  /** Images that are never evicted. */
  readonly pins: readonly string[];
  readonly mirror: readonly MirrorRule[];
  readonly log: { readonly level: LogLevel };
  /** The file it came from, as it was named; absent when there was none. */
  readonly file?: string;
}

export interface ListenConfig {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** Absolute paths of PEM files. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly clientCa?: string };
  /** Processes on one data directory. */
  readonly workers: number | 'auto';
}

export interface CacheConfig {
  /** Infinity when there is no cap. */
  readonly maxSizeBytes: number;
  /** To leave free on the disk. */
  readonly minFreeBytes: number;
  /** Content that nobody pulled for so long is dropped. */
  readonly unusedForMs?: number;
  /** How often content on disk is hashed again. */
  readonly verifyEveryMs?: number;
}

export interface UpstreamConfig {
  readonly host: string;
  /** An origin: no path, no user. */
  readonly url: URL;
  /** The GitHub REST API, for token checks and package deletes. */
  readonly api?: URL;
  /** The first whose owner pattern matches the repository's owner is the one to use. */
  readonly credentials: readonly OwnedCredential[];
  /** Never contact it. */
  readonly offline: boolean;
  /** `host` or `host:port` of further token realms that may be told our credentials. */
  readonly realms: readonly string[];
  /** Connections for one large blob. */
  readonly parallel: number;
  /** PEM text of further certificate authorities. */
  readonly ca?: string;
}

export interface TagRule {
  /** A glob over the tag. */
  readonly match: string;
  /** A glob over the repository name; absent: any. */
  readonly images?: string;
  /** How long a tag is served without asking; Infinity: for ever. */
  readonly freshMs: number;
  /** Whether a tag that is gone upstream is still served. */
  readonly keepDeleted: boolean;
}

export interface AccessConfig {
  readonly mode: 'open' | 'basic' | 'upstream';
  /** Open mode is wanted on an address that is not loopback. */
  readonly network: boolean;
  /** Absolute path. */
  readonly htpasswd?: string;
  readonly rules?: readonly AccessRule[];
  /** How long a yes of the upstream counts. */
  readonly rememberMs: number;
  /** Who may use the dashboard, /api and /metrics; absent: loopback clients in open mode, else nobody. */
  readonly admin?: readonly string[];
}

export interface AccessRule {
  readonly users: readonly string[];
  /** A glob over the repository name. */
  readonly repositories: string;
  readonly allow: readonly ('pull' | 'push' | 'delete')[];
}

export interface MirrorRule {
  readonly image: string;
  /** A glob over the tag. */
  readonly tags: string;
  /** Only so many of the newest. */
  readonly latest?: number;
  /** As in `linux/amd64`; absent: all. */
  readonly platforms?: readonly string[];
  /** A cron expression. */
  readonly schedule?: string;
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

/** The upstream that is always there, and the one that environment variables hold a credential for. */
export const GHCR = 'ghcr.io';

// The keys of the file. `prefault` gives a default as it would be written.

const listen = section({
  host: value.listenHost.prefault('127.0.0.1'),
  port: value.wholeNumber(0, 65535).prefault(5000),
  tls: section({ cert: value.path, key: value.path, clientCa: value.path.exactOptional() }).exactOptional(),
  workers: value.workers.prefault(1),
});

const cache = section({
  maxSize: value.cap.prefault('50GiB'),
  minFree: value.size.prefault('2GiB'),
  unusedFor: value.durationOrNone.prefault('none'),
  verifyEvery: value.durationOrNone.prefault('none'),
}).transform(({ maxSize, minFree, unusedFor, verifyEvery }) => ({
  maxSizeBytes: maxSize,
  minFreeBytes: minFree,
  ...(Number.isFinite(unusedFor) && { unusedForMs: unusedFor }),
  ...(Number.isFinite(verifyEvery) && { verifyEveryMs: verifyEvery }),
}));

const credential = section({
  name: value.text('a name').exactOptional(),
  owner: value.ownerGlob.prefault('*'),
  username: value.username.exactOptional(),
  token: value.secret.exactOptional(),
  tokenFile: value.path.exactOptional(),
});

const upstream = section({
  url: value.registryUrl.exactOptional(),
  api: value.apiUrl.exactOptional(),
  credentials: z
    .preprocess(
      input => (input === 'docker' ? ['docker'] : input),
      list(z.union([z.literal('docker'), credential]), 'is not a list of credentials, nor the word docker'),
    )
    .exactOptional(),
  offline: value.flag.prefault(false),
  realms: list(value.realm).exactOptional(),
  parallel: value.wholeNumber(1, 16).prefault(1),
  ca: value.path.exactOptional(),
});

const tagRule = section({
  match: value.tagGlob.prefault('*'),
  images: value.nameGlob.exactOptional(),
  fresh: value.freshness.prefault('60s'),
  keepDeleted: value.flag.prefault(false),
}).transform(({ fresh, ...rest }) => ({ ...rest, freshMs: fresh }));

const accessRule = section({
  users: list(value.username),
  repositories: value.nameGlob,
  allow: list(value.oneOf('pull', 'push', 'delete')),
});

const access = section({
  mode: value.oneOf('open', 'basic', 'upstream').prefault('open'),
  network: value.flag.prefault(false),
  htpasswd: value.path.exactOptional(),
  rules: list(accessRule).exactOptional(),
  remember: value.duration.prefault('5m'),
  admin: list(value.username).exactOptional(),
}).transform(({ remember, ...rest }) => ({ ...rest, rememberMs: remember }));

const mirrorRule = section({
  image: value.image,
  tags: value.tagGlob.prefault('*'),
  latest: value.wholeNumber(1, 1_000_000).exactOptional(),
  platforms: list(value.text('a platform')).exactOptional(),
  schedule: value.text('a schedule').exactOptional(),
});

/** A whole config file, as plain values. */
export const settingsSchema = section({
  listen,
  data: value.path.prefault('./data'),
  cache,
  upstreams: z.preprocess(withGhcr, z.record(z.string(), upstream, { error: 'is not a map of upstreams' })),
  default: value.text('a host').prefault(GHCR),
  tags: list(tagRule).prefault([{}]),
  staleIfError: value.duration.prefault('30d'),
  push: value.oneOf('through', 'off').prefault('through'),
  access,
  pins: list(value.image).prefault([]),
  mirror: list(mirrorRule).prefault([]),
  log: section({
    level: value.oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent').prefault('info'),
  }),
});

export type Settings = z.output<typeof settingsSchema>;
export type UpstreamSettings = z.output<typeof upstream>;
export type CredentialSettings = z.output<typeof credential>;

/** A map of known keys. One that is left empty, as when all its lines are comments, holds its defaults. */
function section<T extends z.core.$ZodLooseShape>(shape: T) {
  const known = Object.keys(shape);
  return z.preprocess(
    input => input ?? {},
    z.strictObject(shape, {
      error: issue =>
        issue.code === 'unrecognized_keys'
          ? unknownKey(issue.keys[0] ?? '', known)
          : `is not a map; it may have the keys ${known.join(', ')}`,
    }),
  );
}

function list<T extends z.core.SomeType>(item: T, problem = 'is not a list') {
  return z.array(item, { error: problem });
}

function withGhcr(input: unknown): unknown {
  if (input === undefined || input === null) return { [GHCR]: {} };
  return typeof input === 'object' && !Array.isArray(input) ? { [GHCR]: {}, ...input } : input;
}

function unknownKey(key: string, known: readonly string[]): string {
  const near = nearest(key, known);
  return near ? `unknown key; did you mean ${near}?` : `unknown key; known here are ${known.join(', ')}`;
}

/** The one of `known` that `key` is most likely a slip of the pen for, if any is near enough. */
function nearest(key: string, known: readonly string[]): string | undefined {
  const limit = Math.max(1, Math.floor(key.length / 3));
  const [best] = known
    .map(name => ({ name, distance: editDistance(key.toLowerCase(), name.toLowerCase()) }))
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance);
  return best?.name;
}

/** Levenshtein's, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
