// `ghcr-cache serve`: runs a cache until it is told to stop.
import { pino } from 'pino';
import { systemClock, systemRandom } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { version } from '../base/version.ts';
import { type RunningCache, startCache } from '../compose/cache.ts';
import { assertServable, loadConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { parseOptions } from './options.ts';

/** How long running answers may take to finish after a signal; docker kills after 10 s. */
const GRACE_MS = 8_000;

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
  const cache = await startCache(config, { clock: systemClock, random: systemRandom, log, sendfile });
  // Before the line: whoever has read it may send a signal.
  stopOnSignal(cache, log);
  process.stdout.write(`${startLine(config, cache)}\n`);
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

/** The first signal lets answers finish, the second does not. */
function stopOnSignal(cache: RunningCache, log: Log): void {
  let isStopping = false;
  const stop = (signal: NodeJS.Signals) => {
    if (isStopping) process.exit(1);
    isStopping = true;
    log.info(
      { signal },
      `shutting down: running answers have ${GRACE_MS / 1000} s to finish; a second signal ends them now`,
    );
    cache.stop(GRACE_MS).then(
      () => process.exit(0),
      error => {
        log.error({ err: error }, 'shutting down failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}
