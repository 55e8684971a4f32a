// `ghcr-cache serve`: runs a cache until a signal stops it. Logs go to stderr; stdout has the one line that says where
// the cache is.
import { resolve } from 'node:path';
import { systemClock, systemRandom } from '../base/clock.ts';
import { version } from '../base/version.ts';
import { type RunningCache, startCache } from '../compose/cache.ts';
import { type Config, loadConfig } from '../config/load.ts';
import { openLog } from './log.ts';
import { trimMemory } from './memory.ts';
import { type Command, type Options, parseOptions, UsageError, type Values } from './options.ts';
import { stopInTime } from './shutdown.ts';

const OPTIONS = {
  config: {
    type: 'string',
    value: 'FILE',
    help: [
      'the configuration (YAML); without it the defaults hold, and CR_PAT or GITHUB_TOKEN',
      'of the environment, with GHCR_USERNAME, is the credential for ghcr.io',
    ],
  },
  port: { type: 'string', value: 'N', help: ['in place of listen.port; 0: any free port'] },
  data: { type: 'string', value: 'DIR', help: ['in place of the data directory of the configuration'] },
  'check-config': {
    type: 'boolean',
    help: ['say what it would do, or what is wrong with the configuration, and end'],
  },
} as const satisfies Options;

export const serve: Command = {
  summary: 'serve the registry API to clients until stopped',
  options: OPTIONS,
  async run(args) {
    const { config: file, port, data, 'check-config': isCheck = false } = parseOptions(args, OPTIONS);
    const written = loadConfig({ file, env: process.env, cwd: process.cwd() });
    const config = withOptions(written, { port, data });
    if (isCheck) {
      process.stdout.write(`${file ?? 'the configuration'} is fine: ${planLine(config)}\n`);
      return;
    }
    const log = openLog(config);
    const sendfile = process.env.GHCR_CACHE_SENDFILE !== 'off';
    const cache = await startCache(config, { clock: systemClock, random: systemRandom, log, sendfile });
    await trimMemory(systemClock);
    // Before the line is printed: whatever reads it may send a signal at once.
    stopInTime(cache, log, systemClock);
    process.stdout.write(`${startLine(config, cache)}\n`);
  },
};

/** The configuration with what the command line has in place of it. Throws UsageError. */
function withOptions(config: Config, { port, data }: Pick<Values<typeof OPTIONS>, 'port' | 'data'>): Config {
  if (port !== undefined && !(/^\d{1,5}$/.test(port) && Number(port) <= 65535)) {
    throw new UsageError(`--port ${JSON.stringify(port)} is not a port: a whole number from 0 to 65535`);
  }
  if (data === '') throw new UsageError('--data needs a directory');
  return {
    ...config,
    ...(port !== undefined && { listen: { ...config.listen, port: Number(port) } }),
    ...(data !== undefined && { data: resolve(data) }),
  };
}

function startLine(config: Config, { server }: RunningCache): string {
  const { address, port } = server.address;
  const where = `listens on ${urlOf(address, port)}, keeps its data in ${config.data}`;
  return `ghcr-cache ${version} ${where}, and pulls from ${upstreamsOf(config)}`;
}

/** The same of what is not started. */
function planLine(config: Config): string {
  const { host, port } = config.listen;
  const address = port === 0 ? `any free port of ${host}` : urlOf(host, port);
  const where = `would listen on ${address}, keep its data in ${config.data}`;
  return `ghcr-cache ${version} ${where}, and pull from ${upstreamsOf(config)}`;
}

function urlOf(host: string, port: number): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Each by its name, by where it really is if that is elsewhere, and by who we are to it. */
function upstreamsOf(config: Config): string {
  return [...config.upstreams]
    .map(([name, { url, credentials, offline }]) => {
      const where = url.origin === `https://${name}` ? name : `${name} at ${url.origin}`;
      const names = credentials.map(credential => `"${credential.name}"`).join(', ');
      const how = offline ? 'offline' : names === '' ? 'anonymously' : `with credential ${names}`;
      return `${where} (${how}${name === config.default && config.upstreams.size > 1 ? ', default' : ''})`;
    })
    .join(', ');
}
