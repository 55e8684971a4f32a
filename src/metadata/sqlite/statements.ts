// Every SQL statement but the schema's, prepared once per open database. A repository is named by upstream and name;
// its row is made when something is first recorded for it.
import type { Database } from 'better-sqlite3';
import type { Repository } from '../../oci/reference.ts';

export type Statements = ReturnType<typeof prepare>;

const OF_REPOSITORY = '(SELECT id FROM repositories WHERE upstream = ? AND name = ?)';

export function prepare(database: Database) {
  const sql = (text: string) => database.prepare(text);
  return {
    findRepository: sql('SELECT id FROM repositories WHERE upstream = ? AND name = ?').pluck(),
    putRepository: sql('INSERT INTO repositories (upstream, name) VALUES (?, ?) RETURNING id').pluck(),
    repositories: sql(
      `SELECT upstream, name FROM repositories WHERE id IN (SELECT repository_id FROM links)
       OR id IN (SELECT repository_id FROM tags) ORDER BY upstream, name`,
    ),

    findContent: sql('SELECT 1 FROM content WHERE digest = ?'),
    putContent: sql(
      `INSERT INTO content (digest, size_bytes, touched_at_ms) VALUES (?, ?, ?)
       ON CONFLICT (digest) DO UPDATE SET size_bytes = excluded.size_bytes`,
    ),
    removeContent: sql('DELETE FROM content WHERE digest = ? RETURNING size_bytes').pluck(),
    touch: sql('UPDATE content SET touched_at_ms = ? WHERE digest = ?'),
    totalBytes: sql('SELECT coalesce(sum(size_bytes), 0) FROM content').pluck(),
    leastRecentlyUsed: sql(
      `SELECT digest, size_bytes AS sizeBytes, touched_at_ms AS touchedAtMs FROM content
       WHERE (touched_at_ms, digest) > (?, ?) ORDER BY touched_at_ms, digest LIMIT ?`,
    ),
    // Pins are objects with an upstream, a name, and a tag or a digest. While parts are still to be read, a
    // pin protects all that its repository links. UNION ends the recursion also where manifests name each other.
    // CROSS JOIN keeps the order: a few pins are looked up in many rows, never the other way round.
    pinned: sql(
      `WITH RECURSIVE
         pins (repository_id, tag, digest) AS MATERIALIZED (
           SELECT repositories.id, value ->> 'tag', value ->> 'digest' FROM json_each(?)
           CROSS JOIN repositories ON upstream = value ->> 'upstream' AND name = value ->> 'name'
         ),
         pinned (digest) AS (
           SELECT links.digest FROM pins CROSS JOIN links USING (repository_id, digest)
           UNION SELECT tags.digest FROM pins CROSS JOIN tags USING (repository_id, tag)
           UNION SELECT links.digest FROM (SELECT 1 FROM unread_manifests LIMIT 1)
             CROSS JOIN (SELECT DISTINCT repository_id FROM pins) CROSS JOIN links USING (repository_id)
           UNION SELECT child FROM pinned CROSS JOIN parts ON manifest = pinned.digest
         )
       SELECT digest, size_bytes AS sizeBytes FROM pinned CROSS JOIN content USING (digest)`,
    ),

    findLink: sql(
      `SELECT digest, size_bytes AS sizeBytes, media_type AS mediaType FROM links JOIN content USING (digest)
       WHERE repository_id = ${OF_REPOSITORY} AND digest = ? AND kind = ?`,
    ),
    findAnyLink: sql('SELECT 1 FROM links WHERE digest = ? LIMIT 1'),
    findHolder: sql(
      `SELECT upstream, name FROM links JOIN repositories ON id = repository_id
       WHERE digest = ? AND upstream = ? AND kind = 'blob' LIMIT 1`,
    ),
    putLink: sql(
      `INSERT INTO links (repository_id, digest, kind, media_type) VALUES (?, ?, ?, ?)
       ON CONFLICT (repository_id, digest, kind) DO UPDATE SET media_type = excluded.media_type`,
    ),
    removeLink: sql(`DELETE FROM links WHERE repository_id = ${OF_REPOSITORY} AND digest = ? AND kind = ?`),

    putParts: sql('INSERT OR IGNORE INTO parts (manifest, child) SELECT ?, value FROM json_each(?)'),
    unreadManifests: sql('SELECT digest FROM unread_manifests WHERE digest > ? ORDER BY digest LIMIT ?').pluck(),
    // For a manifest that is still there: it may have been removed while its bytes were read.
    putUnreadParts: sql(
      `INSERT OR IGNORE INTO parts (manifest, child)
       SELECT digest, value FROM unread_manifests, json_each(?) WHERE digest = ?`,
    ),
    markRead: sql('DELETE FROM unread_manifests WHERE digest = ?'),

    findTag: sql(
      `SELECT digest, checked_at_ms AS checkedAtMs FROM tags WHERE repository_id = ${OF_REPOSITORY} AND tag = ?`,
    ),
    putTag: sql('INSERT OR REPLACE INTO tags (repository_id, tag, digest, checked_at_ms) VALUES (?, ?, ?, ?)'),
    confirmTag: sql(`UPDATE tags SET checked_at_ms = ? WHERE repository_id = ${OF_REPOSITORY} AND tag = ?`),
    forgetTag: sql(`DELETE FROM tags WHERE repository_id = ${OF_REPOSITORY} AND tag = ?`),
    forgetTagsTo: sql(`DELETE FROM tags WHERE repository_id = ${OF_REPOSITORY} AND digest = ?`),
    pulledTags: sql(`SELECT tag FROM tags WHERE repository_id = ${OF_REPOSITORY} ORDER BY tag`).pluck(),
    findTagList: sql(`SELECT tags, checked_at_ms AS checkedAtMs FROM tag_lists WHERE repository_id = ${OF_REPOSITORY}`),
    putTagList: sql('INSERT OR REPLACE INTO tag_lists (repository_id, tags, checked_at_ms) VALUES (?, ?, ?)'),

    findReferrers: sql(
      `SELECT descriptors, checked_at_ms AS checkedAtMs FROM referrers
       WHERE repository_id = ${OF_REPOSITORY} AND subject = ?`,
    ),
    putReferrers: sql(
      'INSERT OR REPLACE INTO referrers (repository_id, subject, descriptors, checked_at_ms) VALUES (?, ?, ?, ?)',
    ),

    putUpload: sql(
      `INSERT OR REPLACE INTO uploads (id, repository_id, algorithm, started_at_ms, owner)
       VALUES (?, ?, ?, ?, ?)`,
    ),
    removeUpload: sql('DELETE FROM uploads WHERE id = ?'),
    uploads: sql(
      `SELECT uploads.id, upstream, name, algorithm, started_at_ms AS startedAtMs, owner
       FROM uploads JOIN repositories ON repositories.id = repository_id`,
    ),
  };
}

/** The id of the repository, whose row is made if need be. */
export function repositoryId(sql: Statements, { upstream, name }: Repository): unknown {
  return sql.findRepository.get(upstream, name) ?? sql.putRepository.get(upstream, name);
}
