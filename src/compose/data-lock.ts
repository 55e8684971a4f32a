// One process for one data directory: a second one would clear away what the first has coming in. The lock is
// SQLite's on an empty file, which the system lets go of however the process ends.
import { join } from 'node:path';
import Database from 'better-sqlite3';

/** Takes the lock of the data directory; returns what lets go of it. Throws when another process has it. */
export function lockData(folder: string): () => void {
  const lock = new Database(join(folder, 'lock'), { timeout: 0 });
  try {
    lock.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    lock.close();
    const isHeld = error instanceof Database.SqliteError && error.code === 'SQLITE_BUSY';
    if (!isHeld) throw error;
    throw new Error(
      `${folder} is in use by another ghcr-cache; stop that one, or give this one another "data"`,
    );
  }
  return () => lock.close();
}
