// containerd, pulling `ghcr.io/…` with a hosts.toml that points to the cache, as Kubernetes nodes do. It names the
// upstream with `?ns=ghcr.io`.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { verifiedBlobs } from '../compare.ts';
import { blobsOf, type Image, manifestsOf } from '../images.ts';
import { run } from '../processes.ts';
import { newDirectory } from '../workspace.ts';
import { type Client, nameOf } from './client.ts';
import { type Containerd as Started, startContainerd } from './containerd-daemon.ts';

/** Works on any file system, also where overlays do not. */
const SNAPSHOTTER = ['--snapshotter', 'native'];

export class Containerd implements Client {
  readonly name = 'containerd';
  readonly #directory: string;
  readonly #started: Started;
  #runs = 0;

  private constructor(directory: string, started: Started) {
    this.#directory = directory;
    this.#started = started;
  }

  static async start(): Promise<Containerd> {
    const directory = newDirectory('ctd');
    return new Containerd(directory, await startContainerd(directory));
  }

  async pull(host: string, image: Image): Promise<void> {
    this.#writeHosts(host);
    const name = nameOf('ghcr.io', image);
    const hosts = ['--hosts-dir', join(this.#directory, 'hosts')];
    await this.#ctr('images', 'pull', ...SNAPSHOTTER, '--all-platforms', ...hosts, name);

    const held = await verifiedBlobs(this.#started.blobs);
    for (const { digest } of [...manifestsOf(image), ...blobsOf(image)]) {
      assert.ok(held.has(digest), `${digest} of ${name}`);
    }
    const { path, sha256 } = image.file;
    const container = `e2e-${++this.#runs}`;
    const printed = await this.#ctr('run', '--rm', ...SNAPSHOTTER, name, container, 'sha256sum', `/${path}`);
    assert.equal(printed.split(' ')[0], sha256, `${path} in a container`);
  }

  async wipe(): Promise<void> {
    const names = (await this.#ctr('images', 'ls', '--quiet')).split('\n').filter(Boolean);
    if (names.length > 0) await this.#ctr('images', 'rm', '--sync', ...names);
    assert.deepEqual(await verifiedBlobs(this.#started.blobs), new Set(), 'content is left after the wipe');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#started.daemon.stop();
  }

  #writeHosts(host: string): void {
    const directory = join(this.#directory, 'hosts/ghcr.io');
    mkdirSync(directory, { recursive: true });
    writeFileSync(
      join(directory, 'hosts.toml'),
      `[host."http://${host}"]
  capabilities = ["pull", "resolve"]
`,
    );
  }

  #ctr(...args: string[]): Promise<string> {
    return run('ctr', ['--address', this.#started.address, ...args]);
  }
}
