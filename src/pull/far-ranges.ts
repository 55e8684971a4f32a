// Ranges that are far ahead of what a flight has: a part of a layer that is pulled lazily or in several ranges at a time,
// or the rest of a pull that was cut. The flight fetches them before others, if it can. What is in the final stretch, as
// the footer of a layer is, it could give to no one before all is verified; that, and what it cannot fetch now, is asked
// of the upstream directly, while the flight goes on, and reaches the client held to no digest: a range has none. What
// cannot be had in either way is waited for, as any other range is.
import type { Span } from '../base/spans.ts';
import type { Source } from '../content/content.ts';
import { MemoryIngest } from '../content/memory-ingest.ts';
import { algorithmOf, type Digest } from '../oci/digest.ts';
import type { Repository } from '../oci/reference.ts';
import { download } from '../upstream/download.ts';
import type { Caller } from './caller.ts';
import type { FlightDependencies } from './flight.ts';
import { HOLD_BACK_BYTES } from './hold-back.ts';

type Dependencies = Pick<FlightDependencies, 'upstream' | 'clock' | 'signal'>;

/** A pull of a blob that is being fetched. */
interface Pull {
  readonly repository: Repository;
  readonly digest: Digest;
  /** Its bytes, as they come in. */
  readonly source: Source;
  /** How many of them are here. */
  readonly writtenBytes: number;
  readonly caller: Caller;
  /** As Flight.want. */
  want(position: number): boolean;
}

/** What is nearer comes soon enough by the flight. */
const FAR_BYTES = 8 * 1024 * 1024;
/** How much waits in memory for a slow client. */
const BUFFER_BYTES = 256 * 1024;
const CLIENT_STALL_MS = 30_000;

/**
 * The source with those of the spans in it taken from the upstream that are far ahead of what is here; undefined
 * when none is, or the upstream does not give it now. Each span is read once, forwards. Closing it closes the source.
 */
export async function readFar(
  dependencies: Dependencies,
  pull: Pull,
  spans: readonly Span[],
): Promise<Source | undefined> {
  const { source, writtenBytes } = pull;
  const isFar = ({ start }: Span) => start > writtenBytes + FAR_BYTES;
  const far = spans.filter(span => isFar(span) && (isFooter(span, source.sizeBytes) || !pull.want(span.start)));
  const [first] = far;
  if (first === undefined) return undefined;
  // A client that has disconnected waits for no first byte either.
  const signal = AbortSignal.any([dependencies.signal, pull.caller.gone()]);
  const open = (span: Span) => openRange({ ...dependencies, signal }, pull, span);
  let current: Range = open(first);
  if (!(await current.hasBegun())) {
    current.close();
    return undefined;
  }
  const spanAt = (position: number) => far.find(({ start, end }) => start <= position && position < end);
  return {
    sizeBytes: source.sizeBytes,
    read: async (into, position) => {
      const span = spanAt(position);
      if (span === undefined) return source.read(into, position);
      if (span !== current.span) {
        current.close();
        current = open(span);
      }
      return current.read(into, position);
    },
    lend: async position => (spanAt(position) === undefined ? source.lend?.(position) : undefined),
    close: () => {
      current.close();
      source.close();
    },
  };
}

/** Whether its client would wait for all of the blob. */
function isFooter({ start, end }: Span, sizeBytes: number): boolean {
  return end > sizeBytes - HOLD_BACK_BYTES && end - start <= FAR_BYTES;
}

interface Range {
  readonly span: Span;
  /** Resolves to whether there is a first byte; false when the download has failed before it. */
  hasBegun(): Promise<boolean>;
  read: Source['read'];
  close(): void;
}

/** Starts to download a span, through memory, to one reader. */
function openRange(
  { upstream, clock, signal }: Dependencies,
  { repository, digest, caller: { client } }: Pull,
  span: Span,
): Range {
  const ingest = new MemoryIngest(algorithmOf(digest), BUFFER_BYTES);
  const closing = new AbortController();
  let failure: Error | undefined;
  const options = {
    ...{ ...span, clock, client, receiverStallMs: CLIENT_STALL_MS },
    upstream: upstream(repository),
    signal: AbortSignal.any([signal, closing.signal]),
  };
  download(options, repository, digest, () => () => chunk => ingest.write(Buffer.from(chunk))).catch(error => {
    failure = error;
    ingest.progress.notify();
  });
  const reader = ingest.reader();
  const until = (bytes: number) => ingest.progress.wait(() => failure !== undefined || ingest.writtenBytes > bytes);
  return {
    span,
    hasBegun: async () => {
      await until(0);
      return failure === undefined;
    },
    read: async (into, position) => {
      await until(position - span.start);
      if (failure !== undefined && ingest.writtenBytes <= position - span.start) throw failure;
      return reader.read(into, position - span.start);
    },
    close: () => {
      closing.abort(new Error('the client disconnected'));
      void ingest.abort();
      reader.close();
    },
  };
}
