// Clients that store each image in a directory of its own, most of them as an OCI image layout: all blobs and manifests
// by digest.
import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { verifiedBlobs } from '../compare.ts';
import { blobsOf, type Image, manifestsOf } from '../images.ts';
import { newDirectory } from '../workspace.ts';

/** The storage of such a client. */
export abstract class DirectoryClient implements AsyncDisposable {
  abstract readonly name: string;
  protected readonly directory = newDirectory('images');

  protected directoryOf({ repository }: Image): string {
    return join(this.directory, repository.replaceAll('/', '-'));
  }

  async wipe(): Promise<void> {
    rmSync(this.directory, { recursive: true, force: true });
    mkdirSync(this.directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.wipe();
  }
}

/** Throws if a manifest or blob of the image is missing, or any file does not match its name. */
export async function assertLayoutHolds(directory: string, image: Image): Promise<void> {
  const held = await verifiedBlobs(join(directory, 'blobs'));
  for (const { digest } of [...manifestsOf(image), ...blobsOf(image)]) {
    assert.ok(held.has(digest), `${digest} of ${image.repository}`);
  }
}
