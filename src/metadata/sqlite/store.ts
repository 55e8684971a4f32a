// Metadata in one SQLite file, for one process: the verbs of the contracts, each a statement or a transaction. The file
// and its recovery are recovery.ts; caching and buffering are decorators (cached.ts, usage-buffer.ts).
import { open as openFile } from 'node:fs/promises';
import type { Digest } from '../../oci/digest.ts';
import { StorageFailure } from '../../oci/errors.ts';
import type { Repository } from '../../oci/reference.ts';
import type { ContentRow, ManifestRow, MetadataStore, TagRow, UploadRow, UsageRow } from '../metadata.ts';
import { backfillParts, type ReadManifest } from './backfill.ts';
import { type FileOptions, RecoverableFile } from './recovery.ts';
import { repositoryId } from './statements.ts';

export interface SqliteOptions extends FileOptions {
  /** Reads manifests that an earlier version linked, in the background. */
  readonly readManifest: ReadManifest;
}

/** How many pins are followed to their parts at once: more would hold up the event loop. */
const PINS_AT_ONCE = 50;

/** Opens the file, making it if need be. Throws when it cannot be used and is not merely damaged. */
export async function openSqlite(path: string, options: SqliteOptions): Promise<MetadataStore> {
  const { clock } = options;
  const file = await RecoverableFile.open(path, options);
  const closing = new AbortController();
  // What fails is left to the next start; until then a pin protects all of its repository.
  void backfillParts(file, options.readManifest, closing.signal).catch(() => {});

  const findLink = async (repository: Repository, digest: Digest, kind: 'blob' | 'manifest') =>
    file.run(sql => sql.findLink.get(repository.upstream, repository.name, digest, kind)) as ManifestRow | undefined;

  return {
    findBlob: (repository, digest) => findLink(repository, digest, 'blob'),

    findManifest: (repository, digest) => findLink(repository, digest, 'manifest'),

    linkBlob: async (repositories, content) => {
      file.transaction(sql => {
        sql.putContent.run(content.digest, content.sizeBytes, clock.now());
        for (const repository of repositories)
          sql.putLink.run(repositoryId(sql, repository), content.digest, 'blob', '');
      });
    },

    linkManifest: async (repository, { digest, sizeBytes, mediaType, parts }, tags = []) => {
      file.transaction(sql => {
        const now = clock.now();
        const id = repositoryId(sql, repository);
        sql.putContent.run(digest, sizeBytes, now);
        sql.putLink.run(id, digest, 'manifest', mediaType);
        sql.putParts.run(digest, JSON.stringify(parts));
        for (const tag of tags) sql.putTag.run(id, tag, digest, now);
      });
    },

    unlinkBlob: async ({ upstream, name }, digest) =>
      file.transaction(sql => {
        sql.removeLink.run(upstream, name, digest, 'blob');
        return sql.findAnyLink.get(digest) !== undefined;
      }),

    unlinkManifest: async ({ upstream, name }, digest) =>
      file.transaction(sql => {
        sql.removeLink.run(upstream, name, digest, 'manifest');
        sql.forgetTagsTo.run(upstream, name, digest);
        return sql.findAnyLink.get(digest) !== undefined;
      }),

    isRecorded: async digest => file.run(sql => sql.findContent.get(digest) !== undefined),

    findHolder: async (upstream, digest) =>
      file.run(sql => sql.findHolder.get(digest, upstream)) as Repository | undefined,

    repositories: async () => file.run(sql => sql.repositories.all()) as Repository[],

    findTag: async ({ upstream, name }, tag) =>
      file.run(sql => sql.findTag.get(upstream, name, tag)) as TagRow | undefined,

    confirmTag: async ({ upstream, name }, tag) => {
      file.run(sql => sql.confirmTag.run(clock.now(), upstream, name, tag));
    },

    forgetTag: async ({ upstream, name }, tag) => {
      file.run(sql => sql.forgetTag.run(upstream, name, tag));
    },

    pulledTags: async ({ upstream, name }) => file.run(sql => sql.pulledTags.all(upstream, name)) as string[],

    findTagList: async ({ upstream, name }) => {
      const row = file.run(sql => sql.findTagList.get(upstream, name)) as SavedRow<'tags'>;
      return row && { tags: JSON.parse(row.tags), checkedAtMs: row.checkedAtMs };
    },

    saveTagList: async (repository, tags) => {
      file.transaction(sql => {
        sql.putTagList.run(repositoryId(sql, repository), JSON.stringify(tags), clock.now());
      });
    },

    findReferrers: async ({ upstream, name }, subject) => {
      const row = file.run(sql => sql.findReferrers.get(upstream, name, subject)) as SavedRow<'descriptors'>;
      return row && { descriptors: JSON.parse(row.descriptors), checkedAtMs: row.checkedAtMs };
    },

    saveReferrers: async (repository, subject, descriptors) => {
      file.transaction(sql => {
        const id = repositoryId(sql, repository);
        sql.putReferrers.run(id, subject, JSON.stringify(descriptors), clock.now());
      });
    },

    putUpload: async ({ id, repository, algorithm, startedAtMs, owner }) => {
      file.transaction(sql => {
        sql.putUpload.run(id, repositoryId(sql, repository), algorithm, startedAtMs, owner ?? null);
      });
    },

    removeUpload: async id => {
      file.run(sql => sql.removeUpload.run(id));
    },

    uploads: async () => (file.run(sql => sql.uploads.all()) as StoredUpload[]).map(uploadRow),

    touchAll: async pulls => {
      file.transaction(sql => {
        for (const [digest, atMs] of pulls) sql.touch.run(atMs, digest);
      });
    },

    remove: async digests =>
      file.transaction(sql => {
        let bytes = 0;
        for (const digest of digests) bytes += (sql.removeContent.get(digest) as number | undefined) ?? 0;
        return bytes;
      }),

    leastRecentlyUsed: async (limit, last) =>
      file.run(sql => sql.leastRecentlyUsed.all(last?.touchedAtMs ?? -1, last?.digest ?? '', limit)) as UsageRow[],

    pinned: async pins => {
      const found = new Map<Digest, ContentRow>();
      for (let i = 0; i < pins.length; i += PINS_AT_ONCE) {
        if (i > 0) await new Promise(setImmediate);
        const named = pins
          .slice(i, i + PINS_AT_ONCE)
          .map(({ repository, reference }) => ({ ...repository, ...reference }));
        const rows = file.run(sql => sql.pinned.all(JSON.stringify(named))) as ContentRow[];
        for (const row of rows) found.set(row.digest, row);
      }
      return [...found.values()];
    },

    totalBytes: async () => file.run(sql => sql.totalBytes.get()) as number,

    sync: async () => {
      file.checkPlace();
      // A commit is in the log; what is not in it any more was made durable with the file it was moved to.
      await using log = await openFile(`${path}-wal`, 'r').catch(error => {
        throw new StorageFailure(`metadata.db cannot be made durable (${error.message})`, { cause: error });
      });
      await log.datasync();
    },

    check: async () => {
      file.checkPlace();
      // A transaction that changes nothing must still take the write lock, which needs a writable file.
      file.transaction(() => {});
    },

    close: async () => {
      closing.abort();
      file.close();
    },
  };
}

type SavedRow<Field extends string> = (Record<Field, string> & { checkedAtMs: number }) | undefined;

interface StoredUpload extends Omit<UploadRow, 'repository' | 'owner'>, Repository {
  readonly owner: string | null;
}

function uploadRow({ upstream, name, owner, ...upload }: StoredUpload): UploadRow {
  return { ...upload, repository: { upstream, name }, ...(owner !== null && { owner }) };
}
