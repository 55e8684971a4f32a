// A running cache: the core behind an HTTP server.
import { hostname } from 'node:os';
import { hostCheck } from '../access/hosts.ts';
import type { Config } from '../config/load.ts';
import type { UpstreamConfig } from '../config/sections/upstreams.ts';
import { BodyMemory } from '../http/body/body-memory.ts';
import { pumpBuffers } from '../http/body/pump.ts';
import { loadSendfile } from '../http/body/sendfile.ts';
import { zerocopy } from '../http/body/zerocopy.ts';
import { InFlight } from '../http/registry/in-flight.ts';
import { createApp, type RunningServer, startServer } from '../http/server.ts';
import { openCore } from './core.ts';
import type { Environment } from './environment.ts';

export interface RunningCache {
  readonly server: RunningServer;
  /** As of the core. */
  credentialNames(name: string, upstream: UpstreamConfig): string[];
  /** Resolves when nothing is being stored any more. A client has its response a moment before that. */
  settled(): Promise<void>;
  /** What is being pulled and pushed, for a sentence; undefined when that is nothing. */
  inFlight(): string | undefined;
  /** Lets responses in progress finish within `graceMs`, then closes everything. `onCut` is told what did not, as inFlight(). */
  stop(graceMs: number, onCut?: (what: string) => void): Promise<void>;
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
  const inFlight = new InFlight();
  const app = createApp({
    ...core,
    pump: sendfile === undefined ? pumpBuffers : zerocopy(sendfile),
    bodyMemory: new BodyMemory(clock),
    pushesOff: config.push === 'off',
    explain: core.descriptors.explain,
    ...{ clock, log, random },
  });
  const { host, port, hosts } = config.listen;
  const isOurs = hostCheck([host, hostname(), ...hosts]);
  const { descriptors } = core;
  const server = await startServer(app, { host, port, isOurs }, { clock, log, inFlight, connections: descriptors });
  const owned = stack.move();
  return {
    server,
    credentialNames: core.credentialNames,
    settled: () => core.settled(),
    inFlight: () => inFlight.describe(),
    stop: async (graceMs, onCut) => {
      await server.stop(graceMs, () => {
        const cut = inFlight.cut();
        if (cut !== undefined) onCut?.(cut);
      });
      await owned.disposeAsync();
    },
  };
}
