// Which forward an upload is with. Uploads to one upstream whose first bytes are the same share one; the first
// bytes are enough of them that nothing else is likely to begin so. What is shorter goes up when it is complete.
import { LRUCache } from 'lru-cache';
import type { Ingest, Source } from '../content/content.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { Shared } from '../pull/shared.ts';
import { isAway, type UpstreamWrites } from '../upstream/upstream.ts';
import { Forward, type ForwardDependencies, type Supplier } from './forward.ts';

/** So many bytes tell what an upload brings. */
const PREFIX_BYTES = 1024 * 1024;
/** For how long an upload that the upstream opened, or that it opens them at all, is taken to be good. */
const ADMITTED_MS = 60_000;
const ADMITTED_LIMIT = 1_000;

export type ForwardsDependencies = Omit<ForwardDependencies, 'location'>;

interface Pushed extends Supplier {
  readonly repository: Repository;
  readonly ingest: Ingest;
}

export class Forwards {
  readonly #dependencies: ForwardDependencies;
  readonly #running = new Map<string, Forward>();
  readonly #admitting = new Shared<void>();
  readonly #admitted = new LRUCache<string, { untilMs: number; location: URL | undefined }>({
    max: ADMITTED_LIMIT,
  });

  constructor(dependencies: ForwardsDependencies) {
    this.#dependencies = { ...dependencies, location: repository => this.#location(repository) };
  }

  /** Whether the upstream takes pushes here: it opens an upload, which the next forward uses. Throws its refusal. */
  async admit(repository: Repository): Promise<void> {
    const key = imageName(repository);
    const known = this.#admitted.get(key);
    const { clock } = this.#dependencies;
    if (known !== undefined && clock.now() < known.untilMs) return;
    await this.#admitting.run(key, async () => {
      const location = await this.#writes(repository).startUpload(repository);
      this.#admitted.set(key, { untilMs: clock.now() + ADMITTED_MS, location });
    }).result;
  }

  /** The way of one upload to the upstream. */
  forwarding(upload: Pushed): Forwarding {
    return new Forwarding(this, upload);
  }

  /** The forward of this key, which the supplier joins or starts. */
  join(key: string, repository: Repository, supplier: Supplier): { forward: Forward; joined: boolean } {
    const running = this.#running.get(key);
    if (running !== undefined) {
      running.join(supplier);
      return { forward: running, joined: true };
    }
    const forward = this.start(repository, supplier);
    this.#running.set(key, forward);
    void forward.over.then(() => this.#running.delete(key));
    return { forward, joined: false };
  }

  /** Has content that is here put into the repository, if it is not there; throws what the upstream refuses it with. */
  async bring(repository: Repository, digest: Digest, content: Source): Promise<void> {
    const ingest = {
      writtenBytes: content.sizeBytes,
      reader: () => ({ read: content.read.bind(content), close: () => {} }),
    };
    const supplier = { ingest, complete: digest, isFleeting: false };
    const { forward } = this.join(imageName(repository, { digest }), repository, supplier);
    const result = await forward.over;
    if ('failure' in result) throw result.failure;
  }

  /** A forward that nobody joins. */
  start(repository: Repository, supplier: Supplier): Forward {
    return new Forward(this.#dependencies, repository, supplier);
  }

  /** Has the blob of another repository, where it has just been sent, put into this one; false if that cannot be. */
  mount(repository: Repository, digest: Digest, from: Repository): Promise<boolean> {
    return this.#writes(repository)
      .mountBlob(repository, digest, from)
      .catch(error => {
        if (isAway(error)) throw error;
        return false;
      });
  }

  async #location(repository: Repository): Promise<URL> {
    const known = this.#admitted.get(imageName(repository));
    const { location } = known ?? {};
    if (known === undefined || location === undefined)
      return this.#writes(repository).startUpload(repository);
    known.location = undefined;
    if (this.#dependencies.clock.now() < known.untilMs) return location;
    return this.#writes(repository).startUpload(repository);
  }

  #writes(repository: Repository): UpstreamWrites {
    return this.#dependencies.writes(repository);
  }
}

/** One upload's way to the upstream: which forward it is with, and what is to be done when that one ends. */
export class Forwarding {
  readonly #forwards: Forwards;
  readonly #upload: Pushed;
  #forward: Forward | undefined;
  #joined = false;
  #isReadingPrefix = false;
  #hasLeft = false;
  #isAlone = false;
  /** The refusal that ended the forward while the upload was still coming. */
  #refusal: Error | undefined;

  constructor(forwards: Forwards, upload: Pushed) {
    this.#forwards = forwards;
    this.#upload = upload;
  }

  /** The upload has more bytes. */
  moved(): void {
    if (this.#forward !== undefined) this.#forward.moved();
    else if (this.#upload.ingest.writtenBytes >= PREFIX_BYTES && !this.#isReadingPrefix) {
      // What cannot be read back now is told when the upload is to be finished.
      this.#begin().catch(() => {});
    }
  }

  /** Throws what the upstream has refused it with: nobody needs to send the rest. */
  assertWanted(): void {
    if (this.#refusal !== undefined) throw this.#refusal;
  }

  keepUp(writtenBytes: number): Promise<void> | undefined {
    return this.#forward?.keepUp(writtenBytes);
  }

  /** It can be read only once from now on, so it shares no forward. */
  alone(): void {
    if (this.#isAlone) return;
    this.#isAlone = true;
    this.#forward?.leave(this.#upload);
    this.#isReadingPrefix = true;
    this.#joined = false;
    this.#forward = this.#forwards.start(this.#upload.repository, this.#upload);
    this.#watch(this.#forward);
  }

  leave(): void {
    this.#hasLeft = true;
    this.#forward?.leave(this.#upload);
  }

  /** Resolves when the upstream has accepted the complete upload, to whether others brought it there; throws its refusal. */
  async finish(digest: Digest): Promise<boolean> {
    this.assertWanted();
    const { repository } = this.#upload;
    if (this.#forward === undefined) await this.#begin();
    const forward = this.#forward as Forward;
    if (forward.hasPassed(this.#upload)) {
      forward.leave(this.#upload);
    } else {
      forward.moved();
      const result = await forward.over;
      const isOurs = isSame(forward.repository, repository);
      if ('accepted' in result && result.accepted === digest) {
        if (isOurs || (await this.#forwards.mount(repository, digest, forward.repository)))
          return this.#joined;
      } else if ('failure' in result) {
        const isFinal = forward.triedWhole || this.#upload.isFleeting || !isAway(result.failure);
        if (isOurs && isFinal) return this.#fail(result.failure);
      }
    }
    // What it was with was something else, somewhere else, or broke off too often: it goes up as a whole.
    const whole = this.#forwards.join(imageName(repository, { digest }), repository, this.#upload);
    this.#forward = whole.forward;
    const result = await whole.forward.over;
    return 'failure' in result ? this.#fail(result.failure) : whole.joined;
  }

  /** The next finish, if there is one, tries anew. */
  #fail(failure: Error): never {
    this.#forward = undefined;
    throw failure;
  }

  /** Joins or starts the forward of what begins so. */
  async #begin(): Promise<void> {
    this.#isReadingPrefix = true;
    const { ingest, repository } = this.#upload;
    const prefix = Buffer.allocUnsafe(Math.min(PREFIX_BYTES, ingest.writtenBytes));
    const reader = ingest.reader();
    try {
      for (let position = 0; position < prefix.length; ) {
        position += await reader.read(prefix.subarray(position), position);
      }
    } finally {
      reader.close();
    }
    if (this.#hasLeft || this.#forward !== undefined) return;
    const key = `${repository.upstream} ${digestOf(prefix)}`;
    const { forward, joined } = this.#forwards.join(key, repository, this.#upload);
    this.#forward = forward;
    this.#joined = joined;
    this.#watch(forward);
  }

  #watch(forward: Forward): void {
    void forward.over.then(result => {
      if (!('failure' in result) || forward !== this.#forward) return;
      const { isFleeting, repository } = this.#upload;
      const isOurs = isSame(forward.repository, repository);
      if (isOurs && (isFleeting || !isAway(result.failure))) this.#refusal = result.failure;
    });
  }
}

function isSame(a: Repository, b: Repository): boolean {
  return a.name === b.name && a.upstream === b.upstream;
}
