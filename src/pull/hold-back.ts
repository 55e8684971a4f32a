// The central invariant of a pull: no client gets the last 64 KiB of a blob before its digest is verified, so none can
// ever complete wrong bytes. Whatever hands out bytes that are not verified yet does it through a HoldBack: an
// ingest that is being filled, a blob that passes through memory, and content that is being hashed on disk.
import type { Condition } from '../base/condition.ts';
import type { Reader, Source } from '../content/content.ts';
import type { Ingest } from '../content/ingest.ts';

/** How much is held back. Nothing is readable of a shorter blob before it is verified. */
export const HOLD_BACK_BYTES = 64 * 1024;

export class HoldBack {
  /** Of the whole; 0 while that is not known. */
  sizeBytes = 0;
  readonly #progress: Condition;
  readonly #endOf: (position: number) => number;
  #isVerified = false;
  #failure: Error | undefined;

  /** `endOf`: where the bytes end that have come from a position on; `progress` is notified when more have. */
  constructor(progress: Condition, endOf: (position: number) => number) {
    this.#progress = progress;
    this.#endOf = endOf;
  }

  /** How large the whole is going to be. Nothing is readable while that is not known. */
  expect(sizeBytes: number): void {
    this.sizeBytes = sizeBytes;
    this.#progress.notify();
  }

  /** All bytes have come, and their digest is right. */
  verified(): void {
    this.#isVerified = true;
    this.sizeBytes = this.#endOf(0);
    this.#progress.notify();
  }

  /** It is not going to be complete: every read throws this from now on, unless all was verified before. */
  fail(error: Error): void {
    if (this.#isVerified) return;
    this.#failure = error;
    this.#progress.notify();
  }

  /**
   * Resolves, to the end of what may be read, once the position is before that, or all has come. Throws the failure, and
   * the signal's reason when it is aborted first.
   */
  async until(position: number, signal?: AbortSignal): Promise<number> {
    if (!this.#isSettled(position)) await this.#progress.wait(() => this.#isSettled(position), signal);
    if (this.#failure !== undefined) throw this.#failure;
    return this.#end(position);
  }

  /** The bytes of a reader, as far as they may be read. */
  clip(reader: Reader): Source {
    return {
      sizeBytes: this.sizeBytes,
      read: async (into, position) => {
        const readable = (await this.until(position)) - position;
        if (readable <= 0) return 0;
        return reader.read(readable < into.byteLength ? into.subarray(0, readable) : into, position);
      },
      lend: async position => {
        const end = await this.until(position);
        const lent = await reader.lend?.(position);
        return lent && { ...lent, end: Math.min(lent.end, end) };
      },
      close: () => reader.close(),
    };
  }

  #isSettled(position: number): boolean {
    return this.#failure !== undefined || this.#isVerified || position < this.#end(position);
  }

  #end(position: number): number {
    if (this.#isVerified) return this.sizeBytes;
    return Math.min(this.#endOf(position), this.sizeBytes - HOLD_BACK_BYTES);
  }
}

/** The bytes of one blob while they come in. Clients never drive the writer: each reads the ingest at its own pace. */
export class Incoming<I extends Ingest = Ingest> extends HoldBack {
  readonly ingest: I;

  constructor(ingest: I) {
    super(ingest.progress, position => ingest.endOf(position));
    this.ingest = ingest;
  }

  /** A follower, once there is something that it may have. Throws what the incoming failed with, and as until(). */
  async follow(signal?: AbortSignal): Promise<Source> {
    await this.until(0, signal);
    return this.source();
  }

  /** A follower. The ingest must not have ended. */
  source(): Source {
    return this.clip(this.ingest.reader());
  }
}
