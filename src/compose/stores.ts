// What a data directory holds: opened in order, released in reverse.
import { join } from 'node:path';
import type { Config } from '../config/load.ts';
import type { Content } from '../content/content.ts';
import type { Ingests } from '../content/ingest.ts';
import { LocalIngests } from '../content/local/ingest.ts';
import { LocalContent } from '../content/local/store.ts';
import { keepSmallInMemory } from '../content/memory.ts';
import { loadPageCache } from '../content/page-cache.ts';
import { rememberVerdicts } from '../content/verdicts.ts';
import { cached } from '../metadata/cached.ts';
import type { Metadata } from '../metadata/metadata.ts';
import { openSqlite } from '../metadata/sqlite/store.ts';
import { bufferUsage } from '../metadata/usage-buffer.ts';
import { bytesOf } from '../pull/manifests.ts';
import { closeToOthers, inSentences, takeDataDirectory } from './data-directory.ts';
import type { Descriptors } from './descriptors.ts';
import type { Environment } from './environment.ts';

export interface Stores {
  readonly content: Content;
  readonly ingests: Ingests;
  readonly metadata: Metadata;
}

/**
 * Opens the data directory, making it if need be. `stack` owns what was opened, also when a later step throws. Throws a
 * sentence when nothing could be kept there.
 */
export async function openStores(
  { data, cache }: Config,
  { clock, log }: Environment,
  descriptors: Descriptors,
  stack: AsyncDisposableStack,
): Promise<Stores> {
  stack.defer(await takeDataDirectory(data));
  return inSentences(data, async () => {
    const { keptFiles, exhausted: onExhausted } = descriptors;
    const ingests = await LocalIngests.open(data, onExhausted);
    const pageCache = await loadPageCache();
    const local = await LocalContent.open(data, { keptFiles, onExhausted, ...(pageCache && { pageCache }) });
    descriptors.onShrink(() => local.shrink());
    await local.check();
    const { verifyEveryMs } = cache;
    const content = keepSmallInMemory(rememberVerdicts(local, { clock, verifyEveryMs }));
    const database = await openSqlite(join(data, 'metadata.db'), {
      clock,
      exclusive: true,
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
    closeToOthers(data, log);
    return { content, ingests, metadata };
  });
}
