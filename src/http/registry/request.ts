// From a request line to what is asked for. The raw path is read from its end, since repository names have
// slashes in them; nothing is looked up in a list of patterns.
import { type Digest, parseDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { isName, parseReference, type Reference, type Repository } from '../../oci/reference.ts';

export type Asked =
  | { readonly kind: 'base' }
  | { readonly kind: 'catalog' }
  | { readonly kind: 'manifest'; readonly repository: Repository; readonly reference: Reference }
  | { readonly kind: 'blob'; readonly repository: Repository; readonly digest: Digest }
  | { readonly kind: 'tags'; readonly repository: Repository }
  | { readonly kind: 'referrers'; readonly repository: Repository; readonly digest: Digest }
  /** Without an id: where uploads are begun. */
  | { readonly kind: 'upload'; readonly repository: Repository; readonly id: string | undefined };

export interface ParsedRequest {
  readonly asked: Asked;
  /** To be read alone: that of requests without any is the same for all. */
  readonly query: URLSearchParams;
  /** The `ns` of the query, when there was one: it is to be named in the answer. */
  readonly namespace: string | undefined;
}

export interface Upstreams {
  has(host: string): boolean;
  readonly default: string;
}

const NO_QUERY = new URLSearchParams();
/** Longer than any valid request, with room for a query. */
const TARGET_LIMIT = 4096;

/**
 * Parses a request target under `/v2`. Throws NAME_INVALID, DIGEST_INVALID or TAG_INVALID for what is
 * malformed, and NAME_UNKNOWN for what is no endpoint or names an upstream that is not configured.
 */
export function parseRequest(target: string, upstreams: Upstreams): ParsedRequest {
  if (target.length > TARGET_LIMIT) throw new RegistryError('NAME_INVALID', 'the request path is too long');
  const question = target.indexOf('?');
  const query = question < 0 ? NO_QUERY : new URLSearchParams(target.slice(question + 1));
  const namespace = query.get('ns') ?? undefined;
  if (namespace !== undefined && !upstreams.has(namespace)) {
    const shown = JSON.stringify(namespace.slice(0, 100));
    throw new RegistryError(
      'NAME_UNKNOWN',
      `no upstream ${shown} is configured (query ns): add it under upstreams`,
    );
  }
  const path = decode(question < 0 ? target : target.slice(0, question));
  const parts = path.split('/').slice(2);
  return { asked: parseParts(parts, namespace, upstreams), query, namespace };
}

function parseParts(parts: string[], namespace: string | undefined, upstreams: Upstreams): Asked {
  if (parts.length === 0 || (parts.length === 1 && parts[0] === '')) return { kind: 'base' };
  if (parts.length === 1 && parts[0] === '_catalog') return { kind: 'catalog' };
  const repository = (names: string[]) => parseRepository(names, namespace, upstreams);
  const last = parts.at(-1) ?? '';
  const verb = parts.at(-2);
  const names = parts.slice(0, -2);
  if (verb === 'tags' && last === 'list') return { kind: 'tags', repository: repository(names) };
  if (verb === 'manifests') {
    const reference = parseReference(last);
    if (reference !== undefined) return { kind: 'manifest', repository: repository(names), reference };
    const code = last.includes(':') ? 'DIGEST_INVALID' : 'TAG_INVALID';
    throw new RegistryError(
      code,
      `${JSON.stringify(last.slice(0, 200))} is neither a tag nor a digest of a known algorithm`,
    );
  }
  if (verb === 'blobs' && last !== 'uploads') {
    return { kind: 'blob', repository: repository(names), digest: digestIn(last) };
  }
  if (verb === 'referrers')
    return { kind: 'referrers', repository: repository(names), digest: digestIn(last) };
  const uploads = parts.lastIndexOf('uploads');
  if (uploads > 0 && parts[uploads - 1] === 'blobs' && uploads >= parts.length - 2) {
    const id = uploads === parts.length - 1 || last === '' ? undefined : last;
    return { kind: 'upload', repository: repository(parts.slice(0, uploads - 1)), id };
  }
  throw new RegistryError('NAME_UNKNOWN', 'this is no endpoint of the OCI distribution API');
}

/** A repository that is named in a query, as its name would be in a path. */
export function repositoryNamed(
  name: string,
  namespace: string | undefined,
  upstreams: Upstreams,
): Repository {
  return parseRepository(name.split('/'), namespace, upstreams);
}

/** The repository of the names, of the upstream that `ns`, else the first name, else the default says. */
function parseRepository(names: string[], namespace: string | undefined, upstreams: Upstreams): Repository {
  const [first = ''] = names;
  const prefixed = namespace === undefined && names.length > 1 && upstreams.has(first);
  const upstream = namespace ?? (prefixed ? first : upstreams.default);
  const name = (prefixed ? names.slice(1) : names).join('/');
  if (!isName(name)) {
    const shown = JSON.stringify(name.slice(0, 300));
    throw new RegistryError(
      'NAME_INVALID',
      `${shown} is not a repository name: lower-case letters, digits and . _ - in parts between slashes`,
    );
  }
  return { upstream, name };
}

function digestIn(text: string): Digest {
  const digest = parseDigest(text);
  if (digest !== undefined) return digest;
  throw new RegistryError(
    'DIGEST_INVALID',
    `${JSON.stringify(text.slice(0, 200))} is not a sha256 or sha512 digest`,
  );
}

function decode(path: string): string {
  if (!path.includes('%')) return path;
  try {
    return decodeURIComponent(path);
  } catch {
    throw new RegistryError('NAME_INVALID', 'the request path is not well encoded');
  }
}
