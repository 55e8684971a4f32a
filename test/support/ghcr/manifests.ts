// Pushed manifests: what a package must hold before it takes one, and the registry's view of what refers to
// what, which ghcr.io does not have and another registry would.
import { digestOf, parseDigest } from '../../../src/oci/digest.ts';
import { MANIFEST_LIMIT_BYTES, mediaTypeOf } from '../../../src/oci/manifest.ts';
import { parseReference } from '../../../src/oci/reference.ts';
import type { Auth } from './auth.ts';
import { type Answer, answers, errorAnswer } from './faults.ts';
import type { Package, Packages, Version } from './packages.ts';
import { type Exchange, type Reply, replyOf } from './send.ts';
import type { Switches } from './switches.ts';

const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';
const TOO_LARGE = errorAnswer(413, 'SIZE_INVALID', 'the manifest is larger than 4 MiB');

/** The fields of a manifest that the stand-in looks at; a client may have put anything there. */
interface Fields {
  readonly mediaType?: unknown;
  readonly artifactType?: unknown;
  readonly annotations?: unknown;
  readonly config?: Fields & { digest?: unknown };
  readonly subject?: { digest?: unknown };
  readonly layers?: unknown;
  readonly manifests?: unknown;
}

export class ManifestWrites {
  readonly #packages: Packages;
  readonly #switches: Switches;
  readonly #auth: Auth;

  constructor(packages: Packages, switches: Switches, auth: Auth) {
    this.#packages = packages;
    this.#switches = switches;
    this.#auth = auth;
  }

  /** PUT by tag or by digest: the exact bytes are kept, and the type is what Content-Type says. */
  async put(exchange: Exchange): Promise<Reply> {
    const { record, request, body } = exchange;
    const { repository = '' } = record;
    const bytes = await body.bytes(MANIFEST_LIMIT_BYTES);
    if (!bytes) return replyOf(TOO_LARGE);
    const fields = fieldsOf(bytes);
    const mediaType = mediaTypeOf(request.headers['content-type']) ?? fields?.mediaType;
    if (!fields || typeof mediaType !== 'string') {
      return replyOf(errorAnswer(400, 'MANIFEST_INVALID', 'manifest invalid'));
    }
    const names = this.#namesFor(exchange);
    if (!names) return replyOf(errorAnswer(400, 'TAG_INVALID', 'invalid tag or digest'));
    const digest = digestOf(bytes, names.digest?.startsWith('sha512:') ? 'sha512' : 'sha256');
    const allowed = this.#switches.digests.some(algorithm => digest.startsWith(`${algorithm}:`));
    if (!allowed || (names.digest ?? digest) !== digest) return replyOf(answers.digestInvalid);
    const missing = missingFrom(this.#packages.get(repository), fields);
    if (missing !== undefined) {
      return replyOf(errorAnswer(400, 'MANIFEST_BLOB_UNKNOWN', 'blob unknown to registry', missing));
    }

    const { tags } = this.#packages.obtainFor(this.#auth.userOf(request), repository);
    this.#packages.addManifest(repository, { bytes, digest, mediaType });
    for (const tag of names.tags) tags.set(tag, digest);
    const subject = this.#switches.referrers === 'supported' ? fields.subject?.digest : undefined;
    return {
      status: 201,
      headers: {
        location: `/v2/${repository}/manifests/${digest}`,
        'docker-content-digest': digest,
        ...(typeof subject === 'string' ? { 'oci-subject': subject } : {}),
        ...(record.digest && names.tags.length > 0 ? { 'oci-tag': names.tags.join(', ') } : {}),
      },
    };
  }

  /** The digest, if one was said, and the tags that a manifest is to have; undefined when any is malformed. */
  #namesFor({ record, url }: Exchange): { digest: string | undefined; tags: string[] } | undefined {
    const { searchParams } = url;
    const more = this.#switches.nextSpec
      ? [...searchParams.getAll('digest'), ...searchParams.getAll('tag')]
      : [];
    const references = [record.reference ?? '', ...more].map(parseReference);
    if (references.includes(undefined)) return undefined;
    return {
      digest: references.find(reference => reference?.digest)?.digest,
      tags: references.flatMap(reference => reference?.tag ?? []),
    };
  }

  /** DELETE where it is allowed: of a tag alone, or of a manifest with its tags. */
  delete({ record }: Exchange, found: Package | undefined): Reply {
    const { repository = '', reference = '' } = record;
    if (found?.tags.delete(reference)) return { status: 202 };
    if (!found?.manifests.has(reference)) return replyOf(answers.manifestUnknown);
    this.#packages.deleteManifest(repository, reference);
    return { status: 202 };
  }
}

/** What refers to a manifest, as an index: the referrers API of the distribution spec. */
export function referrersReply({ record, url }: Exchange, found: Package | undefined): Reply {
  if (!parseDigest(record.digest ?? '')) return replyOf(answers.digestInvalid);
  const wanted = url.searchParams.get('artifactType');
  const manifests = [...(found?.manifests.values() ?? [])]
    .filter(({ bytes }) => fieldsOf(bytes)?.subject?.digest === record.digest)
    .map(descriptorOf)
    .filter(({ artifactType }) => wanted === null || artifactType === wanted);
  const answer: Answer = {
    status: 200,
    headers: {
      'content-type': INDEX_TYPE,
      ...(wanted === null ? {} : { 'oci-filters-applied': 'artifactType' }),
    },
    body: { schemaVersion: 2, mediaType: INDEX_TYPE, manifests },
  };
  return replyOf(answer);
}

function descriptorOf({ bytes, digest, mediaType }: Version) {
  const { artifactType, config, annotations } = fieldsOf(bytes) ?? {};
  return {
    mediaType,
    digest,
    size: bytes.length,
    artifactType: artifactType || config?.mediaType,
    annotations,
  };
}

/** The first digest that a manifest needs and the package does not hold. A subject may be unknown. */
function missingFrom(found: Package | undefined, { config, layers, manifests }: Fields): string | undefined {
  const blobs = [config, ...listOf(layers).filter(layer => !isForeign(layer))];
  return (
    blobs.map(digestIn).find(digest => digest !== undefined && !found?.blobs.has(digest)) ??
    listOf(manifests)
      .map(digestIn)
      .find(digest => digest !== undefined && !found?.manifests.has(digest))
  );
}

/** Layers that are fetched from where they come from, and never pushed. */
function isForeign(layer: unknown): boolean {
  const { mediaType } = layer as Fields;
  return typeof mediaType === 'string' && /\.(foreign|nondistributable)\./.test(mediaType);
}

function digestIn(descriptor: unknown): string | undefined {
  const digest = (descriptor as { digest?: unknown } | undefined)?.digest;
  return typeof digest === 'string' ? digest : undefined;
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value.filter(item => typeof item === 'object' && item !== null) : [];
}

function fieldsOf(bytes: Uint8Array): Fields | undefined {
  try {
    const json: unknown = JSON.parse(Buffer.from(bytes).toString());
    return typeof json === 'object' && json !== null && !Array.isArray(json) ? json : undefined;
  } catch {
    return undefined;
  }
}
