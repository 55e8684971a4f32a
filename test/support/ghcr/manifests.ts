// Manifests and what refers to them: GET by tag or digest, PUT with the checks that a registry makes before it accepts
// one, DELETE where it is allowed, and the referrers API, which ghcr.io lacks and another registry would have.
import { digestOf, parseDigest } from '../../../src/oci/digest.ts';
import { MANIFEST_LIMIT_BYTES, mediaTypeOf } from '../../../src/oci/manifest.ts';
import { parseReference } from '../../../src/oci/reference.ts';
import { sourceOf } from '../images.ts';
import type { Auth } from './auth.ts';
import { type Exchange, type Reply, validatorsOf } from './exchange.ts';
import { type Answer, answers, errorAnswer } from './faults.ts';
import type { Package, Version } from './packages.ts';
import type { State } from './state.ts';

const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';
const TOO_LARGE = errorAnswer(413, 'SIZE_INVALID', 'the manifest is larger than 4 MiB');

/** The fields of a manifest that matter here; a client may have put anything there. */
interface Fields {
  readonly mediaType?: unknown;
  readonly artifactType?: unknown;
  readonly annotations?: unknown;
  readonly config?: Fields & { digest?: unknown };
  readonly subject?: { digest?: unknown };
  readonly layers?: unknown;
  readonly manifests?: unknown;
}

export class Manifests {
  readonly #state: State;
  readonly #auth: Auth;

  constructor(state: State, auth: Auth) {
    this.#state = state;
    this.#auth = auth;
  }

  /** GET and HEAD. */
  get({ record, request }: Exchange, found: Package | undefined): Reply {
    const { switches, lags } = this.#state;
    const { reference = '' } = record;
    const manifest = lags.seen('manifest', found, lags.seen('tag', found, reference) ?? reference);
    if (!manifest) return answers.manifestUnknown;
    const { accept = '', 'if-none-match': known } = request.headers;
    if (switches.enforceAccept && !accept.includes(manifest.mediaType)) return notAccepted(manifest);

    const headers = { 'content-type': manifest.mediaType, ...validatorsOf(manifest.digest, switches) };
    if (switches.ifNoneMatch && known?.includes(`"${manifest.digest}"`)) return { status: 304, headers };
    return { status: 200, headers, content: sourceOf(manifest.bytes) };
  }

  /** PUT by tag or by digest: keeps the exact bytes, and as the type what Content-Type says. */
  async put(exchange: Exchange): Promise<Reply> {
    const { record, request, body } = exchange;
    const { packages, switches, lags } = this.#state;
    const { repository = '' } = record;
    const bytes = await body.bytes(MANIFEST_LIMIT_BYTES);
    if (!bytes) return TOO_LARGE;
    const fields = fieldsOf(bytes);
    const mediaType = mediaTypeOf(request.headers['content-type']) ?? fields?.mediaType;
    if (!fields || typeof mediaType !== 'string') {
      return errorAnswer(400, 'MANIFEST_INVALID', 'manifest invalid');
    }
    const names = this.#namesFor(exchange);
    if (!names) return errorAnswer(400, 'TAG_INVALID', 'invalid tag or digest');
    const digest = digestOf(bytes, names.digest?.startsWith('sha512:') ? 'sha512' : 'sha256');
    const allowed = switches.digests.some(algorithm => digest.startsWith(`${algorithm}:`));
    if (!allowed || (names.digest ?? digest) !== digest) return answers.digestInvalid;
    const missing = this.#missingFrom(packages.get(repository), fields);
    if (missing !== undefined) {
      return errorAnswer(400, 'MANIFEST_BLOB_UNKNOWN', 'blob unknown to registry', missing);
    }

    const target = packages.obtainFor(this.#auth.userOf(request), repository);
    lags.write('manifest', target, digest, () => packages.addManifest(repository, { bytes, digest, mediaType }));
    for (const tag of names.tags) lags.write('tag', target, tag, () => target.tags.set(tag, digest));
    const subject = switches.referrers === 'supported' ? fields.subject?.digest : undefined;
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

  /** The digest, if the request names one, and the tags to set; undefined when any is malformed. */
  #namesFor({ record, url }: Exchange): { digest: string | undefined; tags: string[] } | undefined {
    const { searchParams } = url;
    const more = this.#state.switches.nextSpec ? [...searchParams.getAll('digest'), ...searchParams.getAll('tag')] : [];
    const references = [record.reference ?? '', ...more].map(parseReference);
    if (references.includes(undefined)) return undefined;
    return {
      digest: references.find(reference => reference?.digest)?.digest,
      tags: references.flatMap(reference => reference?.tag ?? []),
    };
  }

  /** DELETE where the registry allows it: a tag alone, or a manifest with its tags. */
  delete({ record }: Exchange, found: Package | undefined): Reply {
    const { lags } = this.#state;
    const { reference = '' } = record;
    if (found?.tags.has(reference)) lags.write('tag', found, reference, () => found.tags.delete(reference));
    else if (found?.manifests.has(reference)) lags.deleteManifest(found, reference);
    else return answers.manifestUnknown;
    return { status: 202 };
  }

  /** The first digest that a manifest refers to and the package lacks. A subject may be unknown. */
  #missingFrom(found: Package | undefined, { config, layers, manifests }: Fields): string | undefined {
    const { lags } = this.#state;
    const lacks = (kind: 'blob' | 'manifest') => (digest: string | undefined) =>
      digest !== undefined && lags.seen(kind, found, digest) === undefined;
    const blobs = [config, ...listOf(layers).filter(layer => !isForeign(layer))];
    return blobs.map(digestIn).find(lacks('blob')) ?? listOf(manifests).map(digestIn).find(lacks('manifest'));
  }

  /** GET of the referrers API; on ghcr.io a redirect to a web page that does not exist. */
  referrers(exchange: Exchange, found: Package | undefined): Reply {
    const { switches, lags, originOf } = this.#state;
    if (switches.referrers === 'supported') return referrersAnswer(exchange, lags.seenManifests(found));
    if (switches.referrers === 'not-found') return answers.manifestUnknown;
    const page = `${originOf('blobhost')}/page/${exchange.record.repository}`;
    return { status: 303, headers: { location: page } };
  }
}

/** ghcr.io's error for a manifest whose type Accept does not name; for Docker's types it is a guess. */
function notAccepted({ mediaType }: Version): Answer {
  const kind = mediaType.includes('.oci.') ? 'OCI' : 'Docker';
  const noun = mediaType.includes('.index.') || mediaType.includes('.list.') ? 'index' : 'manifest';
  const plural = noun === 'index' ? 'indexes' : 'manifests';
  const message = `${kind} ${noun} found, but Accept header does not support ${kind} ${plural}`;
  return errorAnswer(404, 'MANIFEST_UNKNOWN', message);
}

/** What refers to a manifest, as an index: the referrers API of the distribution spec (1.1, "Listing Referrers"). */
function referrersAnswer({ record, url }: Exchange, all: readonly Version[]): Answer {
  if (!parseDigest(record.digest ?? '')) return answers.digestInvalid;
  const wanted = url.searchParams.get('artifactType');
  const manifests = all
    .filter(({ bytes }) => fieldsOf(bytes)?.subject?.digest === record.digest)
    .map(descriptorOf)
    .filter(({ artifactType }) => wanted === null || artifactType === wanted);
  return {
    status: 200,
    headers: {
      'content-type': INDEX_TYPE,
      ...(wanted === null ? {} : { 'oci-filters-applied': 'artifactType' }),
    },
    body: { schemaVersion: 2, mediaType: INDEX_TYPE, manifests },
  };
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

/** Layers that clients fetch from elsewhere and never push. */
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
