// What a Budget sees of content and metadata, for its tests.
import assert from 'node:assert/strict';
import type { Pin, UsageRow, UsageStore } from '../../src/metadata/metadata.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { Budget, type BudgetOptions } from '../../src/retention/budget.ts';
import { TestClock } from './clock.ts';

const PIN: Pin = { repository: { upstream: 'ghcr.io', name: 'owner/app' }, reference: { tag: 'v1' } };

interface Stored extends UsageRow {
  readonly name: string;
  readonly isPinned: boolean;
}

/** What Budget sees of Content and Metadata: what is stored, least recently used first, on a disk of a given size. */
export class StoreUnderBudget {
  readonly rows: Stored[] = [];
  readonly done: string[] = [];
  readonly clock = new TestClock();
  diskBytes = Infinity;
  diskFiles = Infinity;
  /** How often the disk was asked what is free. */
  asked = 0;
  #added = 0;
  /** How often rows were removed. */
  transactions = 0;
  /** Thrown by the next remove. */
  failure: Error | undefined;

  add(name: string, sizeBytes: number, isPinned = false): Digest {
    const digest = digestOf(Buffer.from(name));
    this.rows.push({ name, digest, sizeBytes, isPinned, touchedAtMs: this.#added++ });
    return digest;
  }

  get names(): string {
    return this.rows.map(({ name }) => name).join(' ');
  }

  get usedBytes(): number {
    return this.rows.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  open(options: Partial<BudgetOptions> = {}): Promise<Budget> {
    const files = new Map(this.rows.map(({ digest, sizeBytes }) => [digest, sizeBytes]));
    const nameOf = (digest: Digest) => this.rows.find(row => row.digest === digest)?.name ?? 'nothing';
    const removed = new Map<Digest, string>();
    const metadata: UsageStore = {
      touch: () => assert.fail(),
      totalBytes: async () => this.usedBytes,
      leastRecentlyUsed: async (limit, last) => {
        const from = last === undefined ? 0 : last.touchedAtMs + 1;
        return this.rows.filter(({ touchedAtMs }) => touchedAtMs >= from).slice(0, limit);
      },
      pinned: async pins => (pins.includes(PIN) ? this.rows.filter(({ isPinned }) => isPinned) : []),
      remove: async digests => {
        this.transactions++;
        if (this.failure !== undefined) {
          const { failure } = this;
          this.failure = undefined;
          throw failure;
        }
        let bytes = 0;
        for (const digest of digests) {
          removed.set(digest, nameOf(digest));
          this.done.push(`forget ${nameOf(digest)}`);
          const at = this.rows.findIndex(row => row.digest === digest);
          bytes += at < 0 ? 0 : (this.rows.splice(at, 1)[0]?.sizeBytes ?? 0);
        }
        return bytes;
      },
    };
    const content: BudgetOptions['content'] = {
      remove: async digest => {
        files.delete(digest);
        this.done.push(`remove ${removed.get(digest)}`);
      },
      free: async () => {
        this.asked++;
        return { bytes: this.diskBytes - this.usedBytes, files: this.diskFiles - this.rows.length };
      },
    };
    return Budget.open({
      content,
      metadata,
      clock: this.clock,
      maxSizeBytes: 100,
      minFreeBytes: 0,
      pins: [PIN],
      pushesOff: true,
      ...options,
    });
  }
}
