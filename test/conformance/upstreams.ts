// The registries that the cache is put in front of: CNCF Distribution, and the stand-in for ghcr.io.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { Daemon } from '../e2e/support/processes.ts';
import { newFolder } from '../e2e/support/workspace.ts';
import type { Registry } from './suites.ts';

const STAND_IN = fileURLToPath(new URL('../support/ghcr/main.ts', import.meta.url));
const USER = { name: 'conformance', token: 'ghp_conformance' };

export interface RunningUpstream extends Registry, AsyncDisposable {
  /** Its entry under `upstreams` in the cache's config. */
  readonly config: object;
}

export interface Upstream {
  readonly name: string;
  /** A new one, with nothing of the suites in it. `open`: it asks nobody who they are. */
  start(open: boolean): Promise<RunningUpstream>;
}

const distribution: Upstream = {
  name: 'distribution',
  async start() {
    const folder = newFolder('distribution');
    const config = join(folder, 'config.yaml');
    writeFileSync(
      config,
      stringify({
        version: 0.1,
        log: { level: 'info', accesslog: { disabled: true } },
        storage: { filesystem: { rootdirectory: join(folder, 'storage') }, delete: { enabled: true } },
        http: { addr: '127.0.0.1:0', secret: 'any' },
        // Layers that are elsewhere: as it comes, it takes no manifest that names such a place.
        validation: { manifests: { urls: { allow: ['.*'] } } },
      }),
    );
    const listening = /listening on (127\.0\.0\.1:\d+)/;
    const daemon = await Daemon.start('docker-registry', ['serve', config], {
      ready: ({ output }) => listening.test(output),
    });
    const host = listening.exec(daemon.output)?.[1] ?? '';
    return {
      host,
      config: { url: `http://${host}`, credentials: [] },
      [Symbol.asyncDispose]: () => daemon.stop(),
    };
  },
};

const ghcr: Upstream = {
  name: 'ghcr',
  async start(open) {
    const access = open ? ['--open'] : ['--user', `${USER.name}:${USER.token}`];
    const daemon = await Daemon.start(process.execPath, [STAND_IN, '--sha512', ...access], {
      ready: ({ stdout }) => stdout.includes('\n'),
    });
    const { url, apiUrl } = JSON.parse(daemon.stdout) as { url: string; apiUrl: string };
    return {
      host: new URL(url).host,
      config: { url, api: apiUrl, credentials: [{ username: USER.name, token: USER.token }] },
      [Symbol.asyncDispose]: () => daemon.stop(),
    };
  },
};

export const UPSTREAMS: readonly Upstream[] = [distribution, ghcr];
