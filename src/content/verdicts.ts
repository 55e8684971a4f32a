// Remembers which content is known to hash to its digest, so that each version of its bytes is hashed once.
//
// A verdict holds only for the version that it was given on, and one hashing is shared by all that ask meanwhile.
// A bad verdict is not remembered: that content is removed, or replaced by another version.
import { LRUCache } from 'lru-cache';
import { SingleFlight } from '../base/single-flight.ts';
import type { Digest } from '../oci/digest.ts';
import { type Content, decorate, type OpenContent } from './content.ts';

/** How many verdicts are remembered; a forgotten one costs a hashing. */
const VERDICTS_LIMIT = 100_000;

export function rememberVerdicts(inner: Content): Content {
  /** The version of each content that is known to be right. */
  const right = new LRUCache<Digest, OpenContent['version']>({ max: VERDICTS_LIMIT });
  const hashing = new SingleFlight<boolean>();

  return decorate(inner, {
    open: digest => {
      const opened = inner.open(digest);
      return opened instanceof Promise
        ? opened.then(content => content && judged(digest, content))
        : opened && judged(digest, opened);
    },
    publish: async (ingest, digest) => {
      const isNew = await inner.publish(ingest, digest);
      if (isNew) await recordVersion(digest);
      return isNew;
    },
    remove: digest => {
      right.delete(digest);
      return inner.remove(digest);
    },
  });

  /** Open content, with our verdict in place of its own. */
  function judged(digest: Digest, content: OpenContent): OpenContent {
    const { sizeBytes, version } = content;
    return {
      sizeBytes,
      version,
      verify: () => right.get(digest) === version || verify(digest, content),
      read: (into, position) => content.read(into, position),
      lend: position => content.lend?.(position) ?? Promise.resolve(undefined),
      close: () => content.close(),
    };
  }

  function verify(digest: Digest, content: OpenContent): Promise<boolean> {
    const { version } = content;
    return hashing.run(`${digest} ${version}`, async () => {
      const isRight = await content.verify();
      if (isRight) right.set(digest, version);
      return isRight;
    }).result;
  }

  /** Of content that has just been published: its bytes were hashed as they came in. */
  async function recordVersion(digest: Digest): Promise<void> {
    try {
      const opened = await inner.open(digest);
      if (opened === undefined) return;
      right.set(digest, opened.version);
      opened.close();
    } catch {
      // It is published all the same, and hashed when it is first read.
    }
  }
}
