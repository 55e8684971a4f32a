// Metadata in a SQLite file of its own, for tests: closed and gone when the test is over.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import type { ContentRow, Metadata, MetadataStore } from '../../src/metadata/metadata.ts';
import type { ReadManifest } from '../../src/metadata/sqlite/backfill.ts';
import { openSqlite } from '../../src/metadata/sqlite/store.ts';
import type { MakeMetadata } from '../contracts/metadata/suite.ts';
import { TestClock } from './clock.ts';

/** Where a metadata.db may be made. */
export async function databasePath(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'ghcr-cache-metadata-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return join(directory, 'metadata.db');
}

export interface OpenOptions {
  readonly clock?: TestClock;
  readonly content?: readonly ContentRow[];
  /** Where damaged files were moved to is appended; absent: there must be no damage. */
  readonly damaged?: string[];
  /** Default: the bytes of all manifests are gone. */
  readonly readManifest?: ReadManifest;
}

export async function openDatabase(t: TestContext, path: string, options: OpenOptions = {}): Promise<MetadataStore> {
  const store = await openSqlite(path, {
    clock: options.clock ?? new TestClock(),
    content: async function* () {
      yield* options.content ?? [];
    },
    readManifest: options.readManifest ?? (async () => undefined),
    onDamaged: (movedTo, reason) => {
      assert.ok(options.damaged !== undefined, `unexpected damage: ${reason}`);
      options.damaged.push(movedTo);
    },
  });
  t.after(() => store.close().catch(() => {}));
  return store;
}

/** For the contract suites: SQLite under whatever makes it whole. */
export function overSqlite(decorate: (store: MetadataStore, clock: TestClock) => Metadata): MakeMetadata {
  return async (t, clock) => {
    const path = await databasePath(t);
    const metadata = decorate(await openDatabase(t, path, { clock }), clock);
    return {
      metadata,
      reopen: async () => {
        await metadata.close();
        const later = decorate(await openDatabase(t, path, { clock }), clock);
        t.after(() => later.close().catch(() => {}));
        return later;
      },
    };
  };
}

/** Makes every transaction fail, as on a full disk, until it is restored. */
export function fillDisk(t: TestContext) {
  return t.mock.method(Database.prototype, 'transaction', () => {
    throw new Database.SqliteError('database or disk is full', 'SQLITE_FULL');
  }).mock;
}
