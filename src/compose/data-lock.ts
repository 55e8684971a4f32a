// Exclusive use of a data directory: a second process would remove what the first has in flight. The lock is SQLite's,
// on an empty file, which the system releases however the process ends.
import { join } from 'node:path';
import Database from 'better-sqlite3';

/** Locks the directory; returns what releases it. Throws when it is locked, also by this process. */
export function lockData(directory: string): () => void {
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
