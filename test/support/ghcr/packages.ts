// What the stand-in holds: packages with their blobs, manifests and tags, and the users who may read and
// write them. Plain state without HTTP; every change takes effect on the next request.
import type { Digest } from '../../../src/oci/digest.ts';
import type { Content, Image, Index } from '../images.ts';

export type Visibility = 'public' | 'private';

/** A manifest in a package; also a version of it, as the package interface calls them. */
export interface Version {
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  readonly mediaType: string;
  /** Greater for newer ones. */
  readonly id: number;
}

export interface Package {
  readonly name: string;
  visibility: Visibility;
  readonly blobs: Map<string, Content>;
  /** Oldest first. */
  readonly manifests: Map<string, Version>;
  /** In the order in which the tags were made, which is the order of tags/list. */
  readonly tags: Map<string, Digest>;
  /** Names of users who may read it beside those whose `packages` say so: who pushed it first. */
  readonly readers: Set<string>;
}

export interface User {
  username: string;
  /** The personal access token. */
  token: string;
  /** Default: `['read:packages']`. Without it, or `write:packages`, not even public packages can be read. */
  scopes?: readonly string[];
  /** Private packages that this user may read: names, `owner/*`, or `*` for all. */
  packages?: readonly string[];
  /** Packages that this user may write, and hence read, as far as the scopes go. Default: `packages`. */
  writes?: readonly string[];
  /** When the token expires, as api.github.com says it: `2030-01-31 12:00:00 UTC`. Default: never. */
  expiration?: string;
}

export class Packages {
  readonly #packages = new Map<string, Package>();
  readonly #users = new Map<string, User>();
  #versions = 0;

  /** Adds an empty package, or changes the visibility of one that is there. */
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

  /** The package, made public if it is new. */
  obtain(name: string): Package {
    return this.#packages.get(name) ?? this.add(name, 'public');
  }

  /** The package that a user pushes to: if it is new, it is private, and the user may read it. */
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

  /** Adds a manifest; one that is there already stays the version that it is. */
  addManifest(name: string, { digest, bytes, mediaType }: Omit<Version, 'id'>): void {
    const { manifests } = this.obtain(name);
    const id = manifests.get(digest)?.id ?? ++this.#versions;
    manifests.set(digest, { digest, bytes, mediaType, id });
  }

  /** Deletes a manifest with all the tags that point to it, as ghcr does with a package version. */
  deleteManifest(name: string, digest: string): void {
    const found = this.get(name);
    found?.manifests.delete(digest);
    for (const [tag, target] of found?.tags ?? []) if (target === digest) found?.tags.delete(tag);
  }

  addUser(user: User): void {
    this.#users.set(user.username, user);
  }

  /** Whether somebody is called so. */
  hasUser(username: string): boolean {
    return this.#users.has(username);
  }

  /** Forgets the user, so that what it is known by becomes a bad credential. */
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

/** Whether the user, or an anonymous client, may read what the package holds. */
export function mayRead(user: User | undefined, { name, visibility, readers }: Package): boolean {
  if (visibility === 'public') return true;
  if (!user) return false;
  return readers.has(user.username) || fits(user.packages, name) || mayWrite(user, name);
}

/** Whether the user may write the package, which need not exist, as far as its token's scopes go. */
export function mayWrite({ writes, packages }: User, name: string): boolean {
  return fits(writes ?? packages, name);
}

export function scopesOf({ scopes = ['read:packages'] }: User): readonly string[] {
  return scopes;
}

function fits(patterns: readonly string[] = [], name: string): boolean {
  return patterns.some(
    pattern => pattern === name || (/^(.+\/)?\*$/.test(pattern) && name.startsWith(pattern.slice(0, -1))),
  );
}
