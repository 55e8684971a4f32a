// `ghcr-cache serve`: the composition root. It alone names implementations and puts the rooms together, from
// the disk up to the port, and takes them apart again when the process is asked to leave.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { type Clock, systemClock } from '../clock.ts';
import { matcherOf } from '../config/glob.ts';
import { assertServable, loadConfig } from '../config/load.ts';
import type { Config, Credential as ConfigCredential, UpstreamConfig } from '../config/schema.ts';
import { DiskContent } from '../content/disk.ts';
import { createApp } from '../http/app.ts';
import { pumpBuffers } from '../http/outlet.ts';
import { loadSendfile } from '../http/sendfile.ts';
import { type RunningServer, startServer } from '../http/server.ts';
import { zerocopy } from '../http/zerocopy.ts';
import type { Log } from '../log.ts';
import { SqliteMetadata } from '../metadata/sqlite.ts';
import type { Repository } from '../oci/reference.ts';
import { Blobs } from '../pull/blob.ts';
import { Manifests } from '../pull/manifest.ts';
import { Referrers } from '../pull/referrers.ts';
import { type TagDependencies, Tags } from '../pull/tag.ts';
import { TagLists } from '../pull/tag-list.ts';
import { Turns } from '../pull/turns.ts';
import { Deletes } from '../push/delete.ts';
import { ManifestPushes } from '../push/manifest.ts';
import { Subjects } from '../push/subject.ts';
import { Uploads } from '../push/upload.ts';
import { Budget } from '../space/budget.ts';
import { UpstreamClient } from '../upstream/client.ts';
import type { Timeouts } from '../upstream/dial.ts';
import { Packages } from '../upstream/packages.ts';
import { Requests, type UpstreamOptions } from '../upstream/requests.ts';
import type { Credential } from '../upstream/tokens.ts';
import { WriteClient } from '../upstream/writes.ts';
import { lockData } from './lock.ts';
import { parseOptions } from './usage.ts';
import { version } from './version.ts';

/** How long running answers may take to finish when the process is asked to leave; docker kills after 10 s. */
const GRACE_MS = 8_000;
/** How often uploads that were abandoned are looked for. */
const SWEEP_MS = 60_000;

export async function serve(args: string[]): Promise<void> {
  const options = parseOptions(args);
  const config = loadConfig({ ...options, env: process.env, cwd: process.cwd() });
  assertServable(config);
  // Logs go to stderr; stdout has the one line that says where the server is.
  const log = pino(
    {
      level: config.log.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: level => ({ level }) },
    },
    pino.destination(2),
  );
  const sendfile = process.env.GHCR_CACHE_SENDFILE !== 'off';
  const cache = await startCache(config, { clock: systemClock, log, sendfile });
  process.stdout.write(`${describe(config, cache.server)}\n`);
  leaveOnSignal(cache, log);
}

export interface RunningCache {
  readonly server: RunningServer;
  /** Resolves when all that is coming in is kept or gone: a client has its answer a moment before that. */
  settled(): Promise<void>;
  /** Lets running answers finish within `graceMs`, then closes everything. */
  stop(graceMs: number): Promise<void>;
}

/**
 * Puts a cache together from its configuration and starts it. Contacts no upstream. `sendfile` is whether bodies may
 * be sent so, where that can be done; true unless it is said.
 */
export async function startCache(
  config: Config,
  environment: { clock: Clock; log: Log; timeouts?: Timeouts; sendfile?: boolean },
): Promise<RunningCache> {
  const { clock, log } = environment;
  const leaving = new AbortController();

  mkdirSync(config.data, { recursive: true });
  const unlock = lockData(config.data);
  const content = await DiskContent.open(config.data);
  const metadata = await SqliteMetadata.open(join(config.data, 'metadata.db'), {
    clock,
    content: () => content.list(),
    onDamaged: (movedTo, reason) =>
      log.error(
        { movedTo },
        `metadata.db is damaged (${reason}): moved aside, and rebuilt from content/ and the upstreams`,
      ),
  });
  const pinned = config.pins.map(pin => repositoryOf(pin, config));
  const budget = await Budget.open({ content, metadata, pinned, ...config.cache });

  const clients = new Map<string, ReturnType<typeof connect>>();
  for (const [name, upstream] of config.upstreams) {
    clients.set(name, connect({ ...upstreamOptions(name, upstream, log), ...environment }, upstream.api));
  }
  const client = (repository: Repository) => {
    const found = clients.get(repository.upstream);
    if (found === undefined) throw new Error(`no upstream ${repository.upstream}`);
    return found;
  };
  const upstream = (repository: Repository) => client(repository).reads;
  const writes = (repository: Repository) => client(repository).writes;
  const { staleIfErrorMs } = config;
  const common = {
    ...{ content, metadata, budget, clock, log, upstream, writes, staleIfErrorMs },
    turns: new Turns(),
    signal: leaving.signal,
  };

  const blobs = new Blobs(common);
  const manifests = new Manifests(common);
  const rule = tagRuleOf(config);
  const tags = new Tags({ ...common, manifests, rule });
  const tagLists = new TagLists(common);
  const referrers = new Referrers({ ...common, tags });

  const uploads = await Uploads.open({ ...common, blobs });
  const subjects = new Subjects({ ...common, manifests, tags, referrers });
  const pushing = { ...common, uploads, manifests, tags, tagLists, subjects };
  const sweeping = setInterval(() => void uploads.sweep().catch(() => {}), SWEEP_MS).unref();

  const sendfile =
    environment.sendfile === false
      ? undefined
      : await loadSendfile(why => log.info({}, `blobs are sent through buffers: ${why}`));

  const app = createApp({
    upstreams: { has: host => clients.has(host), default: config.default },
    ...{ blobs, manifests, tags, tagLists, referrers },
    repositories: () => metadata.repositories(),
    pump: sendfile === undefined ? pumpBuffers : zerocopy(sendfile),
    pushesOff: config.push === 'off',
    uploads,
    manifestPushes: new ManifestPushes(pushing),
    deletes: new Deletes(pushing),
    clock,
    log,
    ready: async () => {
      await metadata.check();
      await content.check();
    },
  });
  const server = await startServer(app, config.listen);

  return {
    server,
    settled: async () => {
      await Promise.all([blobs.settled(), uploads.settled()]);
    },
    stop: async graceMs => {
      clearInterval(sweeping);
      await server.stop(graceMs);
      leaving.abort(new Error('the server is leaving'));
      await Promise.all([blobs.settled(), uploads.settled()]);
      await Promise.all([...clients.values()].map(({ close }) => close()));
      await metadata.close();
      unlock();
    },
  };
}

/** One upstream, to be read from and written to over the same connections. */
function connect(options: UpstreamOptions, api: URL | undefined) {
  const requests = new Requests(options);
  const { dialer } = requests;
  const packages = api && new Packages({ ...options, api, dialer });
  const reads = new UpstreamClient(requests);
  return {
    reads,
    writes: new WriteClient(requests, reads, packages),
    close: () => requests.close(),
  };
}

function upstreamOptions(name: string, config: UpstreamConfig, log: Log) {
  return {
    name,
    url: config.url,
    offline: config.offline,
    realms: config.realms,
    credentials: config.credentials.map(credentialOf),
    ca: config.ca,
    random: Math.random,
    onRefused: (credential: string, message: string) =>
      log.error({ upstream: name, credential }, `credential "${credential}" is refused: ${message}`),
  };
}

function credentialOf(credential: ConfigCredential): Credential {
  return {
    name: credential.name,
    matches: matcherOf(credential.owner),
    read: async () => {
      const secret = await credential.read();
      return { username: credential.username, secret };
    },
  };
}

/** The first rule that matches. */
function tagRuleOf(config: Config): TagDependencies['rule'] {
  const rules = config.tags.map(rule => ({
    rule,
    matchesTag: matcherOf(rule.match),
    matchesName: matcherOf(rule.images ?? '*'),
  }));
  return ({ name }, tag) =>
    rules.find(({ matchesTag, matchesName }) => matchesTag(tag) && matchesName(name))?.rule ?? {
      freshMs: 0,
      keepDeleted: false,
    };
}

/** The repository of an image as a person writes it, `[host/]owner/image[:tag|@digest]`. */
function repositoryOf(image: string, config: Config): Repository {
  const name = image.replace(/@.*$/, '').replace(/:[^/:]*$/, '');
  const slash = name.indexOf('/');
  const host = name.slice(0, Math.max(0, slash));
  return config.upstreams.has(host)
    ? { upstream: host, name: name.slice(slash + 1) }
    : { upstream: config.default, name };
}

function describe(config: Config, server: RunningServer): string {
  const { address, family, port } = server.address;
  const host = family === 'IPv6' ? `[${address}]` : address;
  const upstreams = [...config.upstreams].map(([name, { credentials, offline }]) => {
    const names = credentials.map(credential => `"${credential.name}"`).join(', ');
    const how = offline ? 'offline' : names === '' ? 'anonymously' : `with credential ${names}`;
    return `${name} (${how}${name === config.default && config.upstreams.size > 1 ? ', default' : ''})`;
  });
  return `ghcr-cache ${version} listens on http://${host}:${port}, keeps its data in ${config.data}, and pulls from ${upstreams.join(', ')}`;
}

/** The first signal lets answers finish, the second does not. */
function leaveOnSignal(cache: RunningCache, log: Log): void {
  let leaving = false;
  const leave = (signal: NodeJS.Signals) => {
    if (leaving) process.exit(1);
    leaving = true;
    log.info(
      { signal },
      `leaving: running answers have ${GRACE_MS / 1000} s to finish; a second signal ends them now`,
    );
    cache.stop(GRACE_MS).then(
      () => process.exit(0),
      error => {
        log.error({ err: error }, 'leaving failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', leave);
  process.on('SIGINT', leave);
}
