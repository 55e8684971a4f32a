// Repository names, tags and references, as the OCI distribution spec spells them.
import { type Digest, parseDigest } from './digest.ts';
import { parseJsonObject } from './json.ts';

/** A repository of one upstream. `name` is the OCI name only: `owner/image`, never `ghcr.io/owner/image`. */
export interface Repository {
  readonly upstream: string;
  readonly name: string;
}

/** What a manifest is requested by: a tag, which may move, or a digest, which cannot. */
export type Reference =
  | { readonly tag: string; readonly digest?: undefined }
  | { readonly digest: Digest; readonly tag?: undefined };

/** Which upstreams are configured. */
export interface Upstreams {
  has(host: string): boolean;
  readonly default: string;
  /** Set when no owner at the default upstream has a dot: what begins with one is then meant for another host. */
  readonly ownersWithoutDots?: boolean;
}

// Anchored and linear, and only applied to input of bounded length.
const NAME = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const NAME_LIMIT = 255;
/** Members of a page of a list of tags: 100,000 tags. */
const LISTED_LIMIT = 100_010;

/** Whether `name` follows the `<name>` grammar of the spec, with at most 255 characters, as in other registries. */
export function isName(name: string): boolean {
  return name.length <= NAME_LIMIT && NAME.test(name);
}

export function isTag(tag: string): boolean {
  return TAG.test(tag);
}

/** The tags of a page of a list, without what cannot be a tag; undefined when the bytes are no such page. */
export function tagsIn(bytes: Uint8Array): string[] | undefined {
  const json = parseJsonObject(bytes, LISTED_LIMIT);
  if (json === undefined) return undefined;
  const tags = json.tags ?? [];
  const isList = Array.isArray(tags) && 'tags' in json && tags.every(tag => typeof tag === 'string');
  return isList ? tags.filter(isTag) : undefined;
}

/** A digest if the text has a colon (which no tag may have), else a tag; undefined when it is neither. */
export function parseReference(text: string): Reference | undefined {
  if (text.includes(':')) {
    const digest = parseDigest(text);
    return digest && { digest };
  }
  return isTag(text) ? { tag: text } : undefined;
}

/** As people write it: `ghcr.io/owner/image:tag` or `ghcr.io/owner/image@sha256:…`. */
export function imageName(repository: Repository, reference?: Reference): string {
  const name = `${repository.upstream}/${repository.name}`;
  if (reference === undefined) return name;
  return reference.tag === undefined ? `${name}@${reference.digest}` : `${name}:${reference.tag}`;
}

/**
 * Parses an image as people write it: `[host/]name[:tag][@digest]`. The default upstream applies when the first
 * component is not a configured one, and `latest` when there is no reference; a digest takes precedence over a tag.
 * Undefined when it is malformed.
 */
export function parseImage(
  text: string,
  upstreams: Upstreams,
): { repository: Repository; reference: Reference } | undefined {
  const [, whole = '', tag = 'latest', digest] =
    /^([^:@]*(?::\d+\/[^:@]*)?)(?::([^:@/]+))?(?:@(.+))?$/.exec(text) ?? [];
  const host = whole.slice(0, Math.max(0, whole.indexOf('/')));
  const repository = upstreams.has(host)
    ? { upstream: host, name: whole.slice(host.length + 1) }
    : { upstream: upstreams.default, name: whole };
  const reference = parseReference(digest ?? tag);
  return isName(repository.name) && reference !== undefined ? { repository, reference } : undefined;
}

/** The first component of the name: what credentials are matched by. */
export function ownerOf(repository: Repository): string {
  const slash = repository.name.indexOf('/');
  return slash < 0 ? repository.name : repository.name.slice(0, slash);
}
