// What the cache takes for ghcr.io: a real registry with the counting proxy in front of it.
import { CountingProxy } from './proxy.ts';
import { type BasicUser, Registry } from './registry.ts';
import { newFolder } from './workspace.ts';

export class Upstream implements AsyncDisposable {
  readonly registry: Registry;
  readonly proxy: CountingProxy;
  /** Serves what the registry holds to everybody, and goes through no proxy. */
  readonly witness: Registry;

  private constructor(registry: Registry, proxy: CountingProxy, witness: Registry) {
    this.registry = registry;
    this.proxy = proxy;
    this.witness = witness;
  }

  /** One with the images of the run, which are not to be changed. */
  static async start(user?: BasicUser): Promise<Upstream> {
    const registry = await Registry.start(user);
    return new Upstream(registry, await CountingProxy.start(registry.url), registry);
  }

  /** One with nothing in it, to be pushed to. */
  static async startEmpty(user?: BasicUser): Promise<Upstream> {
    const storage = newFolder('storage');
    const registry = await Registry.start(user, storage);
    const witness = user ? await Registry.start(undefined, storage) : registry;
    return new Upstream(registry, await CountingProxy.start(registry.url), witness);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
    await this.witness[Symbol.asyncDispose]();
    await this.registry[Symbol.asyncDispose]();
  }
}
