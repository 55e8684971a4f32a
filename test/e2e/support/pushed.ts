// What a registry holds after a push, described as the images of the run are, so that it can be compared with the image
// that the client had and with what clients pull.
import assert from 'node:assert/strict';
import { gunzipSync } from 'node:zlib';
import { get } from './http.ts';
import { type Descriptor, digestOf, type Image, type Variant } from './images.ts';

interface Manifest {
  readonly mediaType?: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly manifests?: readonly Descriptor[];
}

/**
 * Reads every byte of what the registry at `url` has under the tag of `original` in a repository. Throws if anything is
 * missing or does not match its digest, or if it is not the same image: the same configs and, uncompressed, layers.
 */
export async function pushedImage(url: string, repository: string, original: Image): Promise<Image> {
  const base = `${url}/v2/${repository}`;
  const { tag, file } = original;
  const { descriptor: root, bytes } = await readManifest(base, tag);
  const { manifests } = JSON.parse(bytes.toString()) as Manifest;
  const variants: Variant[] = [];
  for (const { digest } of manifests ?? [root]) variants.push(await readVariant(base, digest, original));
  return { repository, tag, root, variants, file };
}

async function readVariant(base: string, digest: string, original: Image): Promise<Variant> {
  const { descriptor: manifest, bytes } = await readManifest(base, digest);
  assert.equal(manifest.digest, digest);
  const { config, layers } = JSON.parse(bytes.toString()) as Manifest;
  const variant = original.variants.find(one => one.config.digest === config.digest);
  assert.ok(variant, `${config.digest} is not a config of ${original.repository}`);
  await readBlob(base, config);
  const diffIds: string[] = [];
  for (const layer of layers) diffIds.push(digestOf(gunzipSync(await readBlob(base, layer))));
  assert.deepEqual(diffIds, variant.diffIds, 'layers, uncompressed');
  return { architecture: variant.architecture, manifest, config, layers, diffIds };
}

async function readManifest(base: string, reference: string): Promise<{ descriptor: Descriptor; bytes: Buffer }> {
  const { status, headers, body } = await get(`${base}/manifests/${reference}`);
  assert.equal(status, 200, `${reference}: ${body.subarray(0, 500)}`);
  const digest = digestOf(body);
  assert.equal(headers['docker-content-digest'], digest);
  return { descriptor: { mediaType: headers['content-type'] ?? '', digest, size: body.length }, bytes: body };
}

async function readBlob(base: string, { digest, size }: Descriptor): Promise<Buffer> {
  const { status, body } = await get(`${base}/blobs/${digest}`);
  assert.equal(status, 200, `${digest}: ${body.subarray(0, 500)}`);
  assert.equal(body.length, size, `size of ${digest}`);
  assert.equal(digestOf(body), digest);
  return body;
}
