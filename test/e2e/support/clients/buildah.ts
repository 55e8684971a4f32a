// Buildah, which stores images as Podman does, and creates and pushes indexes of its own.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Image } from '../images.ts';
import { run } from '../processes.ts';
import { newDirectory } from '../workspace.ts';
import { nameOf, type PushingClient, withoutLogins } from './client.ts';

export class Buildah implements PushingClient {
  readonly name = 'buildah';
  readonly #directory = newDirectory('buildah');

  async pull(host: string, image: Image): Promise<void> {
    const name = nameOf(host, image);
    for (const variant of image.variants) {
      const arch = ['--arch', variant.architecture];
      const id = await this.#buildah('pull', '--quiet', '--tls-verify=false', ...arch, `docker://${name}`);
      assert.equal(id.trim(), hexOf(variant.config.digest), 'config');
      const held = JSON.parse(await this.#buildah('inspect', '--type', 'image', id.trim())) as Inspected;
      assert.deepEqual(held.OCIv1.rootfs.diff_ids, variant.diffIds, 'layers');
    }
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    await this.pull(source, image);
    const digestFile = join(this.#directory, 'digest');
    const how = ['--tls-verify=false', '--digestfile', digestFile];
    const target = `docker://${nameOf(host, { ...image, repository })}`;
    const [first, ...others] = image.variants;
    if (first === undefined) throw new Error('an image needs an architecture');
    if (others.length === 0) {
      await this.#buildah('push', ...how, hexOf(first.config.digest), target);
    } else {
      const list = `list-of-${image.repository.replaceAll('/', '-')}`;
      await this.#buildah('manifest', 'create', list);
      for (const { config } of image.variants) await this.#buildah('manifest', 'add', list, hexOf(config.digest));
      await this.#buildah('manifest', 'push', '--all', ...how, list, target);
      await this.#buildah('manifest', 'rm', list);
    }
    return readFileSync(digestFile, 'utf8');
  }

  async wipe(): Promise<void> {
    await this.#buildah('rmi', '--all', '--force');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.wipe();
  }

  #buildah(...args: string[]): Promise<string> {
    const at = (name: string) => join(this.#directory, name);
    return run(
      'buildah',
      ['--root', at('root'), '--runroot', at('run'), '--storage-driver', 'vfs', ...args],
      withoutLogins(),
    );
  }
}

interface Inspected {
  readonly OCIv1: { readonly rootfs: { readonly diff_ids: readonly string[] } };
}

function hexOf(digest: string): string {
  return digest.slice('sha256:'.length);
}
