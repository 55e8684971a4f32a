// What was pushed and deleted through here a moment ago, and must not be undone by an older answer: ghcr.io shows for
// seconds after a write what was there before it. Each write stands for the grace time against a 404 and against what
// the tag is known to have pointed to before. A digest that is not known is someone else's newer push, and wins.
//
// It is in memory, and bounded. What an earlier process has recorded of a tag within the grace time stands all the same:
// what the tag pointed to before is then any manifest that is linked here.
import type { Clock } from '../base/clock.ts';
import { ExpiringCache } from '../base/expiring-cache.ts';
import type { LinkStore, TagRow, TagStore } from '../metadata/metadata.ts';
import type { Digest } from '../oci/digest.ts';
import { StorageFailure } from '../oci/errors.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';

export interface LocalWritesOptions {
  readonly clock: Clock;
  readonly metadata: Pick<LinkStore & TagStore, 'findManifest' | 'findTag'>;
  /** How long a write stands; 0: not at all. */
  readonly graceMs: number;
}

/** Where a tag points by a write that stands. */
export interface Standing {
  /** Undefined: nowhere, since it was deleted. */
  readonly digest: Digest | undefined;
  /** Whether it stands no longer once the tag points to something that is not known: a push of ours still does. */
  readonly isEndedByNewer: boolean;
  /** Whether the tag is known to have pointed there before the write. */
  isOlder(digest: Digest): Promise<boolean>;
}

interface TagWrite {
  readonly repository: Repository;
  readonly tag: string;
  readonly digest: Digest | undefined;
  /** Where it pointed before, and until when, on the monotonic clock; undefined: to any manifest that is linked here. */
  readonly older: ReadonlyMap<Digest, number> | undefined;
}

/** Of tags, and of content. Beyond that the oldest write stands no longer. */
const REMEMBERED_LIMIT = 10_000;
const OLDER_LIMIT = 100;

/** What is tried again for want of a lagging answer: longer than ghcr.io was seen to lag, twice within clients' 30 s. */
const PAUSES_MS = [500, 1000, 2000, 4000, 5000];

export class LocalWrites {
  readonly #options: LocalWritesOptions;
  readonly #tags: ExpiringCache<TagWrite>;
  /** Manifests and blobs: whether they were pushed, or else deleted. */
  readonly #content: ExpiringCache<'pushed' | 'deleted'>;
  /** When this process began, on both clocks. */
  readonly #startedAtMs: number;
  readonly #startedMs: number;

  constructor(options: LocalWritesOptions) {
    const { clock, graceMs: ttlMs } = options;
    this.#options = options;
    this.#tags = new ExpiringCache({ clock, max: REMEMBERED_LIMIT, ttlMs });
    this.#content = new ExpiringCache({ clock, max: REMEMBERED_LIMIT, ttlMs });
    this.#startedAtMs = clock.now();
    this.#startedMs = clock.monotonic();
  }

  /** The upstream has accepted the manifest or blob. */
  pushed(repository: Repository, digest: Digest): void {
    this.#content.set(imageName(repository, { digest }), 'pushed');
  }

  /** The upstream has deleted the manifest or blob. */
  deleted(repository: Repository, digest: Digest): void {
    this.#content.set(imageName(repository, { digest }), 'deleted');
  }

  /**
   * The upstream has accepted that the tag points to the digest from now on, or has deleted it if that is undefined. To
   * be called before that is recorded: what is recorded is older. So is `before`, if it was heard.
   */
  async tagged(repository: Repository, tag: string, digest: Digest | undefined, before?: Digest): Promise<void> {
    const { clock, graceMs } = this.#options;
    const key = imageName(repository, { tag });
    const previous = this.#tags.get(key);
    const recorded = await this.#recorded(repository, tag);
    const nowMs = clock.monotonic();
    const older = new Map(previous?.older ?? []);
    for (const each of [recorded?.digest, previous?.digest, before]) {
      if (each !== undefined) older.set(each, nowMs + graceMs);
    }
    if (digest !== undefined) older.delete(digest);
    for (const [each, untilMs] of older) if (untilMs <= nowMs || older.size > OLDER_LIMIT) older.delete(each);
    this.#tags.set(key, { repository, tag, digest, older });
  }

  /** Someone else has changed it since, so our write stands no longer. */
  forget(repository: Repository, reference: Reference): void {
    const key = imageName(repository, reference);
    if (reference.tag === undefined) this.#content.delete(key);
    else this.#tags.delete(key);
  }

  /** Whether the repository's manifest or blob was pushed or deleted a moment ago. */
  stateOf(repository: Repository, digest: Digest): 'pushed' | 'deleted' | undefined {
    return this.#content.get(imageName(repository, { digest }));
  }

  /** Where the tag points by a write of a moment ago; undefined: there was none. */
  async standing(repository: Repository, tag: string): Promise<Standing | undefined> {
    const { clock, metadata } = this.#options;
    const key = imageName(repository, { tag });
    const write = this.#tags.get(key) ?? (await this.#inherit(key, repository, tag));
    if (write === undefined) return undefined;
    const { digest, older } = write;
    return {
      digest,
      isEndedByNewer: digest === undefined || older === undefined,
      isOlder: async found => {
        if (found === digest) return false;
        if (older !== undefined) return (older.get(found) ?? 0) > clock.monotonic();
        return (await metadata.findManifest(repository, found)) !== undefined;
      },
    };
  }

  /** The tags that the upstream lists, with those that were pushed and without those that were deleted a moment ago. */
  listed(repository: Repository, tags: readonly string[]): readonly string[] {
    const { upstream, name } = repository;
    const writes = [...this.#tags.values()].filter(
      write => write.repository.name === name && write.repository.upstream === upstream,
    );
    if (writes.length === 0) return tags;
    const listed = new Set(tags);
    for (const write of writes) {
      if (write.digest === undefined) listed.delete(write.tag);
      else listed.add(write.tag);
    }
    return [...listed];
  }

  /** Does the work, and again after growing pauses as long as it fails with what a lag explains. */
  async retrying<T>(
    work: () => Promise<T>,
    isLag: (error: unknown) => boolean | Promise<boolean>,
    { signal, attempts = PAUSES_MS.length + 1 }: { signal?: AbortSignal; attempts?: number } = {},
  ): Promise<T> {
    const { clock, graceMs } = this.#options;
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (graceMs === 0 || attempt === attempts || !(await isLag(error))) throw error;
      }
      await clock.sleep(PAUSES_MS[attempt - 1] ?? 0, signal);
    }
  }

  /** What an earlier process recorded less than the grace time ago: it may have pushed it. */
  async #inherit(key: string, repository: Repository, tag: string): Promise<TagWrite | undefined> {
    const { clock, graceMs } = this.#options;
    const runningMs = clock.monotonic() - this.#startedMs;
    if (runningMs >= graceMs) return undefined;
    const row = await this.#recorded(repository, tag);
    const ageMs = row === undefined ? 0 : this.#startedAtMs - row.checkedAtMs;
    if (row === undefined || ageMs <= 0 || ageMs + runningMs >= graceMs) return undefined;
    const write: TagWrite = { repository, tag, digest: row.digest, older: undefined };
    this.#tags.set(key, write, graceMs - ageMs - runningMs);
    return write;
  }

  #recorded(repository: Repository, tag: string): Promise<TagRow | undefined> {
    return this.#options.metadata.findTag(repository, tag).catch(error => {
      if (!(error instanceof StorageFailure)) throw error;
      return undefined;
    });
  }
}
