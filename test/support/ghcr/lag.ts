// How the fake ghcr.io lags after writes: reads see what was there before, until the write's own lag is over. A lag is
// decided when the write happens, so a later write may be seen before an earlier one, which then never is.
import type { Digest } from '../../../src/oci/digest.ts';
import type { Content } from '../images.ts';
import type { Package, Version } from './packages.ts';
import type { Switches } from './switches.ts';

/** What is written: a tag, or a manifest or blob under its digest. */
interface Written {
  tag: Digest;
  manifest: Version;
  blob: Content;
}

export type Kind = keyof Written;

interface Change {
  /** Undefined: it was deleted, or was not there yet. */
  readonly value: Written[Kind] | undefined;
  readonly visibleAtMs: number;
}

export interface LagOptions {
  readonly switches: Pick<Switches, 'lagMs'>;
  readonly now: () => number;
}

export class Lags {
  readonly #options: LagOptions;
  readonly #changes = new Map<string, Change[]>();

  constructor(options: LagOptions) {
    this.#options = options;
  }

  /** Carries out a write to one tag, manifest or blob of a package. Its lag begins now. */
  write(kind: Kind, found: Package, name: string, work: () => void): void {
    const before = currentOf(kind, found, name);
    work();
    const { switches, now } = this.#options;
    const { lagMs } = switches;
    const ms = typeof lagMs === 'number' ? lagMs : lagMs(kind);
    const key = keyOf(kind, found, name);
    const changes = this.#changes.get(key) ?? [{ value: before, visibleAtMs: -Infinity }];
    if (ms === 0 && changes.length === 1) return;
    this.#changes.set(key, [...changes, { value: currentOf(kind, found, name), visibleAtMs: now() + ms }]);
  }

  /** Deletes a manifest and all tags that point to it, each of which lags. */
  deleteManifest(found: Package, digest: string): void {
    for (const [tag, target] of [...found.tags]) {
      if (target === digest) this.write('tag', found, tag, () => found.tags.delete(tag));
    }
    this.write('manifest', found, digest, () => found.manifests.delete(digest));
  }

  /** What a read sees. What a test has set directly is seen at once. */
  seen<K extends Kind>(kind: K, found: Package | undefined, name: string): Written[K] | undefined {
    if (found === undefined) return undefined;
    const value = currentOf(kind, found, name);
    const changes = this.#changes.get(keyOf(kind, found, name));
    if (changes === undefined || changes.at(-1)?.value !== value) return value;
    const nowMs = this.#options.now();
    return changes.findLast(({ visibleAtMs }) => visibleAtMs <= nowMs)?.value as Written[K] | undefined;
  }

  /** The tags that a read sees: those made latest last. */
  seenTags(found: Package): string[] {
    const prefix = keyOf('tag', found, '');
    const written = [...this.#changes.keys()].filter(key => key.startsWith(prefix));
    const all = new Set([...found.tags.keys(), ...written.map(key => key.slice(prefix.length))]);
    return [...all].filter(tag => this.seen('tag', found, tag) !== undefined);
  }

  /** The manifests that a read sees. */
  seenManifests(found: Package | undefined): Version[] {
    return [...(found?.manifests.keys() ?? [])].flatMap(digest => this.seen('manifest', found, digest) ?? []);
  }
}

function keyOf(kind: Kind, { name }: Package, what: string): string {
  return `${kind} ${name} ${what}`;
}

function currentOf<K extends Kind>(kind: K, found: Package, name: string): Written[K] | undefined {
  const values = { tag: found.tags, manifest: found.manifests, blob: found.blobs }[kind];
  return values.get(name) as Written[K] | undefined;
}
