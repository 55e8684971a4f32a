// The schema, as numbered steps: step n leads from version n-1 to n (SQLite's user_version). A step that
// has been released is never changed; a change is a new step at the end.

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
];
