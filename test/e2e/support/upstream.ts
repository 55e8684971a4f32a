// The upstream `ghcr.io` of the cache: a real registry with the counting proxy in front of it.
import { CountingProxy } from './proxy.ts';
import { type BasicUser, Registry } from './registry.ts';
import { newDirectory } from './workspace.ts';

export class Upstream implements AsyncDisposable {
  readonly registry: Registry;
  readonly proxy: CountingProxy;
  /** Serves the same content to any client, and not through the proxy. */
  readonly witness: Registry;

  private constructor(registry: Registry, proxy: CountingProxy, witness: Registry) {
    this.registry = registry;
    this.proxy = proxy;
    this.witness = witness;
  }

  /** With the images of the run, which must not be changed. */
  static async start(user?: BasicUser): Promise<Upstream> {
    const registry = await Registry.start({ user });
    return new Upstream(registry, await CountingProxy.start(registry.url), registry);
  }

  /** An empty one, to push to. */
  static async startEmpty(user?: BasicUser): Promise<Upstream> {
    const storage = newDirectory('storage');
    const registry = await Registry.start({ user, storage });
    const witness = user ? await Registry.start({ storage }) : registry;
    return new Upstream(registry, await CountingProxy.start(registry.url), witness);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
    await this.witness[Symbol.asyncDispose]();
    await this.registry[Symbol.asyncDispose]();
  }
}
