// From a request target to the resource that it names. The path is read from its end, since repository names contain
// slashes; there is no list of patterns to match.
import { type Digest, parseDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { isName, parseReference, type Reference, type Repository, type Upstreams } from '../../oci/reference.ts';

/** What a request target names, by kind. */
interface Names {
  readonly base: unknown;
  readonly catalog: unknown;
  readonly manifest: { readonly repository: Repository; readonly reference: Reference };
  readonly blob: { readonly repository: Repository; readonly digest: Digest };
  readonly tags: { readonly repository: Repository };
  readonly referrers: { readonly repository: Repository; readonly digest: Digest };
  /** Where uploads are started. */
  readonly uploads: { readonly repository: Repository };
  readonly upload: { readonly repository: Repository; readonly id: string };
}

export type Kind = keyof Names;
export type Resource<K extends Kind = Kind> = { [P in K]: { readonly kind: P } & Names[P] }[K];

export interface ParsedRequest<K extends Kind = Kind> {
  readonly resource: Resource<K>;
  /** Read-only: requests without a query share one. */
  readonly query: URLSearchParams;
  /** The `ns` of the query, if any; the response has to name it. */
  readonly namespace: string | undefined;
}

const NO_QUERY = new URLSearchParams();
/** Longer than any valid request, with room for a query. */
const TARGET_LIMIT = 4096;

/**
 * Parses a request target under `/v2`. Throws NAME_INVALID, DIGEST_INVALID or TAG_INVALID when it is malformed, and
 * NAME_UNKNOWN when it is not an endpoint or names an upstream that is not configured.
 */
export function parseRequest(target: string, upstreams: Upstreams): ParsedRequest {
  if (target.length > TARGET_LIMIT) throw new RegistryError('NAME_INVALID', 'the request path is too long');
  const question = target.indexOf('?');
  const query = question < 0 ? NO_QUERY : new URLSearchParams(target.slice(question + 1));
  const namespace = query.get('ns') ?? undefined;
  if (namespace !== undefined && !upstreams.has(namespace)) {
    const shown = JSON.stringify(namespace.slice(0, 100));
    throw new RegistryError('NAME_UNKNOWN', `no upstream ${shown} is configured (query ns): add it under upstreams`);
  }
  const path = decode(question < 0 ? target : target.slice(0, question));
  const parts = path.split('/').slice(2);
  return { resource: parseParts(parts, namespace, upstreams), query, namespace };
}

function parseParts(parts: string[], namespace: string | undefined, upstreams: Upstreams): Resource {
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
    const shown = JSON.stringify(last.slice(0, 200));
    const code = last.includes(':') ? 'DIGEST_INVALID' : 'TAG_INVALID';
    throw new RegistryError(code, `${shown} is neither a tag nor a digest of a known algorithm`);
  }
  if (verb === 'blobs' && last === 'uploads') return { kind: 'uploads', repository: repository(names) };
  if (verb === 'blobs') return { kind: 'blob', repository: repository(names), digest: digestIn(last) };
  if (verb === 'referrers') return { kind: 'referrers', repository: repository(names), digest: digestIn(last) };
  if (verb === 'uploads' && names.at(-1) === 'blobs') {
    const owner = repository(names.slice(0, -1));
    return last === '' ? { kind: 'uploads', repository: owner } : { kind: 'upload', repository: owner, id: last };
  }
  throw new RegistryError('NAME_UNKNOWN', 'this is not an endpoint of the OCI distribution API');
}

/** The repository that a query names, written as in a path. */
export function repositoryNamed(name: string, namespace: string | undefined, upstreams: Upstreams): Repository {
  return parseRepository(name.split('/'), namespace, upstreams);
}

/**
 * The upstream is that of `ns`, else the first name if it is a configured host, else the default. containerd may send
 * both for one host (override_path).
 */
function parseRepository(names: string[], namespace: string | undefined, upstreams: Upstreams): Repository {
  const [first = ''] = names;
  const prefixed = names.length > 1 && (namespace === undefined ? upstreams.has(first) : first === namespace);
  if (namespace === undefined && !prefixed && names.length > 1 && isForeignHost(first, upstreams)) {
    throw new RegistryError('NAME_UNKNOWN', `${first} is no upstream here: add it under upstreams`);
  }
  const upstream = namespace ?? (prefixed ? first : upstreams.default);
  const name = (prefixed ? names.slice(1) : names).join('/');
  if (!isName(name)) {
    const rule = 'lower-case letters, digits and . _ - in parts between slashes';
    throw new RegistryError('NAME_INVALID', `${JSON.stringify(name.slice(0, 300))} is not a repository name: ${rule}`);
  }
  return { upstream, name };
}

/** Whether a name that is not a configured host can be nothing but one. A port is in no name, and a dot in some. */
function isForeignHost(name: string, { ownersWithoutDots = false }: Upstreams): boolean {
  const [, dot, port] = /^[a-z0-9-]{1,63}((?:\.[a-z0-9-]{1,63}){0,9})(:\d{1,5})?$/.exec(name) ?? [];
  return port !== undefined || (ownersWithoutDots && dot !== undefined && dot !== '');
}

/** A digest in the path, or in a parameter of the query. Throws DIGEST_INVALID. */
export function digestIn(text: string, parameter?: string): Digest {
  const digest = parseDigest(text);
  if (digest !== undefined) return digest;
  const shown = `${parameter === undefined ? '' : `${parameter}=`}${JSON.stringify(text.slice(0, 200))}`;
  throw new RegistryError('DIGEST_INVALID', `${shown} is not a sha256 or sha512 digest`);
}

function decode(path: string): string {
  if (!path.includes('%')) return path;
  try {
    return decodeURIComponent(path);
  } catch {
    throw new RegistryError('NAME_INVALID', 'the request path is not well encoded');
  }
}
