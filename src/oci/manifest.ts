// Manifests and image indexes: their media types, the few fields that a cache reads, and whether a client's Accept
// header allows them.
import { type Digest, parseDigest } from './digest.ts';
import { RegistryError } from './errors.ts';
import { parseJson, parseJsonObject } from './json.ts';

/** Sent as Accept to upstreams. ghcr.io answers 404 for a type that is not listed, so all four always are. */
export const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
] as const;

/** The format before these, with Docker's signature inside or without. */
const SCHEMA_1_TYPE = /^application\/vnd\.docker\.distribution\.manifest\.v1\+(json|prettyjws)$/;

/** Of what is looked at for that: parsed on the event loop. */
const SCHEMA_1_VALUES_LIMIT = 20_000;

/** The largest manifest accepted: as much as the distribution spec says every registry should accept. */
export const MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024;

/** The most parts that are told of one manifest: each becomes a row. No image has more than some hundred. */
const PARTS_LIMIT = 10_000;

/** What a cache reads from a manifest: plain data, which may cross to another thread. */
export interface ManifestInfo {
  /**
   * Its `mediaType` field, else the Content-Type that it came with, else what its fields imply. Undefined when the
   * bytes are not a manifest of a known type.
   */
  readonly mediaType: string | undefined;
  /** Why it is not valid as a manifest of that type, sent with that Content-Type; undefined when it is. */
  readonly problem: string | undefined;
  /** Its config, layers, blobs and child manifests, each digest once; not its subject. What cannot be read is left out. */
  readonly parts: readonly Digest[];
  readonly subject: Digest | undefined;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
  /** What an image consists of: its config and layers. */
  readonly blobs: readonly Digest[];
  /** In bytes, of those that are said to have one. */
  readonly sizes: Readonly<Record<Digest, number>>;
  /** What an image index lists. */
  readonly manifests: readonly Digest[];
  /** The config of an image, whose labels may name its source. */
  readonly config: { readonly mediaType: string | undefined; readonly digest: Digest } | undefined;
}

/** A manifest that is valid as one of its type. Whether what it references exists is for the upstream to decide. */
export type ValidManifest = ManifestInfo & { readonly mediaType: string };

/** Reads a manifest that came with this Content-Type. Takes long for a large one: see readManifest() in reading.ts. */
export function inspectManifest(bytes: Uint8Array, contentType: string | undefined): ManifestInfo {
  try {
    const json = parseJson(bytes);
    if (typeof json !== 'object' || json === null || Array.isArray(json)) return unreadable('it is not an object');
    return inspect(json as Record<string, unknown>, contentType);
  } catch (error) {
    return unreadable((error as Error).message);
  }
}

/** Throws MANIFEST_INVALID, saying what is wrong with the manifest. */
export function assertValid(info: ManifestInfo): asserts info is ValidManifest {
  if (info.problem !== undefined) throw new RegistryError('MANIFEST_INVALID', info.problem);
}

function unreadable(why: string): ManifestInfo {
  return {
    ...{ mediaType: undefined, subject: undefined, artifactType: undefined, annotations: undefined, config: undefined },
    ...{ parts: [], blobs: [], sizes: {}, manifests: [], problem: `this is not a manifest of a known type: ${why}` },
  };
}

function inspect(json: Record<string, unknown>, contentType: string | undefined): ManifestInfo {
  const mediaType = typeOf(json, contentType);
  const { config, layers, blobs, manifests, subject, annotations } = json;
  const configDigest = digestIn(config);
  return {
    mediaType,
    problem: problemOf(json, mediaType, mediaTypeOf(contentType)),
    parts: distinct([config, layers, blobs, manifests]),
    subject: digestIn(subject),
    artifactType: textOf(json.artifactType),
    annotations: areAnnotations(annotations) ? annotations : undefined,
    blobs: distinct([config, layers]),
    sizes: sizesOf([config, layers]),
    manifests: distinct([manifests]),
    config: configDigest && { mediaType: textOf((config as { mediaType?: unknown }).mediaType), digest: configDigest },
  };
}

/** Whether it is an image in the format of before 2015, by its Content-Type or its fields. */
export function isSchema1(bytes: Uint8Array, contentType: string | undefined): boolean {
  if (SCHEMA_1_TYPE.test(mediaTypeOf(contentType) ?? '')) return true;
  const json = parseJsonObject(bytes, SCHEMA_1_VALUES_LIMIT);
  return json?.schemaVersion === 1 && Array.isArray(json.fsLayers);
}

function typeOf(json: Record<string, unknown>, contentType: string | undefined): string | undefined {
  for (const type of [textOf(json.mediaType), mediaTypeOf(contentType)]) {
    if (type !== undefined && (MANIFEST_TYPES as readonly string[]).includes(type)) return type;
  }
  if (json.schemaVersion !== 2) return undefined;
  if (Array.isArray(json.manifests)) return 'application/vnd.oci.image.index.v1+json';
  return Array.isArray(json.layers) ? 'application/vnd.oci.image.manifest.v1+json' : undefined;
}

function problemOf(json: Record<string, unknown>, mediaType: string | undefined, sentAs: string | undefined) {
  if (mediaType === undefined) {
    return `this is not a manifest of a known type: it has to be JSON, and one of ${MANIFEST_TYPES.join(', ')}`;
  }
  if (sentAs !== undefined && sentAs !== mediaType) {
    return `the manifest is of type ${mediaType}, but was sent with Content-Type ${sentAs}`;
  }
  if (json.schemaVersion !== 2) return 'schemaVersion is not 2';
  const lacking = (field: string) => `${field} has a descriptor without a sha256 or sha512 digest`;
  for (const field of ['config', 'subject']) {
    if (json[field] != null && digestIn(json[field]) === undefined) return lacking(field);
  }
  for (const field of ['layers', 'manifests']) {
    const entries = json[field] ?? [];
    if (!Array.isArray(entries)) return `${field} is not a list`;
    if (entries.some(entry => digestIn(entry) === undefined)) return lacking(field);
  }
  if (json.annotations != null && !areAnnotations(json.annotations)) return 'annotations is not a map of strings';
  return undefined;
}

/** The digests of descriptors and lists of them, each once and in their order. */
function distinct(descriptors: readonly unknown[]): Digest[] {
  const digests = new Set<Digest>();
  for (const descriptor of descriptors.flat()) {
    const digest = digestIn(descriptor);
    if (digest !== undefined) digests.add(digest);
    if (digests.size === PARTS_LIMIT) break;
  }
  return [...digests];
}

/** Of descriptors and lists of them. */
function sizesOf(descriptors: readonly unknown[]): Record<Digest, number> {
  const sizes: Record<Digest, number> = {};
  for (const descriptor of descriptors.flat().slice(0, PARTS_LIMIT)) {
    const digest = digestIn(descriptor);
    const size = (descriptor as { size?: unknown } | null | undefined)?.size;
    if (digest !== undefined && Number.isSafeInteger(size) && (size as number) >= 0) sizes[digest] = size as number;
  }
  return sizes;
}

function areAnnotations(value: unknown): value is Record<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every(text => typeof text === 'string');
}

function digestIn(descriptor: unknown): Digest | undefined {
  return parseDigest(textOf((descriptor as { digest?: unknown } | null | undefined)?.digest) ?? '');
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
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
