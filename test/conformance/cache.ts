// The cache as a user starts it, with an empty data directory. Tags stay fresh for an hour, so that a write is visible
// only because the cache itself recorded it.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { PROGRAM } from '../e2e/support/cache.ts';
import { Daemon } from '../e2e/support/processes.ts';
import { newDirectory } from '../e2e/support/workspace.ts';
import type { Registry } from './suites.ts';
import type { RunningUpstream } from './upstreams.ts';

export async function startCache(upstream: RunningUpstream): Promise<Registry & AsyncDisposable> {
  const directory = newDirectory('cache');
  const config = join(directory, 'config.yaml');
  writeFileSync(
    config,
    stringify({
      listen: { host: '127.0.0.1', port: 0 },
      data: join(directory, 'data'),
      upstreams: { 'ghcr.io': upstream.config },
      tags: [{ match: '*', fresh: '1h' }],
    }),
  );
  const serving = /http:\/\/(127\.0\.0\.1:\d+)/;
  const daemon = await Daemon.start(process.execPath, [PROGRAM, 'serve', '--config', config], {
    ready: ({ stdout }) => serving.test(stdout),
  });
  return { host: serving.exec(daemon.stdout)?.[1] ?? '', [Symbol.asyncDispose]: () => daemon.stop() };
}
