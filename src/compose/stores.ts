// What a data directory holds: opened in order, released in reverse.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import type { Config } from '../config/load.ts';
import type { Content } from '../content/content.ts';
import type { Ingests } from '../content/ingest.ts';
import { LocalIngests } from '../content/local/ingest.ts';
import { LocalContent } from '../content/local/store.ts';
import { keepSmallInMemory } from '../content/memory.ts';
import { rememberVerdicts } from '../content/verdicts.ts';
import { cached } from '../metadata/cached.ts';
import type { Metadata } from '../metadata/metadata.ts';
import { openSqlite } from '../metadata/sqlite/store.ts';
import { bufferUsage } from '../metadata/usage-buffer.ts';
import { bytesOf } from '../pull/manifests.ts';
import type { Environment } from './environment.ts';

export interface Stores {
  readonly content: Content;
  readonly ingests: Ingests;
  readonly metadata: Metadata;
}

/** Opens the data directory, making it if need be. `stack` owns what was opened, also when a later step throws. */
export async function openStores(
  { data }: Config,
  { clock, log }: Environment,
  stack: AsyncDisposableStack,
): Promise<Stores> {
  mkdirSync(data, { recursive: true });
  stack.defer(lockData(data));
  const ingests = await LocalIngests.open(data);
  const content = keepSmallInMemory(rememberVerdicts(await LocalContent.open(data)));
  const database = await openSqlite(join(data, 'metadata.db'), {
    clock,
    content: () => content.list(),
    readManifest: async digest => bytesOf(await content.open(digest)),
    onDamaged: (movedTo, reason) =>
      log.error(
        { movedTo },
        `metadata.db is damaged (${reason}): moved aside, and rebuilt from content/ and the upstreams`,
      ),
  });
  const metadata = cached(bufferUsage(database, clock));
  stack.defer(() => metadata.close());
  return { content, ingests, metadata };
}

/**
 * Locks the directory; returns what releases it. Throws when it is locked already: a second process would remove what
 * the first has in flight. The lock is SQLite's, on an empty file, which the system releases however the process ends.
 */
function lockData(directory: string): () => void {
  const lock = new Database(join(directory, 'lock'), { timeout: 0 });
  try {
    lock.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    lock.close();
    const isHeld = error instanceof Database.SqliteError && error.code === 'SQLITE_BUSY';
    if (!isHeld) throw error;
    throw new Error(`${directory} is in use by another ghcr-cache; stop that one, or give this one another "data"`);
  }
  return () => lock.close();
}
