// Content for tests: pseudo-random blobs, and images and indexes made of them. The same arguments always give the same
// bytes and therefore the same digests. Blobs are not held in memory: any size repeats one block, so 1 GiB costs 1 MiB
// of memory and one pass of the hash.
import { createCipheriv, createHash } from 'node:crypto';
import { type Algorithm, type Digest, DigestHasher, digestOf } from '../../src/oci/digest.ts';
import type { MANIFEST_TYPES } from '../../src/oci/manifest.ts';

/** Bytes that can be read from any offset, any number of times. */
export interface Source {
  readonly sizeBytes: number;
  /** The bytes from `start` to `end`, exclusive, in pieces of about 1 MiB that must not be modified. */
  chunks(start?: number, end?: number): Iterable<Uint8Array>;
}

/** A source with its digest: a layer, a config, any blob. */
export interface Content extends Source {
  readonly digest: Digest;
}

export interface Manifest {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly mediaType: (typeof MANIFEST_TYPES)[number];
}

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
}

export interface Image {
  readonly manifest: Manifest;
  readonly platform: Platform;
  readonly config: Content;
  readonly layers: readonly Content[];
}

export interface Index {
  readonly manifest: Manifest;
  readonly images: readonly (Image | Index)[];
}

export interface Descriptor {
  mediaType: string;
  digest: Digest;
  size: number;
  platform?: Platform;
}

/** A prime, so that bytes read at an offset that is off by a round number differ. */
const BLOCK_BYTES = 1_048_583;

/** `sizeBytes` pseudo-random bytes: the key stream of a cipher keyed by `seed`, repeated after BLOCK_BYTES. */
export function randomContent(sizeBytes: number, seed = '', algorithm: Algorithm = 'sha256'): Content {
  const key = createHash('sha256').update(seed).digest().subarray(0, 16);
  const zeros = Buffer.alloc(Math.min(sizeBytes, BLOCK_BYTES));
  const block = createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(zeros);

  function* chunks(start = 0, end = sizeBytes): Generator<Uint8Array> {
    for (let at = start; at < end; ) {
      const offset = at % BLOCK_BYTES;
      const chunk = block.subarray(offset, Math.min(BLOCK_BYTES, offset + end - at));
      yield chunk;
      at += chunk.length;
    }
  }

  return { sizeBytes, chunks, digest: digestOfRandom(sizeBytes, seed, algorithm, chunks) };
}

// Hashing is the only cost of a large blob, and tests keep describing the same ones.
const digests = new Map<string, Digest>();

function digestOfRandom(
  sizeBytes: number,
  seed: string,
  algorithm: Algorithm,
  chunks: () => Iterable<Uint8Array>,
): Digest {
  const key = `${algorithm} ${sizeBytes} ${seed}`;
  let digest = digests.get(key);
  if (digest === undefined) {
    const hasher = new DigestHasher(algorithm);
    for (const chunk of chunks()) hasher.update(chunk);
    digest = hasher.digest();
    digests.set(key, digest);
  }
  return digest;
}

/** Content that is in memory as a whole. */
export function contentOf(bytes: Uint8Array | string, algorithm: Algorithm = 'sha256'): Content {
  const buffer = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
  return { ...sourceOf(buffer), digest: digestOf(buffer, algorithm) };
}

export function sourceOf(bytes: Uint8Array): Source {
  return {
    sizeBytes: bytes.length,
    chunks: (start = 0, end = bytes.length) => (start < end ? [bytes.subarray(start, end)] : []),
  };
}

/** All bytes of a source, to compare with what a client got. Not for large sources. */
export function bytesOf(source: Source, start?: number, end?: number): Buffer {
  return Buffer.concat([...source.chunks(start, end)]);
}

export interface ImageOptions {
  /** A number means pseudo-random content of that many bytes. */
  layers: readonly (number | Uint8Array | Content)[];
  type?: 'oci' | 'docker';
  /** Makes images with the same sizes different. */
  seed?: string;
  platform?: Platform;
  algorithm?: Algorithm;
  /** Labels of the config, such as `org.opencontainers.image.source`. */
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  artifactType?: string;
  /** The manifest that this image is a referrer of. */
  subject?: Manifest;
  /** The media type of the layers. Default: gzipped, although random bytes are not gzip. */
  layerType?: string;
}

export function makeImage(options: ImageOptions): Image {
  const { type = 'oci', seed = '', algorithm = 'sha256' } = options;
  const platform = options.platform ?? { os: 'linux', architecture: 'amd64' };
  const types = MEDIA_TYPES[type];
  const layers = options.layers.map((layer, i) => {
    if (typeof layer === 'number') return randomContent(layer, `${seed}/${platformName(platform)}/${i}`, algorithm);
    return layer instanceof Uint8Array ? contentOf(layer, algorithm) : layer;
  });
  const config = contentOf(
    JSON.stringify({
      ...platform,
      config: { Labels: { ...options.labels, seed } },
      rootfs: { type: 'layers', diff_ids: layers.map(layer => layer.digest) },
    }),
    algorithm,
  );
  const manifest = makeManifest(types.manifest, algorithm, {
    artifactType: options.artifactType,
    config: descriptorOf(config, types.config),
    layers: layers.map(layer => descriptorOf(layer, options.layerType ?? types.layer)),
    subject: options.subject && descriptorOfManifest(options.subject),
    annotations: options.annotations,
  });
  return { manifest, platform, config, layers };
}

export interface IndexOptions {
  type?: 'oci' | 'docker';
  algorithm?: Algorithm;
  annotations?: Record<string, string>;
  subject?: Manifest;
}

/** An index of images, each with its platform, or of other indexes. */
export function makeIndex(images: readonly (Image | Index)[], options: IndexOptions = {}): Index {
  const { type = 'oci', algorithm = 'sha256' } = options;
  const manifest = makeManifest(MEDIA_TYPES[type].index, algorithm, {
    manifests: images.map(image => ({
      ...descriptorOfManifest(image.manifest),
      ...('platform' in image ? { platform: image.platform } : {}),
    })),
    subject: options.subject && descriptorOfManifest(options.subject),
    annotations: options.annotations,
  });
  return { manifest, images };
}

const MEDIA_TYPES = {
  oci: {
    index: 'application/vnd.oci.image.index.v1+json',
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  },
  docker: {
    index: 'application/vnd.docker.distribution.manifest.list.v2+json',
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  },
} as const;

function makeManifest(mediaType: Manifest['mediaType'], algorithm: Algorithm, fields: object): Manifest {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...fields }));
  return { bytes, digest: digestOf(bytes, algorithm), mediaType };
}

function descriptorOf(content: Content, mediaType: string): Descriptor {
  return { mediaType, digest: content.digest, size: content.sizeBytes };
}

function descriptorOfManifest({ mediaType, digest, bytes }: Manifest): Descriptor {
  return { mediaType, digest, size: bytes.length };
}

function platformName({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter(Boolean).join('/');
}
