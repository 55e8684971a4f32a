// Keeps the rows that hot pulls look up in memory, so that a hit costs no query: links and tags, as they were since the
// last change. Every change forgets all of them; no other process writes while this one holds the data directory. A
// database that is recreated after damage is no change: what is cached was true and still is.
import { LRUCache } from 'lru-cache';
import type { Repository } from '../oci/reference.ts';
import type { ContentRow, ManifestRow, Metadata, TagListRow, TagRow } from './metadata.ts';

/** Of links to blobs, of those to manifests, and of tags; about 5 MB each. */
const ROWS_LIMIT = 20_000;
/** Of all lists of tags together; reading a long one means parsing megabytes. */
const LISTED_TAGS_LIMIT = 100_000;

/** The same metadata. A row that is cached is found with one lookup in a Map. */
export function cached(metadata: Metadata): Metadata {
  const blobs = new Map<string, ContentRow>();
  const manifests = new Map<string, ManifestRow>();
  const tags = new Map<string, TagRow>();
  const tagLists = new LRUCache<string, TagListRow>({
    maxSize: LISTED_TAGS_LIMIT,
    sizeCalculation: list => list.tags.length + 1,
  });
  let changes = 0;
  let listsSaved = 0;

  const lookUp = async <Row>(rows: Map<string, Row>, key: string, finding: Promise<Row | undefined>) => {
    const before = changes;
    const row = await finding;
    // What was read before a change that is complete by now may be what the change replaced.
    if (row !== undefined && before === changes) {
      if (rows.size >= ROWS_LIMIT) rows.clear();
      rows.set(key, row);
    }
    return row;
  };
  const find = <Key, Row>(
    rows: Map<string, Row>,
    query: (repository: Repository, key: Key) => Promise<Row | undefined>,
    repository: Repository,
    what: Key,
  ): Promise<Row | undefined> => {
    // No host and no name has a space in it, so no two keys are the same.
    const key = `${repository.upstream} ${repository.name} ${what}`;
    const row = rows.get(key);
    return row ? Promise.resolve(row) : lookUp(rows, key, query(repository, what));
  };
  const changed = async <T>(changing: Promise<T>): Promise<T> => {
    try {
      return await changing;
    } finally {
      changes++;
      blobs.clear();
      manifests.clear();
      tags.clear();
    }
  };

  return {
    ...metadata,
    findBlob: (repository, digest) => find(blobs, metadata.findBlob, repository, digest),
    findManifest: (repository, digest) => find(manifests, metadata.findManifest, repository, digest),
    findTag: (repository, tag) => find(tags, metadata.findTag, repository, tag),
    findTagList: async repository => {
      const key = `${repository.upstream} ${repository.name}`;
      const before = listsSaved;
      const list = tagLists.get(key) ?? (await metadata.findTagList(repository));
      if (list !== undefined && before === listsSaved) tagLists.set(key, list);
      return list;
    },
    saveTagList: async (repository, tags) => {
      try {
        await metadata.saveTagList(repository, tags);
      } finally {
        listsSaved++;
        tagLists.delete(`${repository.upstream} ${repository.name}`);
      }
    },
    linkBlob: (repositories, content) => changed(metadata.linkBlob(repositories, content)),
    linkManifest: (repository, manifest, tags) => changed(metadata.linkManifest(repository, manifest, tags)),
    unlinkBlob: (repository, digest) => changed(metadata.unlinkBlob(repository, digest)),
    unlinkManifest: (repository, digest) => changed(metadata.unlinkManifest(repository, digest)),
    confirmTag: (repository, tag) => changed(metadata.confirmTag(repository, tag)),
    forgetTag: (repository, tag) => changed(metadata.forgetTag(repository, tag)),
    remove: digests => changed(metadata.remove(digests)),
  };
}
