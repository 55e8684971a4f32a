// Uploads: clients' push sessions. What a client sends goes into an ingest, and while it is coming a forward
// takes it to the upstream. It is finished in straight order: digest checked → accepted by the upstream →
// committed → linked. Nothing before that is visible, and nothing is acknowledged that the upstream has not.
//
// An upload outlives the process: its bytes are in a named ingest, its row in metadata. What outlives
// nothing, and is not kept, is content for which there is no room: it passes through (passing.ts).
import { randomUUID } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { SingleFlight } from '../base/single-flight.ts';
import { type Content, StorageFailure } from '../content/content.ts';
import type { Ingest, Ingests } from '../content/ingest.ts';
import type { LinkStore, Metadata, UploadRow, UploadStore } from '../metadata/metadata.ts';
import { type Algorithm, algorithmOf, type Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { Blobs } from '../pull/blobs.ts';
import type { Outcome } from '../pull/outcome.ts';
import type { Budget, Reservation } from '../retention/budget.ts';
import { isUnavailable, type Upstream, type UpstreamWrites } from '../upstream/upstream.ts';
import { MemoryIngest } from './memory-ingest.ts';
import { isTransient, type RelaySource } from './relay.ts';
import { RelayHandle, Relays } from './relays.ts';

export interface UploadDependencies {
  readonly content: Content;
  readonly ingests: Ingests;
  readonly metadata: LinkStore & UploadStore & Pick<Metadata, 'sync'>;
  readonly budget: Budget;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  upstream(repository: Repository): Upstream;
  writes(repository: Repository): UpstreamWrites;
}

/** Takes the chunks of a body; a promise asks the sender to wait. */
export type OnChunk = (chunk: Buffer) => Promise<void> | undefined;
/** Hands over a body; rejects when it breaks or is told to stop, or with what `take` failed with. */
export type Feed = (take: OnChunk, stop: AbortSignal) => Promise<void>;

/** An upload that nobody has sent to for so long is given up. */
const ABANDONED_MS = 3_600_000;
const ABANDONED_BY_RESTART_MS = 24 * ABANDONED_MS;
/** One that nobody has sent to for so long keeps no connection to the upstream. */
const RESTING_MS = 60_000;
const OPEN_LIMIT = 1_000;
/** A mount that the upstream does not do is done from here up to this size. */
const BROUGHT_BYTES = 256 * 1024 * 1024;
/** Ten times what ghcr.io takes. */
const SIZE_LIMIT_BYTES = 100 * 1024 ** 3;

export class Uploads {
  readonly #dependencies: UploadDependencies;
  readonly #forwards: Relays;
  readonly #open = new Map<string, Upload>();
  /** Those of an earlier process that nobody has asked for yet. */
  readonly #left: Map<string, UploadRow>;
  readonly #openedAtMs: number;
  #sweeping: Promise<void> | undefined;
  readonly #resuming = new SingleFlight<Upload | undefined>();

  private constructor(dependencies: UploadDependencies, left: readonly UploadRow[]) {
    this.#dependencies = dependencies;
    this.#forwards = new Relays(dependencies);
    this.#left = new Map(left.map(row => [row.id, row]));
    this.#openedAtMs = dependencies.clock.now();
  }

  /** Finds the uploads of an earlier process, and clears away what else it left. */
  static async open(dependencies: UploadDependencies): Promise<Uploads> {
    const { metadata, ingests, clock } = dependencies;
    const left: UploadRow[] = [];
    for (const row of await metadata.uploads()) {
      if (clock.now() - row.startedAtMs < ABANDONED_BY_RESTART_MS) left.push(row);
      else await metadata.removeUpload(row.id);
    }
    await ingests.keep(new Set(left.map(({ id }) => id)));
    return new Uploads(dependencies, left);
  }

  /** Opens an upload, once the upstream has agreed to one. Throws what it refuses with, and TOOMANYREQUESTS. */
  async start(repository: Repository, algorithm: Algorithm): Promise<Upload> {
    await this.sweep();
    if (this.#open.size >= OPEN_LIMIT) {
      throw new RegistryError(
        'TOOMANYREQUESTS',
        `${OPEN_LIMIT} uploads are open, which is the most; try again`,
        {
          retryAfterMs: 60_000,
        },
      );
    }
    await this.#forwards.admit(repository);
    const { ingests, metadata, clock } = this.#dependencies;
    const row = { id: randomUUID(), repository, algorithm, startedAtMs: clock.now() };
    let ingest: Ingest | undefined;
    try {
      await metadata.putUpload(row);
      ingest = await ingests.begin(algorithm, row.id);
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
      this.#warn(repository, error);
    }
    return this.#add(row, ingest);
  }

  /** The open upload of this id. Throws BLOB_UPLOAD_UNKNOWN. */
  async find(repository: Repository, id: string): Promise<Upload> {
    const upload = this.#open.get(id) ?? (await this.#resume(id));
    const isOurs =
      upload?.repository.name === repository.name && upload.repository.upstream === repository.upstream;
    if (upload === undefined || !isOurs || upload.isOver) {
      throw new RegistryError(
        'BLOB_UPLOAD_UNKNOWN',
        `there is no such upload to ${imageName(repository)}: it was finished, cancelled or given up; begin another`,
      );
    }
    return upload;
  }

  /**
   * Has a blob of another repository of the same upstream, or of any if `from` is undefined, put into this one
   * without the client sending it: by the upstream, or from here. False when that cannot be.
   */
  async mount(repository: Repository, digest: Digest, from: Repository | undefined): Promise<boolean> {
    const { content, metadata, blobs, log } = this.#dependencies;
    const writes = this.#dependencies.writes(repository);
    const source = from ?? (await metadata.findHolder(repository.upstream, digest));
    if (source === undefined) return false;
    const isHere = (await metadata.findBlob(source, digest)) !== undefined;
    // Not taken at its word: a mount that cannot be pulled is no mount.
    const isMounted =
      (await writes.mountBlob(repository, digest, source).catch(notAway)) &&
      (await writes.holdsBlob(repository, digest));
    if (!isMounted && !(isHere && (await this.#bring(repository, digest)))) return false;
    blobs.arrived(repository, digest);
    const sizeBytes = await content.sizeOf(digest);
    if (sizeBytes === undefined) return true;
    await metadata.linkBlob([repository], { digest, sizeBytes }).catch(error => {
      if (!(error instanceof StorageFailure)) throw error;
      log.warn(
        { digest },
        `${imageName(repository, { digest })} was mounted and is not kept: ${error.message}`,
      );
    });
    return true;
  }

  /** Sends a blob that is here, and the repository's, to an upstream that has lost it; false when that cannot be. */
  async restore(repository: Repository, digest: Digest): Promise<boolean> {
    const isHere = (await this.#dependencies.metadata.findBlob(repository, digest)) !== undefined;
    return isHere && this.#bring(repository, digest);
  }

  /** Sends content that is here to the upstream; false when it would take too long for who waits for the answer. */
  async #bring(repository: Repository, digest: Digest): Promise<boolean> {
    const source = await this.#dependencies.content.open(digest);
    if (source === undefined) return false;
    try {
      if (source.sizeBytes > BROUGHT_BYTES || !(await source.verify())) return false;
      await this.#forwards.bring(repository, digest, source);
      return true;
    } catch (error) {
      return notAway(error);
    } finally {
      source.close();
    }
  }

  /** Gives up what was abandoned, and lets go of the upstream for what rests. To be called from time to time. */
  sweep(): Promise<void> {
    this.#sweeping ??= this.#sweep().finally(() => {
      this.#sweeping = undefined;
    });
    return this.#sweeping;
  }

  async #sweep(): Promise<void> {
    const now = this.#dependencies.clock.now();
    if (now - this.#openedAtMs > ABANDONED_MS) {
      for (const id of [...this.#left.keys()]) await this.#discard(id);
    }
    for (const upload of this.#open.values()) {
      if (upload.isIdleSince(now - ABANDONED_MS)) await upload.cancel();
      else if (upload.isIdleSince(now - RESTING_MS)) upload.rest();
    }
  }

  /** Resolves when no upload is being finished. */
  async settled(): Promise<void> {
    await Promise.all([...this.#open.values()].map(upload => upload.finishing));
  }

  async #resume(id: string): Promise<Upload | undefined> {
    const row = this.#left.get(id);
    if (row === undefined) return undefined;
    const { result } = this.#resuming.run(id, async () => {
      const ingest = await this.#dependencies.ingests.resume(row.algorithm, id);
      this.#left.delete(id);
      if (ingest !== undefined) return this.#add(row, ingest);
      await this.#dependencies.metadata.removeUpload(id);
      return undefined;
    });
    return result;
  }

  /** Forgets an upload of an earlier process, unless it is being resumed just now. */
  async #discard(id: string): Promise<void> {
    const { ingests, metadata } = this.#dependencies;
    await this.#resuming.run(id, async () => {
      this.#left.delete(id);
      await ingests.discard(id);
      await metadata.removeUpload(id);
      return undefined;
    }).result;
  }

  #add(row: UploadRow, ingest: Ingest | undefined): Upload {
    const onOver = () => {
      this.#open.delete(row.id);
      return this.#dependencies.metadata
        .removeUpload(row.id)
        .catch(error => this.#warn(row.repository, error));
    };
    const upload = new Upload(this.#dependencies, this.#forwards, row, ingest, onOver);
    this.#open.set(row.id, upload);
    return upload;
  }

  #warn(repository: Repository, error: Error): void {
    this.#dependencies.log.warn(
      {},
      `an upload to ${imageName(repository)} would not outlive a restart: ${error.message}`,
    );
  }
}

export class Upload implements RelaySource {
  readonly id: string;
  readonly repository: Repository;
  /** What it hashes to, when all of it is here. */
  complete: Digest | undefined;
  isOver = false;
  /** Resolves when a finish that is under way has come to its end. */
  finishing: Promise<unknown> = Promise.resolve();
  readonly #dependencies: UploadDependencies;
  readonly #algorithm: Algorithm;
  readonly #forwarding: RelayHandle;
  readonly #onOver: () => Promise<void>;
  #stored: Ingest | undefined;
  #passing: MemoryIngest | undefined;
  #reservation: Reservation | undefined;
  #receivedBytes: number;
  #isBusy = false;
  /** The work under way, and for as long as that is a client's body what stops it. */
  #working: Promise<unknown> = Promise.resolve();
  #stop: AbortController | undefined;
  #usedAtMs: number;

  constructor(
    dependencies: UploadDependencies,
    forwards: Relays,
    row: UploadRow,
    ingest: Ingest | undefined,
    onOver: () => Promise<void>,
  ) {
    this.#dependencies = dependencies;
    this.id = row.id;
    this.repository = row.repository;
    this.#algorithm = row.algorithm;
    this.#onOver = onOver;
    this.#usedAtMs = dependencies.clock.now();
    this.#stored = ingest;
    this.#receivedBytes = ingest?.writtenBytes ?? 0;
    if (ingest === undefined) this.#passing = new MemoryIngest(row.algorithm);
    this.#forwarding = new RelayHandle(forwards, this, () => {
      // Nobody reads what waits in memory any more.
      void this.#passing?.abort();
    });
    void this.#listen();
  }

  /** How many bytes have come. */
  get offset(): number {
    return this.#receivedBytes;
  }

  get isSingleUse(): boolean {
    return this.#passing !== undefined;
  }

  get ingest(): Ingest {
    return (this.#passing ?? this.#stored) as Ingest;
  }

  /** Says what it is going to be, before its bytes come. */
  expect(digest: Digest): void {
    this.#forwarding.expect(digest);
  }

  /** Lets go of the upstream until there is more to send. What passes through cannot. */
  rest(): void {
    if (this.#passing === undefined) this.#forwarding.rest();
  }

  isIdleSince(ms: number): boolean {
    return !this.#isBusy && this.#usedAtMs < ms;
  }

  /**
   * Takes more bytes, which begin at `start` if that is given. Resolves when they can be read back. Throws
   * RANGE_INVALID when they do not go on where it stands, what the upstream has refused the upload with
   * meanwhile, and what the feed failed with; what came before that counts.
   */
  async append(start: number | undefined, feed: Feed): Promise<void> {
    await this.#alone(async () => {
      if (this.complete !== undefined)
        throw new RegistryError('BLOB_UPLOAD_INVALID', 'the upload is complete');
      if (start !== undefined && start !== this.#receivedBytes) {
        throw new RegistryError(
          'RANGE_INVALID',
          `the upload stands at byte ${this.#receivedBytes}, and these bytes begin at ${start}`,
        );
      }
      this.#stop = new AbortController();
      const { signal } = this.#stop;
      try {
        await this.#prepare();
        await feed(chunk => this.#take(chunk), signal);
        await this.ingest.flush();
      } catch (error) {
        // A client that leaves may come back; what we, the disk or the upstream refused is over.
        await this.ingest.flush().catch(() => {});
        if (error instanceof RegistryError) await this.#drop();
        throw error;
      } finally {
        this.#stop = undefined;
        this.#receivedBytes = this.ingest.writtenBytes;
      }
    });
  }

  /**
   * Digest checked → accepted by the upstream → committed → linked. Throws DIGEST_INVALID when it is not what
   * came, and what the upstream refuses it with; unless that may pass the upload is then gone.
   */
  async finish(digest: Digest): Promise<Outcome> {
    const finishing = this.#alone(async () => {
      let outcome: Outcome;
      try {
        this.complete = await this.#check(digest);
        outcome = await this.#forwarding.finish(digest);
      } catch (error) {
        // What is only in the way for the moment leaves the client the choice to close it once more.
        if (error instanceof RegistryError && (!isTransient(error) || this.isSingleUse)) await this.#drop();
        throw error;
      }
      this.#dependencies.blobs.arrived(this.repository, digest);
      const isKept = await this.#keep(digest);
      this.isOver = true;
      await this.#onOver();
      return isKept ? outcome : 'bypass';
    });
    this.finishing = finishing.catch(() => {});
    return finishing;
  }

  /** Forgets it. */
  async cancel(): Promise<void> {
    await this.#alone(() => this.#drop());
  }

  async #check(digest: Digest): Promise<Digest> {
    const found = await this.ingest.finish(algorithmOf(digest));
    if (found === digest) return digest;
    throw new RegistryError(
      'DIGEST_INVALID',
      `${this.#receivedBytes} bytes came, and they hash to ${found}, not to ${digest}`,
    );
  }

  /** Commit → link → settle. False when it cannot be kept: the upstream has it, and that is what counts. */
  async #keep(digest: Digest): Promise<boolean> {
    const { content, metadata, log } = this.#dependencies;
    const sizeBytes = this.#receivedBytes;
    const what = imageName(this.repository, { digest });
    try {
      if (this.#passing !== undefined) throw new StorageFailure('there was no room for it');
      const isNew = await content.publish(this.ingest, digest);
      const settle = () => this.#reservation?.settle(isNew ? sizeBytes : 0);
      await metadata.linkBlob([this.repository], { digest, sizeBytes }).finally(settle);
      await metadata.sync();
      return true;
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
      this.#reservation?.release();
      if (this.#passing !== undefined) await this.#stored?.abort();
      log.warn({ digest }, `${what} was pushed and is not kept: ${error.message}`);
      return false;
    }
  }

  /** Room for what comes, or the decision to let it pass through. */
  async #prepare(): Promise<void> {
    if (this.#reservation !== undefined) return;
    if (this.isSingleUse) return this.#forwarding.alone();
    const stored = this.#stored as Ingest;
    try {
      this.#reservation = await this.#dependencies.budget.reserve(undefined, () => stored.writtenBytes);
      await this.#reservation.take(this.#receivedBytes);
    } catch (error) {
      await this.#pass(error);
    }
  }

  #take(chunk: Buffer): Promise<void> | undefined {
    this.#forwarding.assertWanted();
    this.#receivedBytes += chunk.length;
    if (this.#receivedBytes > SIZE_LIMIT_BYTES) {
      throw new RegistryError('TOO_LARGE', `a blob of more than ${SIZE_LIMIT_BYTES} bytes is not taken`);
    }
    const room = this.#passing === undefined ? this.#reservation?.take(chunk.length) : undefined;
    if (room !== undefined) {
      return room.catch(error => this.#pass(error)).then(() => this.#write(chunk));
    }
    return this.#write(chunk);
  }

  #write(chunk: Buffer): Promise<void> | undefined {
    const written = this.ingest.write(chunk);
    const sent = this.#passing === undefined ? this.#forwarding.keepUp(this.#receivedBytes) : undefined;
    if (written === undefined || sent === undefined) return written ?? sent;
    return Promise.all([written, sent]).then(() => {});
  }

  /** From here on it passes through memory to the upstream, since it cannot be stored. */
  async #pass(error: unknown): Promise<void> {
    if (!(error instanceof StorageFailure)) throw error;
    this.#dependencies.log.warn(
      { at: this.ingest.writtenBytes },
      `an upload to ${imageName(this.repository)} is passed through without being kept: ${error.message}`,
    );
    await this.#stored?.flush();
    this.#passing = await MemoryIngest.after(this.#algorithm, this.#stored);
    this.#forwarding.alone();
    void this.#listen();
  }

  /** Tells the relay of each progress of the ingest, for as long as it is the one that is written to. */
  async #listen(): Promise<void> {
    const { ingest } = this;
    let toldBytes = ingest.writtenBytes;
    while (ingest === this.ingest && !this.isOver) {
      await ingest.progress.wait(() => ingest.writtenBytes > toldBytes);
      toldBytes = ingest.writtenBytes;
      this.#forwarding.moved();
    }
  }

  async #drop(): Promise<void> {
    this.isOver = true;
    this.#forwarding.leave();
    this.#reservation?.release();
    await this.#passing?.abort();
    await this.#stored?.abort();
    await this.#onOver();
  }

  /**
   * Requests for one upload are done one at a time. A client that is still sending has lost its connection when
   * it comes back by another, though that one may not look dead yet; who comes while it is finished is wrong.
   */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    if (this.#stop !== undefined) {
      this.#stop.abort();
      await this.#working;
    }
    if (this.#isBusy || this.isOver) {
      throw new RegistryError('BLOB_UPLOAD_INVALID', 'another request for this upload is under way');
    }
    this.#isBusy = true;
    const working = work();
    this.#working = working.catch(() => {});
    try {
      return await working;
    } finally {
      this.#isBusy = false;
      this.#usedAtMs = this.#dependencies.clock.now();
    }
  }
}

function notAway(error: unknown): false {
  if (isUnavailable(error)) throw error;
  return false;
}
