// The registries that the cache is put in front of: CNCF Distribution, and the fake ghcr.io.
import { FakeGhcr } from '../e2e/support/fake-ghcr.ts';
import { Registry as Distribution } from '../e2e/support/registry.ts';
import { newDirectory } from '../e2e/support/workspace.ts';
import type { Registry } from './suites.ts';

const USER = { name: 'conformance', password: 'ghp_conformance' };

export interface RunningUpstream extends Registry, AsyncDisposable {
  /** Its entry under `upstreams` in the cache's config. */
  readonly config: object;
}

export interface Upstream {
  readonly name: string;
  /** Starts a new, empty one. `open`: it requires no credentials. */
  start(open: boolean): Promise<RunningUpstream>;
}

const distribution: Upstream = {
  name: 'distribution',
  async start() {
    const registry = await Distribution.start({
      storage: newDirectory('distribution'),
      config: {
        storage: { delete: { enabled: true } },
        // By default it accepts no manifest with layers that are elsewhere.
        validation: { manifests: { urls: { allow: ['.*'] } } },
      },
    });
    return {
      host: registry.host,
      config: { url: registry.url, credentials: [] },
      [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
    };
  },
};

const ghcr: Upstream = {
  name: 'ghcr',
  async start(open) {
    const fake = await FakeGhcr.start(open ? undefined : USER, '--sha512');
    const credentials = [{ username: USER.name, token: USER.password }];
    return {
      host: fake.host,
      config: { url: fake.url, api: fake.apiUrl, credentials },
      [Symbol.asyncDispose]: () => fake.stop(),
    };
  },
};

export const UPSTREAMS: readonly Upstream[] = [distribution, ghcr];
