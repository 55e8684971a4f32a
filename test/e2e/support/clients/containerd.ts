// containerd, pulling `ghcr.io/…` with a hosts.toml that points at the cache, as k8s nodes do: it tells
// the cache whom it stands for with `?ns=ghcr.io`.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { verifiedBlobs } from '../compare.ts';
import { blobsOf, type Image, manifestsOf } from '../images.ts';
import { run } from '../processes.ts';
import { newFolder } from '../workspace.ts';
import type { Client } from './client.ts';
import { type Containerd as Started, startContainerd } from './containerd-daemon.ts';

/** Works on any file system, also on those that overlays cannot be put on. */
const SNAPSHOTTER = ['--snapshotter', 'native'];

export class Containerd implements Client {
  readonly name = 'containerd';
  readonly #folder: string;
  readonly #started: Started;
  #runs = 0;

  private constructor(folder: string, started: Started) {
    this.#folder = folder;
    this.#started = started;
  }

  static async start(): Promise<Containerd> {
    const folder = newFolder('ctd');
    return new Containerd(folder, await startContainerd(folder));
  }

  async pull(host: string, image: Image): Promise<void> {
    this.#writeHosts(host);
    const name = `ghcr.io/${image.repository}:${image.tag}`;
    const hosts = ['--hosts-dir', join(this.#folder, 'hosts')];
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
    const folder = join(this.#folder, 'hosts/ghcr.io');
    mkdirSync(folder, { recursive: true });
    writeFileSync(
      join(folder, 'hosts.toml'),
      `[host."http://${host}"]
  capabilities = ["pull", "resolve"]
`,
    );
  }

  #ctr(...args: string[]): Promise<string> {
    return run('ctr', ['--address', this.#started.address, ...args]);
  }
}
