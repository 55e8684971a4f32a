// What the cache takes for ghcr.io: a real registry with the counting proxy in front of it.
import { CountingProxy } from './proxy.ts';
import { type BasicUser, Registry } from './registry.ts';

export class Upstream implements AsyncDisposable {
  readonly registry: Registry;
  readonly proxy: CountingProxy;

  private constructor(registry: Registry, proxy: CountingProxy) {
    this.registry = registry;
    this.proxy = proxy;
  }

  static async start(user?: BasicUser): Promise<Upstream> {
    const registry = await Registry.start(user);
    return new Upstream(registry, await CountingProxy.start(registry.url));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
    await this.registry[Symbol.asyncDispose]();
  }
}
