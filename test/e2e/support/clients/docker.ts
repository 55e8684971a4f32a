// The Docker Engine, pulling and pushing `127.0.0.1:PORT/…`, where it allows plain HTTP by default. It is started
// without networks, so that it leaves the machine's firewall and bridges alone.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Image, nativeVariant } from '../images.ts';
import { Daemon, run } from '../processes.ts';
import { newDirectory } from '../workspace.ts';
import { nameOf, type PushingClient } from './client.ts';
import { type Containerd, startContainerd } from './containerd-daemon.ts';

const NO_NETWORKS = ['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ip-masq=false'];

export class Docker implements PushingClient {
  readonly name = 'docker';
  readonly #containerd: Containerd;
  readonly #engine: Daemon;
  readonly #address: string;

  private constructor(containerd: Containerd, engine: Daemon, address: string) {
    this.#containerd = containerd;
    this.#engine = engine;
    this.#address = address;
  }

  static async start(): Promise<Docker> {
    const directory = newDirectory('docker');
    const containerd = await startContainerd(directory);
    const address = `unix://${directory}/docker.sock`;
    // In place of a config file that the machine may have.
    const config = join(directory, 'daemon.json');
    writeFileSync(config, '{}');
    const engine = await Daemon.start(
      'dockerd',
      [
        ...['--config-file', config, '--containerd', containerd.address, '--host', address],
        ...['--data-root', join(directory, 'data'), '--exec-root', join(directory, 'exec')],
        ...['--pidfile', join(directory, 'docker.pid'), ...NO_NETWORKS],
      ],
      {
        ready: () =>
          run('docker', ['--host', address, 'version']).then(
            () => true,
            () => false,
          ),
      },
    );
    return new Docker(containerd, engine, address);
  }

  async pull(host: string, image: Image): Promise<void> {
    const name = nameOf(host, image);
    const native = nativeVariant(image);
    // The native one last: a tag points to one image at a time, and only the native one can run.
    for (const variant of [...image.variants.filter(other => other !== native), native]) {
      await this.wipe();
      await this.#docker('pull', '--platform', `linux/${variant.architecture}`, name);
      const [held] = JSON.parse(await this.#docker('image', 'inspect', name)) as Inspected[];
      assert.equal(held?.Id, variant.config.digest, 'config');
      assert.deepEqual(held.RootFS.Layers, variant.diffIds, 'layers');
      const digests = held.RepoDigests.map(reference => reference.split('@')[1]);
      assert.ok(digests.includes(image.root.digest), `${digests} should include the digest of the tag`);
    }
    const { path, sha256 } = image.file;
    const printed = await this.#docker('run', '--rm', '--network', 'none', name, 'sha256sum', `/${path}`);
    assert.equal(printed.split(' ')[0], sha256, `${path} in a container`);
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    await this.pull(source, { ...image, variants: [nativeVariant(image)] });
    const name = nameOf(host, { ...image, repository });
    await this.#docker('tag', nameOf(source, image), name);
    const output = await this.#docker('push', name);
    const digest = /digest: (sha256:[0-9a-f]{64})/.exec(output)?.[1];
    assert.ok(digest, output);
    return digest;
  }

  async wipe(): Promise<void> {
    const ids = (await this.#docker('images', '--quiet', '--all')).split('\n').filter(Boolean);
    if (ids.length > 0) await this.#docker('rmi', '--force', ...new Set(ids));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine.stop();
    await this.#containerd.daemon.stop();
  }

  #docker(...args: string[]): Promise<string> {
    return run('docker', ['--host', this.#address, ...args]);
  }
}

interface Inspected {
  readonly Id: string;
  readonly RepoDigests: readonly string[];
  readonly RootFS: { readonly Layers: readonly string[] };
}
