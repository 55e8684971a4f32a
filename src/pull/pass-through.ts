// A blob that cannot be stored goes straight through to the one client that asked, hashed and held back
// just as if it were. It can only be read forwards: bytes before the first position are hashed and left out.
import type { Clock } from '../base/clock.ts';
import type { Source } from '../content/content.ts';
import { algorithmOf, type Digest, DigestHasher } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { download } from '../upstream/download.ts';
import type { Upstream } from '../upstream/upstream.ts';
import { isInvalid, wrongBytes } from './flight.ts';
import { HOLD_BACK_BYTES } from './incoming.ts';

export interface PassThroughDependencies {
  readonly upstream: Upstream;
  readonly clock: Clock;
  /** Ends it: the server is leaving. */
  readonly signal: AbortSignal;
}

/** How much is kept in memory beside what is held back before the upstream has to wait for the client. */
const BUFFER_BYTES = 512 * 1024;
/** Wrong content is fetched again once, while the client has seen nothing of it. */
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
    const passage = new PassThrough(dependencies, repository, digest);
    try {
      await passage.begun;
      return passage;
    } catch (error) {
      passage.close();
      if (!isInvalid(error) || attempt === ATTEMPTS) throw error;
    }
  }
}

class PassThrough implements Source {
  sizeBytes = 0;
  /** Settles when the first byte may be read, or none ever. */
  readonly begun: Promise<void>;
  readonly #closing = new AbortController();
  /** Bytes that were received and not yet read, the first of them at #position. */
  #chunks: Buffer[] = [];
  #position = 0;
  #received = 0;
  #verified = false;
  #failure: Error | undefined;
  #wakeReader = () => {};
  #wakeReceiver = () => {};

  constructor(dependencies: PassThroughDependencies, repository: Repository, digest: Digest) {
    this.#receive(dependencies, repository, digest).catch(error => {
      this.#failure = error;
      this.#wakeReader();
    });
    this.begun = this.#readable(0);
    this.begun.catch(() => {});
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    if (position < this.#position) throw new Error('content that is not stored can only be read forwards');
    for (;;) {
      await this.#readable(this.#position);
      const chunk = this.#chunks[0];
      if (chunk === undefined) return 0;
      const allowed = this.#end() - this.#position;
      const skipped = Math.min(position - this.#position, chunk.length, allowed);
      const taken = Math.min(chunk.length - skipped, into.byteLength, allowed - skipped);
      into.set(chunk.subarray(skipped, skipped + taken));
      this.#consume(chunk, skipped + taken);
      if (taken > 0) return taken;
    }
  }

  close(): void {
    this.#closing.abort(new Error('the client has left'));
    this.#chunks = [];
    this.#wakeReceiver();
  }

  async #receive(
    dependencies: PassThroughDependencies,
    repository: Repository,
    digest: Digest,
  ): Promise<void> {
    const { upstream, clock } = dependencies;
    const what = imageName(repository, { digest });
    const signal = AbortSignal.any([dependencies.signal, this.#closing.signal]);
    const hasher = new DigestHasher(algorithmOf(digest));
    const releasePlace = await upstream.acquireDownload(repository, signal);
    let type: string | undefined;
    try {
      await download({ upstream, clock, signal }, repository, digest, {
        start: (sizeBytes, contentType) => {
          if (sizeBytes === undefined) {
            throw new RegistryError(
              'UPSTREAM_INVALID',
              `${what} cannot be stored, nor passed on: its size is not told`,
            );
          }
          type = contentType;
          this.sizeBytes = sizeBytes;
        },
        receive: chunk => {
          hasher.update(chunk);
          this.#chunks.push(chunk);
          this.#received += chunk.length;
          this.#wakeReader();
          if (this.#isRoomy()) return undefined;
          return new Promise(resolve => {
            this.#wakeReceiver = resolve;
          });
        },
      });
    } finally {
      releasePlace();
    }
    const found = hasher.digest();
    if (found !== digest) throw wrongBytes(what, this.#received, type, found);
    this.#verified = true;
    this.#wakeReader();
  }

  /** Waits until the byte at the position may be read or nothing more is to come. */
  async #readable(position: number): Promise<void> {
    while (this.#failure === undefined && !this.#verified && position >= this.#end()) {
      await new Promise<void>(resolve => {
        this.#wakeReader = resolve;
      });
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  #end(): number {
    return this.#verified ? this.#received : Math.min(this.#received, this.sizeBytes - HOLD_BACK_BYTES);
  }

  #consume(chunk: Buffer, count: number): void {
    this.#position += count;
    if (count === chunk.length) this.#chunks.shift();
    else this.#chunks[0] = chunk.subarray(count);
    if (this.#isRoomy()) this.#wakeReceiver();
  }

  #isRoomy(): boolean {
    return this.#received - this.#position <= HOLD_BACK_BYTES + BUFFER_BYTES;
  }
}
