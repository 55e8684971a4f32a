// The schema, as numbered steps: step n leads from version n-1 to n (SQLite's user_version). A step that has been
// released is never changed; a change is a new step at the end. A step must be quick however many rows there are: what
// takes longer is left to the background, as backfill.ts does for step 3.
import type { Database } from 'better-sqlite3';

export const migrations: readonly string[] = [
  `
  CREATE TABLE content (
    digest        TEXT PRIMARY KEY,
    size_bytes    INTEGER NOT NULL,
    touched_at_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX content_by_touch ON content (touched_at_ms);

  CREATE TABLE repositories (
    id       INTEGER PRIMARY KEY,
    upstream TEXT NOT NULL,
    name     TEXT NOT NULL,
    UNIQUE (upstream, name)
  ) STRICT;

  -- media_type is empty for a blob. The same bytes can be both, so it is part of the key.
  CREATE TABLE links (
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    digest        TEXT NOT NULL REFERENCES content (digest) ON DELETE CASCADE,
    kind          TEXT NOT NULL CHECK (kind IN ('blob', 'manifest')),
    media_type    TEXT NOT NULL,
    PRIMARY KEY (repository_id, digest, kind)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX links_by_digest ON links (digest);

  -- A tag may point to a manifest that has been dropped: it is then fetched again.
  CREATE TABLE tags (
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    tag           TEXT NOT NULL,
    digest        TEXT NOT NULL,
    checked_at_ms INTEGER NOT NULL,
    PRIMARY KEY (repository_id, tag)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE tag_lists (
    repository_id INTEGER PRIMARY KEY REFERENCES repositories (id),
    tags          TEXT NOT NULL, -- a JSON array
    checked_at_ms INTEGER NOT NULL
  ) STRICT;
  `,
  `
  CREATE TABLE referrers (
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    subject       TEXT NOT NULL,
    descriptors   TEXT NOT NULL, -- a JSON array
    checked_at_ms INTEGER NOT NULL,
    PRIMARY KEY (repository_id, subject)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE uploads (
    id            TEXT PRIMARY KEY,
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    algorithm     TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE INDEX tags_by_digest ON tags (repository_id, digest);
  `,
  `
  -- What manifests are made of. A child need not be recorded as content.
  CREATE TABLE parts (
    manifest TEXT NOT NULL REFERENCES content (digest) ON DELETE CASCADE,
    child    TEXT NOT NULL,
    PRIMARY KEY (manifest, child)
  ) STRICT, WITHOUT ROWID;

  -- Manifests that were linked before parts were recorded, and whose bytes are still to be read.
  CREATE TABLE unread_manifests (
    digest TEXT PRIMARY KEY REFERENCES content (digest) ON DELETE CASCADE
  ) STRICT, WITHOUT ROWID;
  INSERT INTO unread_manifests SELECT DISTINCT digest FROM links WHERE kind = 'manifest';

  ALTER TABLE uploads ADD COLUMN owner TEXT;
  `,
];

/** Brings the file to the newest version, step by step. Throws when a newer program wrote it. */
export function migrate(database: Database, path: string): void {
  const version = database.pragma('user_version', { simple: true }) as number;
  if (version > migrations.length) {
    throw new Error(
      `${path} was written by a newer ghcr-cache (schema ${version}, this one knows ${migrations.length}): ` +
        'start that version, or move the file away to have it rebuilt',
    );
  }
  for (const [i, step] of migrations.entries()) {
    if (i < version) continue;
    database.transaction(() => {
      database.exec(step);
      database.pragma(`user_version = ${i + 1}`);
    })();
  }
}
