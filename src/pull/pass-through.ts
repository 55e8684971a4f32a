// A blob that cannot be stored, passed through memory to the one client that asked, hashed and held back as if it were
// stored. It can only be read forwards: bytes before the first position are hashed and skipped.
import type { Source } from '../content/content.ts';
import { MEMORY_READ_BYTES, MemoryIngest } from '../content/memory-ingest.ts';
import { algorithmOf, type Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { download } from '../upstream/download.ts';
import { isInvalid } from '../upstream/upstream.ts';
import type { Caller } from './caller.ts';
import { type FlightDependencies, wrongBytes } from './flight.ts';
import { HOLD_BACK_BYTES, Incoming } from './hold-back.ts';

export type PassThroughDependencies = Pick<FlightDependencies, 'upstream' | 'clock' | 'signal'>;

/** How much is kept in memory, beside what is held back, before the upstream has to wait for the client. */
const BUFFER_BYTES = 256 * 1024;
/** Where bytes go that are skipped: no one looks at them. */
const SKIPPED = Buffer.allocUnsafeSlow(64 * 1024);
/** A client that takes nothing for so long is cut: what waits for it is in memory. */
const CLIENT_STALL_MS = 30_000;
/** Wrong bytes are fetched once more, while the client has seen none of them. */
const ATTEMPTS = 2;

/** The blob, once something of it may be read. Throws as `Upstream.openBlob`, and UPSTREAM_INVALID for a wrong one. */
export async function openPassThrough(
  dependencies: PassThroughDependencies,
  repository: Repository,
  digest: Digest,
  caller: Caller,
): Promise<Source> {
  for (let attempt = 1; ; attempt++) {
    const ingest = new MemoryIngest(algorithmOf(digest), HOLD_BACK_BYTES + BUFFER_BYTES);
    const incoming = new Incoming(ingest);
    const closing = new AbortController();
    const signal = AbortSignal.any([dependencies.signal, closing.signal]);
    receive({ ...dependencies, signal }, repository, digest, caller, incoming).then(
      () => incoming.verified(),
      error => incoming.fail(error),
    );
    const close = () => {
      closing.abort(new Error('the client disconnected'));
      void ingest.abort();
    };
    try {
      return forwards(await incoming.follow(caller.gone()), close);
    } catch (error) {
      close();
      if (!isInvalid(error) || attempt === ATTEMPTS) throw error;
    }
  }
}

/** Download → hash → verify. */
async function receive(
  dependencies: PassThroughDependencies,
  repository: Repository,
  digest: Digest,
  { client }: Caller,
  incoming: Incoming,
): Promise<void> {
  const { ingest } = incoming;
  const { clock, signal } = dependencies;
  const upstream = dependencies.upstream(repository);
  const what = imageName(repository, { digest });
  let type: string | undefined;
  const options = { upstream, clock, signal, client, receiverStallMs: CLIENT_STALL_MS };
  await download(options, repository, digest, (sizeBytes, contentType) => {
    if (sizeBytes === undefined) {
      const why = 'cannot be stored, nor passed through: the upstream does not tell its size';
      throw new RegistryError('UPSTREAM_INVALID', `${what} ${why}`);
    }
    type = contentType;
    incoming.expect(sizeBytes);
    return () => chunk => ingest.write(Buffer.from(chunk));
  });
  const found = await ingest.finish();
  if (found !== digest) throw wrongBytes(what, ingest.writtenBytes, type, found);
}

/** A source that may be read from any position that is not behind the one before. */
function forwards({ sizeBytes, read }: Source, close: () => void): Source {
  let reached = 0;
  return {
    sizeBytes,
    readLimitBytes: MEMORY_READ_BYTES,
    close,
    read: async (into, position) => {
      if (position < reached) throw new Error('content that is not stored can only be read forwards');
      for (;;) {
        const isSkipping = reached < position;
        const count = await read(isSkipping ? SKIPPED.subarray(0, position - reached) : into, reached);
        reached += count;
        if (!isSkipping || count === 0) return count;
      }
    },
  };
}
