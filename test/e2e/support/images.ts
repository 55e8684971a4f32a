// The images that the tests pull and push. They are created once per run, deterministically, and pushed to the shared
// storage of the registries through the registry's API, so each has exactly the media types and bytes that it is meant
// to have. An Image, kept as JSON, describes each to the tests.
import { createCipheriv, createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { Registry } from './registry.ts';
import { tar } from './tar.ts';
import { workPath } from './workspace.ts';

const MIB = 1024 * 1024;

/** An OCI descriptor. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** An image for one architecture. */
export interface Variant {
  readonly architecture: string;
  readonly manifest: Descriptor;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  /** Digests of the uncompressed layers, by which engines identify layers. */
  readonly diffIds: readonly string[];
}

export interface Image {
  readonly repository: string;
  readonly tag: string;
  /** What the tag points to: an index, or the only manifest. */
  readonly root: Descriptor;
  readonly variants: readonly Variant[];
  /** A file in every variant, and the SHA-256 of its contents in hex. */
  readonly file: { readonly path: string; readonly sha256: string };
}

export type ImageName = 'layers' | 'multiarch' | 'schema2' | 'schema2-list' | 'medium' | 'one-layer' | 'large';

/** The image of that name, which `makeImages` created. */
export function image(name: ImageName): Image {
  return JSON.parse(readFileSync(workPath(`images/${name}.json`), 'utf8')) as Image;
}

/** Every manifest of an image, including the index. */
export function manifestsOf({ root, variants }: Image): Descriptor[] {
  return distinct([root, ...variants.map(variant => variant.manifest)]);
}

/** Every config and layer of an image. */
export function blobsOf({ variants }: Image): Descriptor[] {
  return distinct(variants.flatMap(({ config, layers }) => [config, ...layers]));
}

/** The variant for this machine's architecture. Throws if there is none. */
export function nativeVariant({ variants }: Image): Variant {
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const variant = variants.find(candidate => candidate.architecture === architecture);
  if (!variant) throw new Error(`the image has no variant for ${architecture}`);
  return variant;
}

export async function makeImages(busybox: Uint8Array): Promise<void> {
  mkdirSync(workPath('images'), { recursive: true });
  await using registry = await Registry.start();
  const program = tar([
    { path: 'bin/busybox', bytes: busybox, mode: 0o755 },
    { path: 'bin/sh', linkTo: 'busybox' },
    { path: 'bin/sha256sum', linkTo: 'busybox' },
  ]);
  const both = ['amd64', 'arm64'];
  const one = [process.arch === 'x64' ? 'amd64' : process.arch];

  const make = async (name: ImageName, types: MediaTypes, architectures: string[], ...data: number[]) => {
    const files = data.map((size, i) => ({ path: `data/${i}`, bytes: randomBytes(`${name}/${i}`, size) }));
    const builder = new ImageBuilder(registry.url, `e2e/${name}`, types);
    const made = await builder.build(architectures, [program, ...files.map(file => tar([file]))], files);
    writeFileSync(workPath(`images/${name}.json`), JSON.stringify(made, null, 2));
  };
  await make('layers', OCI, one, 1 * MIB, 2 * MIB, 77);
  await make('multiarch', OCI, both, 1 * MIB, 3 * MIB);
  await make('schema2', DOCKER, one, 1 * MIB, 300_000);
  await make('schema2-list', DOCKER, both, 2 * MIB);
  await make('medium', OCI, one, 16 * MIB, 16 * MIB, 16 * MIB);
  await make('one-layer', OCI, one, 20 * MIB);
  await make('large', OCI, one, 64 * MIB, 64 * MIB, 64 * MIB, 64 * MIB, 64 * MIB);
}

interface MediaTypes {
  readonly index: string;
  readonly manifest: string;
  readonly config: string;
  readonly layer: string;
}

const OCI: MediaTypes = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
};

/** Docker schema 2. */
const DOCKER: MediaTypes = {
  index: 'application/vnd.docker.distribution.manifest.list.v2+json',
  manifest: 'application/vnd.docker.distribution.manifest.v2+json',
  config: 'application/vnd.docker.container.image.v1+json',
  layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
};

const TAG = 'v1';

class ImageBuilder {
  readonly #url: string;
  readonly #repository: string;
  readonly #types: MediaTypes;

  constructor(registryUrl: string, repository: string, types: MediaTypes) {
    this.#url = `${registryUrl}/v2/${repository}`;
    this.#repository = repository;
    this.#types = types;
  }

  /** Pushes an image of these layers: under an index if there is more than one architecture. */
  async build(
    architectures: readonly string[],
    tarLayers: readonly Buffer[],
    files: readonly { path: string; bytes: Uint8Array }[],
  ): Promise<Image> {
    const layers: Descriptor[] = [];
    // Level 0, because random bytes do not compress.
    for (const bytes of tarLayers) layers.push(await this.#pushBlob(this.#types.layer, gzipSync(bytes, { level: 0 })));
    const diffIds = tarLayers.map(digestOf);

    const single = architectures.length === 1;
    const variants: Variant[] = [];
    for (const architecture of architectures) {
      variants.push(await this.#pushVariant(architecture, layers, diffIds, single ? TAG : undefined));
    }
    const [file] = files;
    if (!file || !variants[0]) throw new Error('an image needs a file and an architecture');
    return {
      repository: this.#repository,
      tag: TAG,
      root: single ? variants[0].manifest : await this.#pushIndex(variants),
      variants,
      file: { path: file.path, sha256: sha256(file.bytes) },
    };
  }

  async #pushVariant(
    architecture: string,
    layers: readonly Descriptor[],
    diffIds: readonly string[],
    tag: string | undefined,
  ): Promise<Variant> {
    const contents = {
      architecture,
      os: 'linux',
      config: { Cmd: ['/bin/sh'] },
      rootfs: { type: 'layers', diff_ids: diffIds },
      history: layers.map(() => ({ created: '1970-01-01T00:00:00Z', created_by: 'e2e' })),
    };
    const config = await this.#pushBlob(this.#types.config, Buffer.from(JSON.stringify(contents)));
    const manifest = { schemaVersion: 2, mediaType: this.#types.manifest, config, layers };
    return {
      architecture,
      manifest: await this.#pushManifest(this.#types.manifest, manifest, tag),
      config,
      layers,
      diffIds,
    };
  }

  #pushIndex(variants: readonly Variant[]): Promise<Descriptor> {
    const manifests = variants.map(({ architecture, manifest }) => ({
      ...manifest,
      platform: { architecture, os: 'linux' },
    }));
    return this.#pushManifest(this.#types.index, { schemaVersion: 2, mediaType: this.#types.index, manifests }, TAG);
  }

  async #pushBlob(mediaType: string, bytes: Buffer): Promise<Descriptor> {
    const digest = digestOf(bytes);
    const session = await fetch(`${this.#url}/blobs/uploads/`, { method: 'POST' });
    const location = session.headers.get('location');
    if (!location) throw new Error(`the registry did not open an upload: ${session.status}`);
    await put(`${location}&digest=${digest}`, bytes, 'application/octet-stream');
    return { mediaType, digest, size: bytes.length };
  }

  async #pushManifest(mediaType: string, manifest: object, tag: string | undefined): Promise<Descriptor> {
    const bytes = Buffer.from(JSON.stringify(manifest));
    const digest = digestOf(bytes);
    await put(`${this.#url}/manifests/${tag ?? digest}`, bytes, mediaType);
    return { mediaType, digest, size: bytes.length };
  }
}

async function put(url: string, bytes: Buffer, contentType: string): Promise<void> {
  const answer = await fetch(url, { method: 'PUT', body: bytes, headers: { 'content-type': contentType } });
  if (answer.status !== 201) throw new Error(`PUT ${url}: ${answer.status} ${await answer.text()}`);
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${sha256(bytes)}`;
}

/** Bytes that do not compress and are the same in every run: the key stream of a cipher. */
export function randomBytes(seed: string, size: number): Buffer {
  const key = createHash('sha256').update(seed).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

function distinct(descriptors: readonly Descriptor[]): Descriptor[] {
  return [...new Map(descriptors.map(descriptor => [descriptor.digest, descriptor])).values()];
}
