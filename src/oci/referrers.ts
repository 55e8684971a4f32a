// Referrers: manifests that name another one as their subject, and the index that lists them (distribution
// spec 1.1, "Listing Referrers" and "Referrers Tag Schema").
import { algorithmOf, type Digest, hexOf } from './digest.ts';

export const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';

const HEX_LIMIT = 64;

/** The tag under which the referrers of a digest are listed where a registry does not do it. */
export function fallbackTag(subject: Digest): string {
  return `${algorithmOf(subject)}-${hexOf(subject).slice(0, HEX_LIMIT)}`;
}

/** The entries of an image index; undefined when the bytes are none. */
export function indexEntries(bytes: Uint8Array | undefined): unknown[] | undefined {
  try {
    const index = JSON.parse(new TextDecoder().decode(bytes)) as { manifests: unknown };
    // What is nested too deep to be written again is not read either.
    JSON.stringify(index);
    const { manifests } = index;
    return Array.isArray(manifests) ? manifests : undefined;
  } catch {
    return undefined;
  }
}

/** The index that lists these entries, and says what `before` says beside its own. */
export function indexOf(entries: readonly unknown[], before?: Uint8Array): Buffer {
  const said = before === undefined ? {} : JSON.parse(new TextDecoder().decode(before));
  const { schemaVersion: _version, mediaType: _type, manifests: _entries, ...others } = said;
  return Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: INDEX_TYPE, ...others, manifests: entries }),
  );
}

/** Whether an entry of an index is for this digest. */
export function isFor(entry: unknown, digest: Digest): boolean {
  return (entry as { digest?: unknown } | null)?.digest === digest;
}

export function artifactTypeOf(entry: unknown): unknown {
  return (entry as { artifactType?: unknown } | null)?.artifactType;
}
