// What clients that keep images as OCI image layouts hold: a folder with all blobs and manifests by digest.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { verifiedBlobs } from '../compare.ts';
import { blobsOf, type Image, manifestsOf } from '../images.ts';

/** Throws when a manifest or blob of the image is missing, or anything there is not what its name says. */
export async function assertLayoutHolds(folder: string, image: Image): Promise<void> {
  const held = await verifiedBlobs(join(folder, 'blobs'));
  for (const { digest } of [...manifestsOf(image), ...blobsOf(image)]) {
    assert.ok(held.has(digest), `${digest} of ${image.repository}`);
  }
}
