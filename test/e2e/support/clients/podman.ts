// Podman, pulling `ghcr.io/…` through a mirror entry, as CRI-O does too, and pushing to the address of the cache,
// because mirrors are read-only. Its containers are not run, because it insists on raising limits, which sandboxes
// forbid; files are read from the mounted image instead.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Image, nativeVariant, sha256 } from '../images.ts';
import { run } from '../processes.ts';
import { newDirectory } from '../workspace.ts';
import { nameOf, type PushingClient, withoutLogins } from './client.ts';

export class Podman implements PushingClient {
  readonly name = 'podman';
  readonly #directory = newDirectory('podman');

  async pull(host: string, image: Image): Promise<void> {
    this.#writeMirror(host);
    const name = nameOf('ghcr.io', image);
    for (const variant of image.variants) {
      await this.#podman('pull', '--quiet', '--arch', variant.architecture, name);
      const [held] = JSON.parse(await this.#podman('image', 'inspect', name)) as Inspected[];
      assert.equal(held?.Id, variant.config.digest.slice('sha256:'.length), 'config');
      assert.deepEqual(held.RootFS.Layers, variant.diffIds, 'layers');
      const digests = held.RepoDigests.map(reference => reference.split('@')[1]);
      assert.ok(digests.includes(image.root.digest), `${digests} should include the digest of the tag`);
      await this.#assertFile(name, image);
    }
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    const native = nativeVariant(image);
    await this.pull(source, { ...image, variants: [native] });
    const digestFile = join(this.#directory, 'digest');
    const target = `docker://${nameOf(host, { ...image, repository })}`;
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
      join(this.#directory, 'registries.conf'),
      `[[registry]]
location = "ghcr.io"
[[registry.mirror]]
location = "${host}"
insecure = true
`,
    );
  }

  #podman(...args: string[]): Promise<string> {
    const at = (name: string) => join(this.#directory, name);
    return run(
      'podman',
      [
        ...['--root', at('root'), '--runroot', at('run'), '--tmpdir', at('tmp')],
        ...['--storage-driver', 'vfs', '--events-backend', 'none', '--cgroup-manager', 'cgroupfs'],
        ...args,
      ],
      { ...withoutLogins(), CONTAINERS_REGISTRIES_CONF: at('registries.conf') },
    );
  }
}

interface Inspected {
  readonly Id: string;
  readonly RepoDigests: readonly string[];
  readonly RootFS: { readonly Layers: readonly string[] };
}
