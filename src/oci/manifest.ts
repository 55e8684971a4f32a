// Manifests and image indexes: their media types, the few fields that a cache reads, and whether a client's Accept
// header allows them.
import { type Digest, parseDigest } from './digest.ts';
import { RegistryError } from './errors.ts';

/** Sent as Accept to upstreams. ghcr.io answers 404 for a type that is not listed, so all four always are. */
export const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
] as const;

/** The largest manifest accepted: as much as the distribution spec says every registry should accept. */
export const MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024;

/**
 * The media type of a manifest: its `mediaType` field, else the Content-Type that it came with, else what its fields
 * imply. Undefined when the bytes are not a manifest of a known type.
 */
export function manifestType(bytes: Uint8Array, contentType: string | undefined): string | undefined {
  const json = parse(bytes);
  return json && typeOf(json, contentType);
}

function typeOf(json: Record<string, unknown>, contentType: string | undefined): string | undefined {
  for (const type of [textOf(json.mediaType), mediaTypeOf(contentType)]) {
    if (type !== undefined && (MANIFEST_TYPES as readonly string[]).includes(type)) return type;
  }
  if (json.schemaVersion !== 2) return undefined;
  if (Array.isArray(json.manifests)) return 'application/vnd.oci.image.index.v1+json';
  return Array.isArray(json.layers) ? 'application/vnd.oci.image.manifest.v1+json' : undefined;
}

/** The JSON object that a manifest is; undefined when the bytes are none. */
function parse(bytes: Uint8Array): Record<string, unknown> | undefined {
  try {
    const json: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    return typeof json === 'object' && json !== null && !Array.isArray(json)
      ? (json as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/**
 * What a manifest is made of: its config, layers, blobs and child manifests, each digest once. Not its subject. For
 * manifests that were pulled as well: what cannot be read has no parts.
 */
export function partsOf(bytes: Uint8Array): Digest[] {
  const { config, layers, blobs, manifests } = parse(bytes) ?? {};
  const digests = [config, layers, blobs, manifests].flat().map(digestIn);
  return [...new Set(digests.filter(digest => digest !== undefined))];
}

/** The media type in a Content-Type header: without parameters, in lower case. */
export function mediaTypeOf(contentType: string | undefined): string | undefined {
  return contentType?.split(';', 1)[0]?.trim().toLowerCase();
}

/**
 * Whether an Accept header allows `type`. A missing header allows everything. Weights other than `q=0` do not matter,
 * since there is only one representation to offer.
 */
export function accepts(accept: string | undefined, type: string): boolean {
  if (accept === undefined || accept.trim() === '') return true;
  let ranges = parsedAccepts.get(accept);
  if (ranges === undefined) {
    ranges = acceptedRanges(accept);
    if (parsedAccepts.size >= PARSED_ACCEPTS_LIMIT) parsedAccepts.clear();
    parsedAccepts.set(accept, ranges);
  }
  return ranges.some(
    range => range === type || range === '*/*' || (range.endsWith('/*') && type.startsWith(range.slice(0, -1))),
  );
}

/** Clients send the same few headers over and over. The server limits each to 16 KiB. */
const parsedAccepts = new Map<string, readonly string[]>();
const PARSED_ACCEPTS_LIMIT = 100;

function acceptedRanges(accept: string): string[] {
  return accept.split(',').flatMap(item => {
    const [range = '', ...parameters] = item.split(';').map(part => part.trim().toLowerCase());
    return parameters.some(parameter => /^q=0(\.0*)?$/.test(parameter)) ? [] : [range];
  });
}

/** What a registry reads from a manifest that is pushed to it. */
export interface ManifestParts {
  readonly mediaType: string;
  readonly subject: Digest | undefined;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
  /** What an image consists of: its config and layers. */
  readonly blobs: readonly Digest[];
  /** What an image index lists. */
  readonly manifests: readonly Digest[];
  /** The config of an image, whose labels may name its source. */
  readonly config: { readonly mediaType: string | undefined; readonly digest: Digest } | undefined;
}

/**
 * Reads a manifest that a client pushed with this Content-Type. Throws MANIFEST_INVALID, saying what is wrong with it.
 * Whether everything that it references exists is for the upstream to decide.
 */
export function readManifest(bytes: Uint8Array, contentType: string | undefined): ManifestParts {
  const json = parse(bytes);
  const mediaType = json && typeOf(json, contentType);
  if (json === undefined || mediaType === undefined) {
    throw invalid(`this is not a manifest of a known type: it has to be JSON, and one of ${MANIFEST_TYPES.join(', ')}`);
  }
  const sentAs = mediaTypeOf(contentType);
  if (sentAs !== undefined && sentAs !== mediaType) {
    throw invalid(`the manifest is of type ${mediaType}, but was sent with Content-Type ${sentAs}`);
  }
  if (json.schemaVersion !== 2) throw invalid('schemaVersion is not 2');
  const digestOf = (field: string) => (json[field] == null ? undefined : descriptorDigest(json[field], field));
  const digestsOf = (field: string) => {
    const entries = json[field] ?? [];
    if (!Array.isArray(entries)) throw invalid(`${field} is not a list`);
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
    config: config && { mediaType: textOf((json.config as { mediaType?: unknown }).mediaType), digest: config },
  };
}

function annotationsOf(value: unknown): Record<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  const isMap = typeof value === 'object' && !Array.isArray(value);
  if (isMap && Object.values(value).every(text => typeof text === 'string')) return value as Record<string, string>;
  throw invalid('annotations is not a map of strings');
}

function descriptorDigest(descriptor: unknown, field: string): Digest {
  const digest = digestIn(descriptor);
  if (digest !== undefined) return digest;
  throw invalid(`${field} has a descriptor without a sha256 or sha512 digest`);
}

function digestIn(descriptor: unknown): Digest | undefined {
  return parseDigest(textOf((descriptor as { digest?: unknown } | null | undefined)?.digest) ?? '');
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function invalid(message: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', message);
}
