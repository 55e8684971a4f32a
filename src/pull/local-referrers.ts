// Which referrers were pushed and deleted through here a moment ago: what the upstream lists is completed by them, so
// that an index which is older than a push, empty or not there yet hides nothing, and one that is older than a delete
// brings nothing back. Entries that the upstream has shown meanwhile are kept as long: other tools change the same index.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import type { Digest } from '../oci/digest.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { entryDigest } from '../oci/referrers.ts';

interface Remembered {
  /** Undefined: it was deleted. */
  readonly entry: unknown;
  readonly sizeBytes: number;
  readonly untilMs: number;
}

interface Subject {
  /** When the last write is not remembered any more, and nothing else is. */
  untilMs: number;
  readonly entries: Map<string, Remembered>;
}

const SUBJECTS_LIMIT = 1_000;
const BYTES_LIMIT = 16 * 1024 * 1024;
/** What an entry takes beside its text. */
const ENTRY_BYTES = 200;

export class LocalReferrers {
  readonly #clock: Clock;
  readonly #graceMs: number;
  readonly #subjects = new LRUCache<string, Subject>({
    max: SUBJECTS_LIMIT,
    maxSize: BYTES_LIMIT,
    sizeCalculation: ({ entries }) =>
      [...entries.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, ENTRY_BYTES),
  });

  /** `graceMs`: for how long a write is remembered. */
  constructor(clock: Clock, graceMs: number) {
    this.#clock = clock;
    this.#graceMs = graceMs;
  }

  /** A manifest that refers to the subject was pushed: this is its entry. */
  pushed(repository: Repository, subject: Digest, digest: Digest, entry: unknown): void {
    this.#wrote(repository, subject, digest, entry);
  }

  deleted(repository: Repository, subject: Digest, digest: Digest): void {
    this.#wrote(repository, subject, digest, undefined);
  }

  /** The entries that the upstream lists, with those that were pushed and without those that were deleted. */
  completed(repository: Repository, subject: Digest, listed: readonly unknown[]): readonly unknown[] {
    const key = imageName(repository, { digest: subject });
    const known = this.#subjects.get(key);
    const nowMs = this.#clock.monotonic();
    if (known === undefined) return listed;
    if (known.untilMs <= nowMs) {
      this.#subjects.delete(key);
      return listed;
    }
    const { entries } = known;
    for (const [digest, { untilMs }] of entries) if (untilMs <= nowMs) entries.delete(digest);
    const kept = listed.filter(entry => !isDeleted(entries.get(entryDigest(entry) ?? '')));
    const shown = new Set(kept.map(entryDigest));
    const missing = [...entries].filter(([digest, remembered]) => !isDeleted(remembered) && !shown.has(digest));
    for (const entry of kept) {
      const digest = entryDigest(entry);
      if (digest !== undefined) entries.set(digest, this.#remember(entry, entries.get(digest)));
    }
    // As a new value, so that its size counts.
    this.#subjects.set(key, { ...known });
    return [...kept, ...missing.map(([, { entry }]) => entry)];
  }

  #wrote(repository: Repository, subject: Digest, digest: Digest, entry: unknown): void {
    const key = imageName(repository, { digest: subject });
    const { entries } = this.#subjects.get(key) ?? { entries: new Map<string, Remembered>() };
    entries.set(digest, this.#remember(entry));
    this.#subjects.set(key, { entries, untilMs: this.#clock.monotonic() + this.#graceMs });
  }

  #remember(entry: unknown, before?: Remembered): Remembered {
    const sizeBytes = before?.sizeBytes ?? ENTRY_BYTES + (JSON.stringify(entry)?.length ?? 0);
    return { entry, sizeBytes, untilMs: this.#clock.monotonic() + this.#graceMs };
  }
}

function isDeleted(remembered: Remembered | undefined): boolean {
  return remembered !== undefined && remembered.entry === undefined;
}
