// Remembers which content is known to hash to its digest, so that it is not hashed at each reading.
//
// A verdict holds only for the version that it was given on, and one hashing is shared by all that ask meanwhile.
// A bad verdict is not remembered: that content is removed, or replaced by another version.
//
// Bytes on a disk can change with no new version. So a verdict is of a certain age at most, and ends before that when
// the bytes have left memory since: what is read next comes from the disk. For that, the content must be told to be in
// memory right after its hashing. Content that does not fit, or on a file system that does not tell, is of its age alone.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import { SingleFlight } from '../base/single-flight.ts';
import type { Digest } from '../oci/digest.ts';
import { type Content, decorate, type OpenContent } from './content.ts';

/** How many verdicts are remembered; a forgotten one costs a hashing. */
const VERDICTS_LIMIT = 100_000;
/**
 * Content that was hashed again is not asked about for so long: where memory is short, every reading of a range, of
 * which a lazy client has hundreds, would else read all of it.
 */
const HASHED_AGAIN_MS = 10 * 60_000;
/** After asking whether it is in memory, it is not asked for so many times as long: it takes 2 ms a GiB at worst. */
const ASKING_SHARE = 100;

export interface VerdictsOptions {
  readonly clock: Pick<Clock, 'monotonic'>;
  /** How old a verdict may get. */
  readonly verifyEveryMs: number;
}

/** That a version is right. */
interface Verdict {
  readonly version: OpenContent['version'];
  readonly atMs: number;
  /** When it is worth asking whether the content is still in memory. */
  askAtMs: number;
}

export function rememberVerdicts(inner: Content, { clock, verifyEveryMs }: VerdictsOptions): Content {
  const right = new LRUCache<Digest, Verdict>({ max: VERDICTS_LIMIT });
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
      if (isNew) await recordPublished(digest);
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
      verify: () => isKnown(digest, content) || verify(digest, content),
      read: (into, position) => content.read(into, position),
      lend: position => content.lend?.(position) ?? Promise.resolve(undefined),
      close: () => content.close(),
    };
  }

  function isKnown(digest: Digest, content: OpenContent): boolean {
    const verdict = right.get(digest);
    if (verdict?.version !== content.version) return false;
    const nowMs = clock.monotonic();
    if (nowMs - verdict.atMs >= verifyEveryMs) return false;
    if (nowMs < verdict.askAtMs) return true;
    const isInMemory = content.isInMemory?.();
    const askedMs = clock.monotonic();
    verdict.askAtMs = askedMs + ASKING_SHARE * (askedMs - nowMs);
    return isInMemory !== false;
  }

  function verify(digest: Digest, content: OpenContent): Promise<boolean> {
    const { version } = content;
    return hashing.run(`${digest} ${version}`, async () => {
      const isAgain = right.get(digest)?.version === version;
      // It is in doubt, for all who ask meanwhile, though the hashing brings it back into memory.
      if (isAgain) right.delete(digest);
      const isRight = await content.verify();
      if (isRight) record(digest, content, isAgain ? HASHED_AGAIN_MS : 0);
      return isRight;
    }).result;
  }

  function record(digest: Digest, content: OpenContent, askInMs: number): void {
    const atMs = clock.monotonic();
    right.set(digest, {
      version: content.version,
      atMs,
      askAtMs: content.isInMemory?.() === true ? atMs + askInMs : Infinity,
    });
  }

  /** Its bytes were hashed as they came in. */
  async function recordPublished(digest: Digest): Promise<void> {
    try {
      const opened = await inner.open(digest);
      if (opened === undefined) return;
      record(digest, opened, 0);
      opened.close();
    } catch {
      // It is published all the same, and hashed when it is first read.
    }
  }
}
