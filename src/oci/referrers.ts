// Referrers: manifests whose subject is another manifest, and the image index that lists them (distribution spec 1.1,
// "Listing Referrers" and "Referrers Tag Schema").
import { algorithmOf, type Digest, hexOf } from './digest.ts';
import { parseJsonObject } from './json.ts';
import type { ManifestInfo } from './manifest.ts';

export const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';

const HEX_LIMIT = 64;
/** Of an index, which is parsed and written on the event loop: some 10,000 entries. */
const VALUES_LIMIT = 100_000;

/** The tag under which clients keep the referrers of a digest at a registry without the referrers API. */
export function fallbackTag(subject: Digest): string {
  return `${algorithmOf(subject)}-${hexOf(subject).slice(0, HEX_LIMIT)}`;
}

/** The entries of an image index; undefined when the bytes are not one. */
export function indexEntries(bytes: Uint8Array | undefined): unknown[] | undefined {
  const { manifests } = (bytes && parseJsonObject(bytes, VALUES_LIMIT)) ?? {};
  return Array.isArray(manifests) ? manifests : undefined;
}

/** The index of these entries, with the other members of `previous`, the index that it replaces. */
export function indexOf(entries: readonly unknown[], previous?: Uint8Array): Buffer {
  const index = previous === undefined ? {} : JSON.parse(new TextDecoder().decode(previous));
  const { schemaVersion: _version, mediaType: _type, manifests: _entries, ...others } = index;
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX_TYPE, ...others, manifests: entries }));
}

/** The entry of a manifest among the referrers of its subject (distribution spec 1.1, "Listing Referrers"). */
export function descriptorOf(
  { digest, bytes }: { readonly digest: Digest; readonly bytes: Uint8Array },
  info: Pick<ManifestInfo, 'mediaType' | 'artifactType' | 'annotations' | 'config'>,
): Record<string, unknown> {
  const { mediaType, annotations } = info;
  const artifactType = info.artifactType ?? info.config?.mediaType;
  return {
    mediaType,
    digest,
    size: bytes.length,
    ...(artifactType !== undefined && { artifactType }),
    ...(annotations && { annotations }),
  };
}

/** The digest of an entry of an index, as it is there; undefined when it has none. */
export function entryDigest(entry: unknown): string | undefined {
  const digest = (entry as { digest?: unknown } | null | undefined)?.digest;
  return typeof digest === 'string' ? digest : undefined;
}

/** Whether an entry of an index is for this digest. */
export function isFor(entry: unknown, digest: Digest): boolean {
  return entryDigest(entry) === digest;
}

export function artifactTypeOf(entry: unknown): unknown {
  return (entry as { artifactType?: unknown } | null)?.artifactType;
}
