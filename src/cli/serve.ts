// `ghcr-cache serve`: runs a cache until a signal stops it. Logs go to stderr; stdout has the one line that says where
// the cache is.
import { pino } from 'pino';
import { systemClock, systemRandom } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { version } from '../base/version.ts';
import { type RunningCache, startCache } from '../compose/cache.ts';
import { type Config, loadConfig } from '../config/load.ts';
import { type Command, parseOptions } from './options.ts';

/** How long requests in flight may take to finish after a signal; docker kills after 10 s. */
const GRACE_MS = 8_000;

export const serve: Command = {
  summary: 'serve the registry API to clients until stopped',
  async run(args) {
    const config = loadConfig({ ...parseOptions(args), env: process.env, cwd: process.cwd() });
    const log = openLog(config);
    const sendfile = process.env.GHCR_CACHE_SENDFILE !== 'off';
    const cache = await startCache(config, { clock: systemClock, random: systemRandom, log, sendfile });
    // Before the line is printed: whatever reads it may send a signal at once.
    stopOnSignal(cache, log);
    process.stdout.write(`${startLine(config, cache)}\n`);
  },
};

/** One line of JSON an entry, on stderr. */
export function openLog({ log: { level } }: Config): Log {
  const formatters = { level: (level: string) => ({ level }) };
  const timestamp = pino.stdTimeFunctions.isoTime;
  return pino({ level, base: null, timestamp, formatters }, pino.destination(2));
}

function startLine(config: Config, { server }: RunningCache): string {
  const { address, family, port } = server.address;
  const host = family === 'IPv6' ? `[${address}]` : address;
  const upstreams = [...config.upstreams].map(([name, { credentials, offline }]) => {
    const names = credentials.map(credential => `"${credential.name}"`).join(', ');
    const how = offline ? 'offline' : names === '' ? 'anonymously' : `with credential ${names}`;
    return `${name} (${how}${name === config.default && config.upstreams.size > 1 ? ', default' : ''})`;
  });
  return `ghcr-cache ${version} listens on http://${host}:${port}, keeps its data in ${config.data}, and pulls from ${upstreams.join(', ')}`;
}

/** The first signal lets requests in flight finish, the second ends the process. */
function stopOnSignal(cache: RunningCache, log: Log): void {
  let isStopping = false;
  const stop = async (signal: NodeJS.Signals) => {
    if (isStopping) process.exit(1);
    isStopping = true;
    const grace = `requests in flight have ${GRACE_MS / 1000} s to finish; a second signal ends them now`;
    log.info({ signal }, `shutting down: ${grace}`);
    try {
      await cache.stop(GRACE_MS);
      process.exit(0);
    } catch (error) {
      log.error({ err: error }, 'shutting down failed');
      process.exit(1);
    }
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}
