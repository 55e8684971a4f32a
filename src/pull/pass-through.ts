// A blob that cannot be stored, passed through memory to the one client that asked, hashed and held back as if it were
// stored. It can only be read forwards: bytes before the first position are hashed and skipped.

import type { Clock } from '../base/clock.ts';
import { Condition } from '../base/condition.ts';
import type { Source } from '../content/content.ts';
import { algorithmOf, type Digest, DigestHasher } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { download } from '../upstream/download.ts';
import type { Upstream } from '../upstream/upstream.ts';
import { isInvalid, wrongBytes } from './flight.ts';
import { HOLD_BACK_BYTES, HoldBack } from './hold-back.ts';

export interface PassThroughDependencies {
  readonly upstream: Upstream;
  readonly clock: Clock;
  /** Ends it: the server is shutting down. */
  readonly signal: AbortSignal;
}

/** How much is kept in memory, beside what is held back, before the upstream has to wait for the client. */
const BUFFER_BYTES = 512 * 1024;
/** Wrong bytes are fetched once more, while the client has seen none of them. */
const ATTEMPTS = 2;

/**
 * The blob, once something of it may be read. Throws as `Upstream.openBlob` does, and UPSTREAM_INVALID when
 * it is not the blob or the upstream does not tell its size.
 */
export async function openPassThrough(
  dependencies: PassThroughDependencies,
  repository: Repository,
  digest: Digest,
): Promise<Source> {
  for (let attempt = 1; ; attempt++) {
    const passThrough = new PassThrough(dependencies, repository, digest);
    try {
      await passThrough.begun;
      return passThrough;
    } catch (error) {
      passThrough.close();
      if (!isInvalid(error) || attempt === ATTEMPTS) throw error;
    }
  }
}

class PassThrough implements Source {
  /** Settles when the first byte may be read, or none ever. */
  readonly begun: Promise<unknown>;
  readonly #closing = new AbortController();
  /** Bytes that were received and not yet read, the first of them at #position. */
  #chunks: Buffer[] = [];
  #position = 0;
  #receivedBytes = 0;
  /** Notified whenever bytes were received or read. */
  readonly #progress = new Condition();
  readonly #holdBack = new HoldBack(this.#progress, () => this.#receivedBytes);

  constructor(dependencies: PassThroughDependencies, repository: Repository, digest: Digest) {
    this.#receive(dependencies, repository, digest).then(
      () => this.#holdBack.verified(),
      error => this.#holdBack.fail(error),
    );
    this.begun = this.#holdBack.until(0);
  }

  get sizeBytes(): number {
    return this.#holdBack.sizeBytes;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    if (position < this.#position) throw new Error('content that is not stored can only be read forwards');
    for (;;) {
      const readable = (await this.#holdBack.until(this.#position)) - this.#position;
      const chunk = this.#chunks[0];
      if (chunk === undefined) return 0;
      const skipped = Math.min(position - this.#position, chunk.length, readable);
      const count = Math.min(chunk.length - skipped, into.byteLength, readable - skipped);
      into.set(chunk.subarray(skipped, skipped + count));
      this.#consume(chunk, skipped + count);
      if (count > 0) return count;
    }
  }

  close(): void {
    this.#closing.abort(new Error('the client disconnected'));
    this.#chunks = [];
  }

  /** Download → hash → verify. */
  async #receive(dependencies: PassThroughDependencies, repository: Repository, digest: Digest): Promise<void> {
    const { upstream, clock } = dependencies;
    const what = imageName(repository, { digest });
    const signal = AbortSignal.any([dependencies.signal, this.#closing.signal]);
    const hasher = new DigestHasher(algorithmOf(digest));
    const receive = (chunk: Buffer) => {
      hasher.update(chunk);
      this.#chunks.push(chunk);
      this.#receivedBytes += chunk.length;
      this.#progress.notify();
      return this.#isRoomy() ? undefined : this.#progress.wait(() => this.#isRoomy(), signal);
    };
    let type: string | undefined;
    const releasePlace = await upstream.acquireDownload(repository, signal);
    try {
      await download({ upstream, clock, signal }, repository, digest, (sizeBytes, contentType) => {
        if (sizeBytes === undefined) {
          throw new RegistryError(
            'UPSTREAM_INVALID',
            `${what} cannot be stored, nor passed through: the upstream does not tell its size`,
          );
        }
        type = contentType;
        this.#holdBack.expect(sizeBytes);
        return receive;
      });
    } finally {
      releasePlace();
    }
    const found = hasher.digest();
    if (found !== digest) throw wrongBytes(what, this.#receivedBytes, type, found);
  }

  #consume(chunk: Buffer, count: number): void {
    this.#position += count;
    if (count === chunk.length) this.#chunks.shift();
    else this.#chunks[0] = chunk.subarray(count);
    this.#progress.notify();
  }

  #isRoomy(): boolean {
    return this.#receivedBytes - this.#position <= HOLD_BACK_BYTES + BUFFER_BYTES;
  }
}
