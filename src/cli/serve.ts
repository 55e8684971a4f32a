// `ghcr-cache serve`: runs a cache until a signal stops it. Logs go to stderr; stdout has the one line that says where
// the cache is.
import { systemClock, systemRandom } from '../base/clock.ts';
import { version } from '../base/version.ts';
import { type RunningCache, startCache } from '../compose/cache.ts';
import type { Config } from '../config/load.ts';
import { openLog } from './log.ts';
import { trimMemory } from './memory.ts';
import { type Command, type Options, parseOptions, UsageError } from './options.ts';
import { configAt, PLACE } from './place.ts';
import { stopInTime } from './shutdown.ts';

const OPTIONS = {
  ...PLACE,
  port: { type: 'string', value: 'N', help: ['in place of listen.port; 0: any free port'] },
  'check-config': {
    type: 'boolean',
    help: ['say what it would do, or what is wrong with the configuration, and end'],
  },
} as const satisfies Options;

export const serve: Command = {
  summary: 'serve the registry API to clients until stopped',
  options: OPTIONS,
  async run(args, { print }) {
    const { port, 'check-config': isCheck = false, ...place } = parseOptions(args, OPTIONS);
    const config = withPort(configAt(place), port);
    if (isCheck) {
      print(`${place.config ?? 'the configuration'} is fine: ${planLine(config)}`);
      return;
    }
    const log = openLog(config);
    const sendfile = process.env.GHCR_CACHE_SENDFILE !== 'off';
    const cache = await startCache(config, { clock: systemClock, random: systemRandom, log, sendfile });
    await trimMemory(systemClock);
    // Before the line is printed: whatever reads it may send a signal at once.
    stopInTime(cache, log, systemClock);
    print(startLine(config, cache));
  },
};

/** Throws UsageError. */
function withPort(config: Config, port: string | undefined): Config {
  if (port === undefined) return config;
  if (!(/^\d{1,5}$/.test(port) && Number(port) <= 65535)) {
    throw new UsageError(`--port ${JSON.stringify(port)} is not a port: a whole number from 0 to 65535`);
  }
  return { ...config, listen: { ...config.listen, port: Number(port) } };
}

function startLine(config: Config, { server, credentialNames }: RunningCache): string {
  const { address, port } = server.address;
  const where = `listens on ${urlOf(address, port)}, keeps its data in ${config.data}`;
  return `ghcr-cache ${version} ${where}, and pulls from ${upstreamsOf(config, credentialNames)}`;
}

/** The same of what is not started. */
function planLine(config: Config): string {
  const { host, port } = config.listen;
  const address = port === 0 ? `any free port of ${host}` : urlOf(host, port);
  const where = `would listen on ${address}, keep its data in ${config.data}`;
  const named: RunningCache['credentialNames'] = (_, { credentials }) => credentials.map(({ name }) => name);
  return `ghcr-cache ${version} ${where}, and pull from ${upstreamsOf(config, named)}`;
}

function urlOf(host: string, port: number): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Each by its name, by where it really is if that is elsewhere, and by who we are to it. */
function upstreamsOf(config: Config, credentialNames: RunningCache['credentialNames']): string {
  return [...config.upstreams]
    .map(([name, upstream]) => {
      const { url, offline } = upstream;
      const where = url.origin === `https://${name}` ? name : `${name} at ${url.origin}`;
      const names = credentialNames(name, upstream)
        .map(credential => `"${credential}"`)
        .join(', ');
      const how = offline ? 'offline' : names === '' ? 'anonymously' : `with credential ${names}`;
      return `${where} (${how}${name === config.default && config.upstreams.size > 1 ? ', default' : ''})`;
    })
    .join(', ');
}
