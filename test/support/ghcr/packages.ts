// What the fake ghcr.io holds: packages with their blobs, manifests and tags, and the users with their rights to them.
// Plain state without HTTP; every change takes effect on the next request.
import type { Digest } from '../../../src/oci/digest.ts';
import type { Content, Image, Index } from '../images.ts';

export type Visibility = 'public' | 'private';

/** A manifest in a package, which GitHub's package API calls a version. */
export interface Version {
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  readonly mediaType: string;
  /** Higher for newer ones. */
  readonly id: number;
}

export interface Package {
  readonly name: string;
  visibility: Visibility;
  readonly blobs: Map<string, Content>;
  /** Oldest first. */
  readonly manifests: Map<string, Version>;
  /** In order of creation, which is the order of tags/list. */
  readonly tags: Map<string, Digest>;
  /** Names of further users with the right to read it: those who pushed it first. */
  readonly readers: Set<string>;
}

export interface User {
  username: string;
  /** The personal access token. */
  token: string;
  /** Default: `['read:packages']`. Without it or `write:packages` not even public packages can be read. */
  scopes?: readonly string[];
  /** Private packages that the user may read: names, `owner/*`, or `*` for all. */
  packages?: readonly string[];
  /** Packages that the user may write, and therefore read, within the token's scopes. Default: `packages`. */
  writes?: readonly string[];
  /** When the token expires, as GitHub writes it: `2030-01-31 12:00:00 UTC`. Default: never. */
  expiration?: string;
}

export class Packages {
  readonly #packages = new Map<string, Package>();
  readonly #users = new Map<string, User>();
  #versions = 0;

  /** Adds an empty package, or changes the visibility of an existing one. */
  add(name: string, visibility: Visibility): Package {
    const found = this.#packages.get(name);
    if (found) {
      found.visibility = visibility;
      return found;
    }
    const made: Package = {
      name,
      visibility,
      blobs: new Map(),
      manifests: new Map(),
      tags: new Map(),
      readers: new Set(),
    };
    this.#packages.set(name, made);
    return made;
  }

  get(name: string): Package | undefined {
    return this.#packages.get(name);
  }

  /** The package; a new one is public. */
  obtain(name: string): Package {
    return this.#packages.get(name) ?? this.add(name, 'public');
  }

  /** The package that a user pushes to; a new one is private, and the user may read it. */
  obtainFor(user: User | undefined, name: string): Package {
    const found = this.#packages.get(name) ?? this.add(name, 'private');
    if (found.manifests.size === 0 && user) found.readers.add(user.username);
    return found;
  }

  delete(name: string): void {
    this.#packages.delete(name);
  }

  list(): Package[] {
    return [...this.#packages.values()];
  }

  /** Adds an image, or an index with all its images, and points the tags to it. */
  push(name: string, image: Image | Index, tags: readonly string[]): void {
    const { blobs, tags: tagged } = this.obtain(name);
    const queue = [image];
    for (const { manifest, ...parts } of queue) {
      this.addManifest(name, manifest);
      if ('images' in parts) queue.push(...parts.images);
      else for (const blob of [parts.config, ...parts.layers]) blobs.set(blob.digest, blob);
    }
    for (const tag of tags) tagged.set(tag, image.manifest.digest);
  }

  /** Adds a manifest; an existing one keeps its id. */
  addManifest(name: string, { digest, bytes, mediaType }: Omit<Version, 'id'>): void {
    const { manifests } = this.obtain(name);
    const id = manifests.get(digest)?.id ?? ++this.#versions;
    manifests.set(digest, { digest, bytes, mediaType, id });
  }

  /** Deletes a manifest with all tags that point to it, as GitHub does with a version. */
  deleteManifest(name: string, digest: string): void {
    const found = this.get(name);
    found?.manifests.delete(digest);
    for (const [tag, target] of found?.tags ?? []) if (target === digest) found?.tags.delete(tag);
  }

  addUser(user: User): void {
    this.#users.set(user.username, user);
  }

  hasUser(username: string): boolean {
    return this.#users.has(username);
  }

  removeUser(username: string): void {
    this.#users.delete(username);
  }

  userByPassword(username: string, token: string): User | undefined {
    const user = this.#users.get(username);
    return user?.token === token ? user : undefined;
  }

  userByToken(token: string): User | undefined {
    return [...this.#users.values()].find(user => user.token === token);
  }
}

/** Whether the user, or an anonymous client, may read the package. */
export function mayRead(user: User | undefined, { name, visibility, readers }: Package): boolean {
  if (visibility === 'public') return true;
  if (!user) return false;
  return readers.has(user.username) || matches(user.packages, name) || mayWrite(user, name);
}

/** Whether the user may write the package, which need not exist, its token's scopes aside. */
export function mayWrite({ writes, packages }: User, name: string): boolean {
  return matches(writes ?? packages, name);
}

export function scopesOf({ scopes = ['read:packages'] }: User): readonly string[] {
  return scopes;
}

function matches(patterns: readonly string[] = [], name: string): boolean {
  return patterns.some(
    pattern => pattern === name || (/^(.+\/)?\*$/.test(pattern) && name.startsWith(pattern.slice(0, -1))),
  );
}
