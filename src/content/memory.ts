// Keeps small content in memory, once it has been opened and its bytes have hashed to their digest. What it hands out
// is right whatever becomes of the stored bytes.
import { LRUCache } from 'lru-cache';
import { algorithmOf, type Digest, digestOf } from '../oci/digest.ts';
import { type Content, decorate, type OpenContent } from './content.ts';
import { readFully } from './read.ts';

/** Content up to this size is small. */
export const SMALL_BYTES = 256 * 1024;
const MEMORY_BYTES = 32 * 1024 * 1024;

export function keepSmallInMemory(inner: Content): Content {
  const kept = new LRUCache<Digest, OpenContent>({
    maxSize: MEMORY_BYTES,
    // The cache takes no entry of size 0.
    sizeCalculation: ({ sizeBytes }) => sizeBytes + 1,
  });
  let removals = 0;

  return decorate(inner, {
    open: digest => kept.get(digest) ?? openInner(digest),
    remove: async digest => {
      try {
        await inner.remove(digest);
      } finally {
        // What is being read now was there before, so it is not kept either.
        removals++;
        kept.delete(digest);
      }
    },
  });

  function openInner(digest: Digest): Promise<OpenContent | undefined> | OpenContent | undefined {
    const removalsBefore = removals;
    const opened = inner.open(digest);
    return opened instanceof Promise
      ? opened.then(content => keepIfSmall(digest, content, removalsBefore))
      : keepIfSmall(digest, opened, removalsBefore);
  }

  function keepIfSmall(digest: Digest, opened: OpenContent | undefined, removalsBefore: number) {
    return opened && opened.sizeBytes <= SMALL_BYTES ? keep(digest, opened, removalsBefore) : opened;
  }

  /** What cannot be read, or is wrong, is handed on as it was opened. */
  async function keep(digest: Digest, opened: OpenContent, removalsBefore: number): Promise<OpenContent> {
    const bytes = Buffer.allocUnsafeSlow(opened.sizeBytes);
    const count = await readFully(opened, bytes).catch(() => 0);
    if (count !== bytes.length || digestOf(bytes, algorithmOf(digest)) !== digest) return opened;
    opened.close();
    const small = inMemory(bytes, opened.version);
    if (removalsBefore === removals) kept.set(digest, small);
    return small;
  }
}

function inMemory(bytes: Buffer, version: OpenContent['version']): OpenContent {
  return {
    sizeBytes: bytes.length,
    bytes,
    version,
    verify: () => true,
    read: async (into, position) => bytes.copy(into, 0, position),
    close: () => {},
  };
}
