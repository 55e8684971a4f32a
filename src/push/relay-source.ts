// What a relay reads from: an ingest that may still be growing, and that may be exchanged for another one of the same
// content. Bytes go out from the first to the last, as often as the upstream asks for them.
import { Condition } from '../base/condition.ts';
import type { Ingest } from '../content/ingest.ts';
import type { Digest } from '../oci/digest.ts';

/** Where the bytes come from. After `complete` was set the relay has to be told, by offer(). */
export interface RelaySource {
  readonly ingest: Pick<Ingest, 'writtenBytes' | 'progress' | 'reader'>;
  /** The verified digest of all bytes, once they are all here. */
  readonly complete: Digest | undefined;
  /** Its bytes can be read only once, so they cannot be sent again. */
  readonly isSingleUse: boolean;
  /** The client that sends them; absent: they are here already. */
  readonly client?: string;
}

const READ_BYTES = 256 * 1024;
/**
 * A chunk of this size or more, above what a socket buffers, has been sent for good when the next one is asked for: its
 * memory is reused.
 */
const REUSED_BYTES = 128 * 1024;

export class SourceReader {
  current: RelaySource;
  /** How much has been read by the reading under way. */
  readBytes = 0;
  /** Notified when more is going to be read than before, and by its owner. */
  readonly progress = new Condition();
  readonly #signal: AbortSignal;
  readonly #onEnd: () => void;
  /** Counts the readings. Only the last one goes on: a request that is made again reads again. */
  #readings = 0;

  /** `onEnd`: a reading has handed out the last byte of a complete source. `signal` ends all waits. */
  constructor(source: RelaySource, signal: AbortSignal, onEnd: () => void) {
    this.current = source;
    this.#signal = signal;
    this.#onEnd = onEnd;
  }

  /** A source of the same content, or the same one, has more bytes or is complete: reads from the one that is ahead. */
  offer(source: RelaySource): void {
    const { complete, ingest } = this.current;
    const isAhead = source.complete !== undefined || source.ingest.writtenBytes > ingest.writtenBytes;
    if (complete === undefined && isAhead) this.current = source;
    ingest.progress.notify();
  }

  /** The bytes from the first to the last, as they come. Ends the reading before. */
  read(): AsyncGenerator<Uint8Array> {
    this.stop();
    return this.#read(this.#readings);
  }

  /** Ends the reading under way, if there is one. */
  stop(): void {
    this.#readings++;
    this.current.ingest.progress.notify();
  }

  /** Resolves when there is something to do at this position: bytes, the end, another source, or no more. */
  async more(position: number): Promise<void> {
    const source = this.current;
    const readings = this.#readings;
    const isOther = () => source !== this.current || readings !== this.#readings;
    const hasMore = () => source.ingest.writtenBytes > position || source.complete !== undefined || isOther();
    await source.ingest.progress.wait(hasMore, this.#signal);
  }

  /** Resolves when so many bytes are here, or all. */
  async until(bytes: number): Promise<void> {
    while (this.current.complete === undefined && this.current.ingest.writtenBytes < bytes) await this.more(bytes - 1);
  }

  async *#read(reading: number): AsyncGenerator<Uint8Array> {
    let position = 0;
    let source: RelaySource | undefined;
    let reader: ReturnType<Ingest['reader']> | undefined;
    let buffer: Buffer | undefined;
    try {
      while (reading === this.#readings) {
        this.progress.notify();
        const { complete, ingest } = this.current;
        const available = ingest.writtenBytes - position;
        if (available <= 0) {
          if (complete !== undefined) return this.#onEnd();
          await this.more(position);
          continue;
        }
        if (source !== this.current || reader === undefined) {
          reader?.close();
          source = this.current;
          reader = ingest.reader();
        }
        const wanted = Math.min(available, READ_BYTES);
        const isReused = wanted >= REUSED_BYTES;
        if (isReused) buffer ??= Buffer.allocUnsafeSlow(READ_BYTES);
        const into = isReused && buffer ? buffer.subarray(0, wanted) : Buffer.allocUnsafeSlow(wanted);
        const count = await reader.read(into, position);
        if (reading !== this.#readings) return;
        if (count === 0) throw new Error(`an upload ends at byte ${position}, before the end that was recorded`);
        position += count;
        this.readBytes = position;
        const chunk = into.subarray(0, count);
        // A small one may still be in the socket's buffer when the next is asked for.
        yield isReused && count < REUSED_BYTES ? Buffer.from(chunk) : chunk;
      }
    } finally {
      reader?.close();
    }
  }
}
