// An upstream whose responses to requests for a blob are scripted, for what is too fine to be had from a server: where
// exactly a body is cut, what a second response says of the size, whether a body that is no longer wanted is closed.
// Each request for the blob takes the next response of the script; what other verbs do is up to the test.
import assert from 'node:assert/strict';
import type { Digest } from '../../src/oci/digest.ts';
import type { Repository } from '../../src/oci/reference.ts';
import type { Permit, TransferPermits } from '../../src/upstream/permits.ts';
import type { BlobBody, Spares, Upstream } from '../../src/upstream/upstream.ts';

export interface FakeAnswer {
  /** The bytes of this body; what begins where `start` says. */
  readonly bytes?: Uint8Array;
  /** The body begins here; default: where it was asked to. */
  readonly start?: number;
  /** `null`: not told. Default: the end of `bytes`. */
  readonly sizeBytes?: number | null;
  readonly contentType?: string;
  /** Default: 1000. */
  readonly chunkBytes?: number;
  /** What happens after the last byte; default: the body ends. `stall`: nothing ever comes. */
  readonly after?: Error | 'stall';
  /** Waited for before the response begins. */
  readonly gate?: () => Promise<unknown>;
  /** There is no response but this. */
  readonly error?: Error;
}

const NO_SPARES: Spares = {
  ...{ perBlob: 0, hasRanges: true, isOverLimit: true },
  ...{ join: () => () => {}, serve: () => {}, gaveNoRange: () => {}, limited: () => {} },
};

export class FakeUpstream {
  readonly repository: Repository = { upstream: 'ghcr.io', name: 'owner/app' };
  /** From which byte on each request asked for the blob. */
  readonly asked: number[] = [];
  /** Bodies that have neither come to their end nor been closed. */
  openBodies = 0;
  /** Permits that are held. */
  placesTaken = 0;
  /** In place of permits that are always free. */
  permits: Partial<TransferPermits> = {};
  /** Whether others wait for a permit. */
  isContended = false;
  sentBytes = 0;
  readonly #script: FakeAnswer[];
  readonly #verbs: Partial<Upstream>;

  constructor(script: FakeAnswer[] = [], verbs: Partial<Upstream> = {}) {
    this.#script = [...script];
    this.#verbs = verbs;
  }

  /** With what downloads need, and the verbs of the test: any other is a mistake of the test. */
  get upstream(): Upstream {
    const verbs: Partial<Upstream> = {
      offline: false,
      identity: async () => 'anonymous',
      spares: NO_SPARES,
      openBlob: (_, digest, { start }, signal) => this.#open(digest, start, signal),
      downloads: {
        acquire: async () => this.#permit(),
        acquireLarge: async () => this.#permit(),
        ...this.permits,
      },
      ...this.#verbs,
    };
    return verbs as Upstream;
  }

  #permit(): Permit {
    this.placesTaken++;
    let isHeld = true;
    const release = () => {
      if (isHeld) this.placesTaken--;
      isHeld = false;
    };
    return { isForSmall: false, isAwaited: this.isContended, release };
  }

  async #open(_digest: Digest, asked: number, signal: AbortSignal): Promise<BlobBody> {
    signal.throwIfAborted();
    this.asked.push(asked);
    const answer = this.#script.shift() ?? assert.fail('asked once more than the script has responses');
    await answer.gate?.();
    if (answer.error !== undefined) throw answer.error;
    const { bytes = new Uint8Array(), start = asked } = answer;
    const sizeBytes = answer.sizeBytes === undefined ? start + bytes.length : (answer.sizeBytes ?? undefined);
    this.openBodies++;
    let isOpen = true;
    const closed = Promise.withResolvers<Error>();
    const letGo = () => {
      if (isOpen) this.openBodies--;
      isOpen = false;
    };
    signal.addEventListener('abort', letGo, { once: true });
    const chunks = this.#chunks(answer, bytes, signal);
    const readAll: BlobBody['read'] = async take => {
      for (;;) {
        let next: IteratorResult<Buffer>;
        try {
          next = await chunks.next();
        } catch (error) {
          letGo();
          return error;
        }
        if (next.done) break;
        if (!isOpen) return closed.promise;
        await take(next.value);
      }
      letGo();
      return undefined;
    };
    // As of a real body, its reading ends when it is closed.
    const read: BlobBody['read'] = take => Promise.race([readAll(take), closed.promise]);
    const close = () => {
      letGo();
      closed.resolve(new Error('closed'));
    };
    return { sizeBytes, contentType: answer.contentType, start, read, close };
  }

  async *#chunks(answer: FakeAnswer, bytes: Uint8Array, signal: AbortSignal): AsyncGenerator<Buffer> {
    const { chunkBytes = 1000 } = answer;
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      await new Promise(resolve => setImmediate(resolve));
      signal.throwIfAborted();
      const chunk = Buffer.from(bytes.subarray(at, at + chunkBytes));
      this.sentBytes += chunk.length;
      yield chunk;
    }
    if (answer.after === 'stall') {
      await new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      });
    }
    if (answer.after instanceof Error) throw answer.after;
  }
}
