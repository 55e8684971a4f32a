// What the stand-in holds: packages with their blobs, manifests and tags, and the users who may read them.
// Plain state without HTTP; every change takes effect on the next request.
import type { Digest } from '../../src/oci/digest.ts';
import type { Content, Image, Index, Manifest } from './images.ts';

export type Visibility = 'public' | 'private';

export interface Package {
  readonly name: string;
  visibility: Visibility;
  readonly blobs: Map<string, Content>;
  readonly manifests: Map<string, Manifest>;
  /** In the order in which the tags were made, which is the order of tags/list. */
  readonly tags: Map<string, Digest>;
}

export interface User {
  username: string;
  /** The personal access token. */
  token: string;
  /** Default: `['read:packages']`. Without it not even public packages can be read. */
  scopes?: readonly string[];
  /** Private packages that this user may read: names, or `owner/*`. */
  packages?: readonly string[];
}

export class Packages {
  readonly #packages = new Map<string, Package>();
  readonly #users = new Map<string, User>();

  /** Adds an empty package, or changes the visibility of one that is there. */
  add(name: string, visibility: Visibility): Package {
    const found = this.#packages.get(name);
    if (found) {
      found.visibility = visibility;
      return found;
    }
    const made = { name, visibility, blobs: new Map(), manifests: new Map(), tags: new Map() };
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

  delete(name: string): void {
    this.#packages.delete(name);
  }

  list(): Package[] {
    return [...this.#packages.values()];
  }

  /** Adds an image, or an index with all its images, and points the tags to it. */
  push(name: string, image: Image | Index, tags: readonly string[]): void {
    const { blobs, manifests, tags: tagged } = this.obtain(name);
    const queue = [image];
    for (const { manifest, ...parts } of queue) {
      manifests.set(manifest.digest, manifest);
      if ('images' in parts) queue.push(...parts.images);
      else for (const blob of [parts.config, ...parts.layers]) blobs.set(blob.digest, blob);
    }
    for (const tag of tags) tagged.set(tag, image.manifest.digest);
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
export function mayRead(user: User | undefined, { name, visibility }: Package): boolean {
  if (visibility === 'public') return true;
  return (user?.packages ?? []).some(
    pattern => pattern === name || (pattern.endsWith('/*') && name.startsWith(pattern.slice(0, -1))),
  );
}
