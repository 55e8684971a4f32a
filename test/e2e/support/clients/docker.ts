// The Docker Engine, pulling and pushing `127.0.0.1:PORT/…`: it takes plain HTTP from loopback without being told. It
// is started without networks of its own, so that it leaves the machine's firewall and bridges alone.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Image, nativeVariant } from '../images.ts';
import { Daemon, run } from '../processes.ts';
import { newFolder } from '../workspace.ts';
import type { PushingClient } from './client.ts';
import { type Containerd, startContainerd } from './containerd-daemon.ts';

const NO_NETWORKS = [
  '--bridge=none',
  '--iptables=false',
  '--ip6tables=false',
  '--ip-forward=false',
  '--ip-masq=false',
];

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
    const folder = newFolder('docker');
    const containerd = await startContainerd(folder);
    const address = `unix://${folder}/docker.sock`;
    // An empty config file, in place of the one that the machine may have.
    const config = join(folder, 'daemon.json');
    writeFileSync(config, '{}');
    const engine = await Daemon.start(
      'dockerd',
      [
        ...['--config-file', config, '--containerd', containerd.address, '--host', address],
        ...['--data-root', join(folder, 'data'), '--exec-root', join(folder, 'exec')],
        ...['--pidfile', join(folder, 'docker.pid'), ...NO_NETWORKS],
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
    const name = `${host}/${image.repository}:${image.tag}`;
    const native = nativeVariant(image);
    // The native one last: a tag points at one image at a time, and only the native one can be run.
    for (const variant of [...image.variants.filter(other => other !== native), native]) {
      await this.wipe();
      await this.#docker('pull', '--platform', `linux/${variant.architecture}`, name);
      const [held] = JSON.parse(await this.#docker('image', 'inspect', name)) as Inspected[];
      assert.equal(held?.Id, variant.config.digest, 'config');
      assert.deepEqual(held.RootFS.Layers, variant.diffIds, 'layers');
      const digests = held.RepoDigests.map(reference => reference.split('@')[1]);
      assert.ok(digests.includes(image.root.digest), `${digests} holds what the tag points at`);
    }
    const { path, sha256 } = image.file;
    const printed = await this.#docker('run', '--rm', '--network', 'none', name, 'sha256sum', `/${path}`);
    assert.equal(printed.split(' ')[0], sha256, `${path} in a container`);
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    await this.pull(source, { ...image, variants: [nativeVariant(image)] });
    const name = `${host}/${repository}:${image.tag}`;
    await this.#docker('tag', `${source}/${image.repository}:${image.tag}`, name);
    const said = await this.#docker('push', name);
    const digest = /digest: (sha256:[0-9a-f]{64})/.exec(said)?.[1];
    assert.ok(digest, said);
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
