// Manifests and indexes: media types, the little of their contents that a cache reads, and whether a
// client's Accept header takes them.

import { type Digest, parseDigest } from './digest.ts';
import { RegistryError } from './errors.ts';

/** What we ask upstreams for. ghcr.io answers 404 for a type that is not named, so all four always go. */
export const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
] as const;

/** The largest manifest taken, in bytes: what the distribution spec says every registry should accept. */
export const MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024;

/**
 * The media type of a manifest: what its `mediaType` field says, else what its upstream called it, else
 * what its fields show. Undefined when the bytes are not a manifest of a type we know.
 */
export function manifestType(bytes: Uint8Array, contentType: string | undefined): string | undefined {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return undefined;
  const manifest = json as Record<string, unknown>;
  const declared = typeof manifest.mediaType === 'string' ? manifest.mediaType : undefined;
  for (const type of [declared, mediaTypeOf(contentType)]) {
    if (type !== undefined && (MANIFEST_TYPES as readonly string[]).includes(type)) return type;
  }
  if (manifest.schemaVersion !== 2) return undefined;
  if (Array.isArray(manifest.manifests)) return 'application/vnd.oci.image.index.v1+json';
  if (Array.isArray(manifest.layers)) return 'application/vnd.oci.image.manifest.v1+json';
  return undefined;
}

/**
 * What a manifest is made of: its config, layers, blobs and child manifests, each digest once. Not its subject. For
 * manifests that were pulled as well: what cannot be read has no parts.
 */
export function partsOf(bytes: Uint8Array): Digest[] {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return [];
  }
  const { config, layers, blobs, manifests } = (json ?? {}) as Record<string, unknown>;
  const digests = [config, layers, blobs, manifests]
    .flat()
    .map(descriptor =>
      parseDigest(textOf((descriptor as { digest?: unknown } | null | undefined)?.digest) ?? ''),
    );
  return [...new Set(digests.filter(digest => digest !== undefined))];
}

/** The type of a Content-Type header without its parameters, in lower case. */
export function mediaTypeOf(contentType: string | undefined): string | undefined {
  return contentType?.split(';', 1)[0]?.trim().toLowerCase();
}

/**
 * Whether a client that sent this Accept header takes `type`. A client that sent none takes all. Weights
 * other than `q=0` do not matter, since there is only one representation to offer.
 */
export function accepts(accept: string | undefined, type: string): boolean {
  if (accept === undefined || accept.trim() === '') return true;
  let ranges = readAccepts.get(accept);
  if (ranges === undefined) {
    ranges = acceptedRanges(accept);
    if (readAccepts.size >= READ_ACCEPTS_LIMIT) readAccepts.clear();
    readAccepts.set(accept, ranges);
  }
  return ranges.some(
    range =>
      range === type || range === '*/*' || (range.endsWith('/*') && type.startsWith(range.slice(0, -1))),
  );
}

/** Clients send the same few headers over and over. Each is of 16 KiB at most. */
const readAccepts = new Map<string, readonly string[]>();
const READ_ACCEPTS_LIMIT = 100;

function acceptedRanges(accept: string): string[] {
  return accept.split(',').flatMap(item => {
    const [range = '', ...parameters] = item.split(';').map(part => part.trim().toLowerCase());
    return parameters.some(parameter => /^q=0(\.0*)?$/.test(parameter)) ? [] : [range];
  });
}

/** What a registry reads of a manifest that is pushed to it. */
export interface ManifestParts {
  readonly mediaType: string;
  readonly subject: Digest | undefined;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
  /** What it is made of: config and layers, or manifests. */
  readonly blobs: readonly Digest[];
  readonly manifests: readonly Digest[];
  /** The config of an image, whose labels may say where it comes from. */
  readonly config:
    | { readonly mediaType: string | undefined; readonly digest: Digest | undefined }
    | undefined;
}

/**
 * Reads a manifest that a client has pushed under this Content-Type. Throws MANIFEST_INVALID, saying what is
 * wrong with it. That all that it names is there is for the upstream to tell.
 */
export function readManifest(bytes: Uint8Array, contentType: string | undefined): ManifestParts {
  const mediaType = manifestType(bytes, contentType);
  if (mediaType === undefined) {
    throw new RegistryError(
      'MANIFEST_INVALID',
      `this is no manifest of a known type: it has to be JSON, and one of ${MANIFEST_TYPES.join(', ')}`,
    );
  }
  const named = mediaTypeOf(contentType);
  if (named !== undefined && named !== mediaType) {
    throw new RegistryError(
      'MANIFEST_INVALID',
      `it says that it is of type ${mediaType}, and the Content-Type ${named}`,
    );
  }
  const json = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  if (json.schemaVersion !== 2) throw new RegistryError('MANIFEST_INVALID', 'its schemaVersion is not 2');
  const digestOf = (field: string) =>
    json[field] === undefined || json[field] === null ? undefined : descriptorDigest(json[field], field);
  const digestsOf = (field: string) => {
    const entries = json[field] ?? [];
    if (!Array.isArray(entries)) throw new RegistryError('MANIFEST_INVALID', `its ${field} is not a list`);
    return entries.map(entry => descriptorDigest(entry, field));
  };
  const config = digestOf('config');
  return {
    mediaType,
    subject: digestOf('subject'),
    blobs: [...(config === undefined ? [] : [config]), ...digestsOf('layers')],
    manifests: digestsOf('manifests'),
    artifactType: textOf(json.artifactType),
    annotations: annotationsOf(json.annotations),
    config: config && {
      mediaType: textOf((json.config as { mediaType?: unknown }).mediaType),
      digest: config,
    },
  };
}

function annotationsOf(value: unknown): Record<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  const isRight =
    typeof value === 'object' &&
    !Array.isArray(value) &&
    Object.values(value).every(text => typeof text === 'string');
  if (isRight) return value as Record<string, string>;
  throw new RegistryError('MANIFEST_INVALID', 'its annotations are not texts by name');
}

function descriptorDigest(descriptor: unknown, field: string): Digest {
  const digest = parseDigest(textOf((descriptor as { digest?: unknown } | null)?.digest) ?? '');
  if (digest !== undefined) return digest;
  throw new RegistryError(
    'MANIFEST_INVALID',
    `its ${field} has a descriptor without a sha256 or sha512 digest`,
  );
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
