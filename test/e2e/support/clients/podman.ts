// Podman, pulling `ghcr.io/…` through a mirror entry, as CRI-O does too, and pushing to the cache by its address,
// since mirrors are for reading only. Its containers are not run: it
// insists on raising limits that sandboxes forbid. Files are read from the mounted image instead.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Image, nativeVariant, sha256 } from '../images.ts';
import { run } from '../processes.ts';
import { newFolder } from '../workspace.ts';
import { type PushingClient, withoutLogIns } from './client.ts';

export class Podman implements PushingClient {
  readonly name = 'podman';
  readonly #folder = newFolder('podman');

  async pull(host: string, image: Image): Promise<void> {
    this.#writeMirror(host);
    const name = `ghcr.io/${image.repository}:${image.tag}`;
    for (const variant of image.variants) {
      await this.#podman('pull', '--quiet', '--arch', variant.architecture, name);
      const [held] = JSON.parse(await this.#podman('image', 'inspect', name)) as Inspected[];
      assert.equal(held?.Id, variant.config.digest.slice('sha256:'.length), 'config');
      assert.deepEqual(held.RootFS.Layers, variant.diffIds, 'layers');
      const digests = held.RepoDigests.map(reference => reference.split('@')[1]);
      assert.ok(digests.includes(image.root.digest), `${digests} holds what the tag points at`);
      await this.#assertFile(name, image);
    }
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    const native = nativeVariant(image);
    await this.pull(source, { ...image, variants: [native] });
    const digestFile = join(this.#folder, 'digest');
    const target = `docker://${host}/${repository}:${image.tag}`;
    await this.#podman(
      ...['push', '--tls-verify=false', '--digestfile', digestFile],
      ...[native.config.digest.slice('sha256:'.length), target],
    );
    return readFileSync(digestFile, 'utf8');
  }

  async wipe(): Promise<void> {
    await this.#podman('rmi', '--all', '--force');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.wipe();
  }

  async #assertFile(name: string, { file }: Image): Promise<void> {
    const root = (await this.#podman('image', 'mount', name)).trim();
    assert.equal(sha256(readFileSync(join(root, file.path))), file.sha256, file.path);
    await this.#podman('image', 'unmount', name);
  }

  #writeMirror(host: string): void {
    writeFileSync(
      join(this.#folder, 'registries.conf'),
      `[[registry]]
location = "ghcr.io"
[[registry.mirror]]
location = "${host}"
insecure = true
`,
    );
  }

  #podman(...args: string[]): Promise<string> {
    const at = (name: string) => join(this.#folder, name);
    return run(
      'podman',
      [
        ...['--root', at('root'), '--runroot', at('run'), '--tmpdir', at('tmp')],
        ...['--storage-driver', 'vfs', '--events-backend', 'none', '--cgroup-manager', 'cgroupfs'],
        ...args,
      ],
      { ...withoutLogIns(), CONTAINERS_REGISTRIES_CONF: at('registries.conf') },
    );
  }
}

interface Inspected {
  readonly Id: string;
  readonly RepoDigests: readonly string[];
  readonly RootFS: { readonly Layers: readonly string[] };
}
