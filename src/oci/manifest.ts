// Manifests and indexes: media types, the little of their contents that a cache reads, and whether a
// client's Accept header takes them.

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
  return accept.split(',').some(item => {
    const [range = '', ...parameters] = item.split(';').map(part => part.trim().toLowerCase());
    if (parameters.some(parameter => /^q=0(\.0*)?$/.test(parameter))) return false;
    return range === type || range === '*/*' || (range.endsWith('/*') && type.startsWith(range.slice(0, -1)));
  });
}
