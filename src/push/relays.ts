// Which forward an upload is with. Uploads to one repository whose first bytes are the same share one; the first
// bytes are so many that hardly anything else begins so. What is shorter goes up when it is complete.
import { LRUCache } from 'lru-cache';
import { SingleFlight } from '../base/single-flight.ts';
import type { Source } from '../content/content.ts';
import type { Ingest } from '../content/ingest.ts';
import { readFully } from '../content/read.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { Outcome } from '../pull/outcome.ts';
import type { UpstreamWrites } from '../upstream/upstream.ts';
import { isTransient, Relay, type RelayDependencies, type RelaySource } from './relay.ts';

/** So many bytes tell what an upload brings. */
const PREFIX_BYTES = 1024 * 1024;
/** For how long an upload that the upstream opened, or that it opens them at all, is taken to be good. */
const ADMITTED_MS = 60_000;
const ADMITTED_LIMIT = 1_000;

export type RelaysDependencies = Omit<RelayDependencies, 'location'>;

interface Pushed extends RelaySource {
  readonly repository: Repository;
  readonly ingest: Ingest;
}

export class Relays {
  readonly #dependencies: RelayDependencies;
  readonly #running = new Map<string, Relay>();
  readonly #admitting = new SingleFlight<void>();
  readonly #admitted = new LRUCache<string, { untilMs: number; location: URL | undefined }>({
    max: ADMITTED_LIMIT,
  });

  constructor(dependencies: RelaysDependencies) {
    this.#dependencies = { ...dependencies, location: repository => this.#location(repository) };
  }

  /** Whether the upstream takes pushes here: it opens an upload, which the next forward uses. Throws its refusal. */
  async admit(repository: Repository): Promise<void> {
    const key = imageName(repository);
    const known = this.#admitted.get(key);
    const { clock } = this.#dependencies;
    if (known !== undefined && clock.now() < known.untilMs) return;
    await this.#admitting.run(key, async () => {
      const location = await this.writes(repository).startUpload(repository);
      this.#admitted.set(key, { untilMs: clock.now() + ADMITTED_MS, location });
    }).result;
  }

  /** The forward of this key, which the supplier joins or starts. */
  join(key: string, repository: Repository, supplier: RelaySource): { forward: Relay; joined: boolean } {
    const running = this.#running.get(key);
    if (running?.join(supplier)) return { forward: running, joined: true };
    const forward = this.start(repository, supplier);
    this.#running.set(key, forward);
    void forward.over.then(() => {
      if (this.#running.get(key) === forward) this.#running.delete(key);
    });
    return { forward, joined: false };
  }

  /** A forward that nobody joins. */
  start(repository: Repository, supplier: RelaySource): Relay {
    return new Relay(this.#dependencies, repository, supplier);
  }

  /** Has content that is here put into the repository, if it is not there; throws what the upstream refuses it with. */
  async bring(repository: Repository, digest: Digest, content: Source): Promise<void> {
    const ingest = {
      writtenBytes: content.sizeBytes,
      reader: () => ({ read: content.read.bind(content), close: () => {} }),
    };
    const supplier = { ingest, complete: digest, isSingleUse: false };
    const { forward } = this.join(imageName(repository, { digest }), repository, supplier);
    const result = await forward.over;
    if ('failure' in result) throw result.failure;
  }

  writes(repository: Repository): UpstreamWrites {
    return this.#dependencies.writes(repository);
  }

  async #location(repository: Repository): Promise<URL> {
    const known = this.#admitted.get(imageName(repository));
    const { location, untilMs = 0 } = known ?? {};
    if (known !== undefined) known.location = undefined;
    return location !== undefined && this.#dependencies.clock.now() < untilMs
      ? location
      : this.writes(repository).startUpload(repository);
  }
}

/** One upload's way to the upstream: which forward it is with, and what is to be done when that one ends. */
export class RelayHandle {
  readonly #forwards: Relays;
  readonly #upload: Pushed;
  readonly #onRefused: () => void;
  #forward: Relay | undefined;
  #joined = false;
  /** The forward is being found or is there. */
  #hasBegun = false;
  #isOut = false;
  #isAlone = false;
  /** Whether the upstream holds already what the upload says it is going to be. */
  #held: Promise<Digest | undefined> | undefined;
  /** The refusal that ended the forward while the upload was still coming. */
  #refusal: Error | undefined;

  /** `onRefused`: the upload need not go on. */
  constructor(forwards: Relays, upload: Pushed, onRefused: () => void) {
    this.#forwards = forwards;
    this.#upload = upload;
    this.#onRefused = onRefused;
  }

  /** The upload says what it is going to be: then it need not be sent if it is there. */
  expect(digest: Digest): void {
    if (this.#hasBegun) return;
    const { repository } = this.#upload;
    this.#held = this.#forwards
      .writes(repository)
      .holdsBlob(repository, digest)
      .then(
        isHeld => (isHeld ? digest : undefined),
        () => undefined,
      );
  }

  /** The upload has more bytes. */
  moved(): void {
    if (this.#forward !== undefined) this.#forward.moved();
    else if (this.#upload.ingest.writtenBytes >= PREFIX_BYTES && !this.#hasBegun) {
      // What cannot be read back now is told when the upload is to be finished.
      this.#begin().catch(() => {});
    }
  }

  /** Throws what the upstream has refused it with: nobody needs to send the rest. */
  assertWanted(): void {
    if (this.#refusal !== undefined) throw this.#refusal;
  }

  /** Asks an upload of so many bytes to wait, while too few of them are sent. */
  keepUp(writtenBytes: number): Promise<void> | undefined {
    return this.#forward?.keepUp(writtenBytes);
  }

  /** It can be read only once from now on, so it shares no forward. */
  alone(): void {
    if (this.#isAlone) return;
    this.#isAlone = true;
    this.rest();
    this.#hasBegun = true;
    this.#follow(this.#forwards.start(this.#upload.repository, this.#upload), false);
  }

  /** Nobody has sent anything for a while, so it lets go of the upstream until somebody does. */
  rest(): void {
    const forward = this.#forward;
    this.#forward = undefined;
    this.#hasBegun = false;
    forward?.leave(this.#upload);
  }

  /** The upload is given up. */
  leave(): void {
    this.#isOut = true;
    this.rest();
  }

  /** Resolves when the upstream has the complete upload, to how that came about; throws its refusal. */
  async finish(digest: Digest): Promise<Outcome> {
    this.assertWanted();
    if ((await this.#held) === digest) {
      this.rest();
      return 'revalidated';
    }
    if (this.#forward === undefined) await this.#begin();
    const forward = this.#forward;
    if (forward?.hasPassed(this.#upload)) forward.leave(this.#upload);
    else if (forward !== undefined) {
      forward.moved();
      const result = await forward.over;
      if ('accepted' in result && result.accepted === digest) return this.#joined ? 'joined' : 'miss';
      if ('failure' in result) {
        const { failure } = result;
        if (forward.triedWhole || this.#upload.isSingleUse || !isTransient(failure))
          return this.#fail(failure);
      }
    }
    // What it was with was something else, or broke off too often: it goes up as a whole.
    const { repository } = this.#upload;
    const whole = this.#forwards.join(imageName(repository, { digest }), repository, this.#upload);
    this.#follow(whole.forward, whole.joined);
    const result = await whole.forward.over;
    if ('failure' in result) return this.#fail(result.failure);
    return whole.joined ? 'joined' : 'miss';
  }

  /** Joins or starts the forward of what begins so. */
  async #begin(): Promise<void> {
    this.#hasBegun = true;
    if ((await this.#held) !== undefined && this.#upload.complete === undefined) return;
    const { ingest, repository } = this.#upload;
    const prefix = Buffer.allocUnsafe(Math.min(PREFIX_BYTES, ingest.writtenBytes));
    const reader = ingest.reader();
    try {
      await readFully(reader, prefix);
    } finally {
      reader.close();
    }
    if (this.#isOut || this.#forward !== undefined) return;
    const key = `${imageName(repository)} ${digestOf(prefix)}`;
    const { forward, joined } = this.#forwards.join(key, repository, this.#upload);
    this.#follow(forward, joined);
  }

  #follow(forward: Relay, joined: boolean): void {
    this.#forward = forward;
    this.#joined = joined;
    void forward.over.then(result => {
      if (forward !== this.#forward || !('failure' in result)) return;
      if (!this.#upload.isSingleUse && isTransient(result.failure)) return;
      this.#refusal = result.failure;
      this.#onRefused();
    });
  }

  /** The next finish, if there is one, tries anew. */
  #fail(failure: Error): never {
    this.rest();
    throw failure;
  }
}
