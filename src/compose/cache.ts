// A running cache: the core behind an HTTP server.
import type { Config } from '../config/load.ts';
import { pumpBuffers } from '../http/body/pump.ts';
import { loadSendfile } from '../http/body/sendfile.ts';
import { zerocopy } from '../http/body/zerocopy.ts';
import { createApp, type RunningServer, startServer } from '../http/server.ts';
import { openCore } from './core.ts';
import type { Environment } from './environment.ts';

export interface RunningCache {
  readonly server: RunningServer;
  /** Resolves when nothing is being stored any more. A client has its response a moment before that. */
  settled(): Promise<void>;
  /** Lets responses in progress finish within `graceMs`, then closes everything. */
  stop(graceMs: number): Promise<void>;
}

/** Starts a cache. Contacts no upstream. Releases everything when it fails halfway. */
export async function startCache(config: Config, environment: Environment): Promise<RunningCache> {
  await using stack = new AsyncDisposableStack();
  const core = stack.use(await openCore(config, environment));
  const { clock, log, random } = environment;
  const sendfile =
    environment.sendfile === false
      ? undefined
      : await loadSendfile(why => log.info({}, `blobs are sent through buffers: ${why}`));
  const app = createApp({
    ...core,
    pump: sendfile === undefined ? pumpBuffers : zerocopy(sendfile),
    pushesOff: config.push === 'off',
    ...{ clock, log, random },
  });
  const server = await startServer(app, config.listen, clock);
  const owned = stack.move();
  return {
    server,
    settled: () => core.settled(),
    stop: async graceMs => {
      await server.stop(graceMs);
      await owned.disposeAsync();
    },
  };
}
