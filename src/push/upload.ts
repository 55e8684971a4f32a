// An upload: one push session of a client. What the client sends goes into an ingest, and from there through a relay to
// the upstream while more is coming. It is finished in this order: digest verified → accepted by the upstream →
// committed → linked. Nothing is visible before that, and nothing is acknowledged that the upstream does not have.
//
// Until the first byte comes it holds nothing (spool.ts). What cannot be stored reaches the upstream all the same, and is
// not kept here.
import type { Clock } from '../base/clock.ts';
import { Condition } from '../base/condition.ts';
import type { Log } from '../base/log.ts';
import { type Content, StorageFailure } from '../content/content.ts';
import type { Ingest } from '../content/ingest.ts';
import type { LinkStore, Metadata, UploadRow } from '../metadata/metadata.ts';
import { algorithmOf, type Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { Blobs } from '../pull/blobs.ts';
import type { Outcome } from '../pull/outcome.ts';
import type { Budget } from '../retention/budget.ts';
import { isTransient } from './relay.ts';
import { RelayHandle } from './relay-handle.ts';
import type { RelaySource } from './relay-source.ts';
import type { Relays } from './relays.ts';
import { Spool, type Stored } from './spool.ts';

export interface UploadDependencies {
  readonly content: Content;
  readonly metadata: LinkStore & Pick<Metadata, 'sync'>;
  readonly budget: Budget;
  readonly blobs: Blobs;
  readonly relays: Relays;
  readonly clock: Clock;
  readonly log: Log;
}

/** Takes the chunks of a body, with their memory; a promise asks the sender to wait. */
export type OnChunk = (chunk: Buffer) => Promise<void> | undefined;
/** Hands over a body; rejects when it breaks or `stop` is aborted, and with what `onChunk` failed with. */
export type Feed = (onChunk: OnChunk, stop: AbortSignal) => Promise<void>;

/** What an upload tells to whom keeps them all. */
export interface UploadHooks {
  /** The first byte is here: records it, and opens its ingest. Throws StorageFailure, and TOOMANYREQUESTS. */
  open(): Promise<Ingest>;
  /** A request is over, and the client may send more. */
  idled(): void;
  /** It is finished or given up. */
  over(): Promise<void>;
}

/** The ingest of an upload without bytes. */
const NOTHING: RelaySource['ingest'] = {
  writtenBytes: 0,
  progress: new Condition(),
  reader: () => ({ read: async () => 0, close: () => {} }),
};

/** Ten times what ghcr.io takes. */
const SIZE_LIMIT_BYTES = 100 * 1024 ** 3;

export class Upload implements RelaySource {
  readonly id: string;
  readonly repository: Repository;
  /** Who began it, or goes on with it: an address. */
  readonly client: string;
  /** The verified digest, once all bytes are here. */
  complete: Digest | undefined;
  /** How many bytes have come. */
  offset: number;
  isOver = false;
  /** A request for it is under way. */
  isBusy = false;
  /** Resolves when a finish that is under way has ended, either way. */
  finishing: Promise<unknown> = Promise.resolve();
  readonly #dependencies: UploadDependencies;
  readonly #relay: RelayHandle;
  readonly #hooks: UploadHooks;
  readonly #spool: Spool;
  /** The request under way, and what stops it while it is receiving a client's body. */
  #working: Promise<unknown> = Promise.resolve();
  #stop: AbortController | undefined;
  /** On the monotonic clock. */
  #usedAtMs: number;

  /** `stored`: what an earlier process has left of it. */
  constructor(dependencies: UploadDependencies, row: UploadRow, client: string, hooks: UploadHooks, stored?: Stored) {
    this.#dependencies = dependencies;
    this.id = row.id;
    this.repository = row.repository;
    this.client = client;
    this.#hooks = hooks;
    this.#usedAtMs = dependencies.clock.monotonic();
    this.offset = stored?.ingest.writtenBytes ?? 0;
    const { content, budget } = dependencies;
    const { algorithm } = row;
    const onPassThrough = (why: Error, at: number) => this.#passThrough(why, at);
    this.#spool = new Spool({ content, budget, algorithm, open: hooks.open, onPassThrough }, stored);
    this.#relay = new RelayHandle(dependencies.relays, this, () => this.#spool.unread());
  }

  get isSingleUse(): boolean {
    return this.#spool.isSingleUse;
  }

  get ingest(): RelaySource['ingest'] {
    return this.#spool.ingest ?? NOTHING;
  }

  /** How long no client has sent anything; 0 while a request is under way. */
  get idleMs(): number {
    return this.isBusy ? 0 : this.#dependencies.clock.monotonic() - this.#usedAtMs;
  }

  /** The client names the digest before it sends the bytes. */
  expect(digest: Digest): void {
    this.#relay.expect(digest);
  }

  /** Releases the upstream until there is more to send. What passes through memory has to hold on to it. */
  rest(): void {
    if (!this.isSingleUse) this.#relay.rest();
    this.restFile();
  }

  /** Has no file open until there is more to store. */
  restFile(): void {
    if (!this.isBusy) this.#spool.rest();
  }

  /**
   * Takes more bytes, which begin at `start` if that is given. Resolves when they can be read back. Throws
   * RANGE_INVALID when that is not where the upload stands, the upstream's error if it does not take the upload, and
   * what the feed failed with; what came before that counts.
   */
  async append(start: number | undefined, feed: Feed): Promise<void> {
    await this.#exclusively(async () => {
      if (this.complete !== undefined) throw new RegistryError('BLOB_UPLOAD_INVALID', 'the upload is complete');
      if (start !== undefined && start !== this.offset) {
        const where = `the upload stands at byte ${this.offset}, and these bytes begin at ${start}`;
        throw new RegistryError('RANGE_INVALID', where);
      }
      this.#stop = new AbortController();
      const { signal } = this.#stop;
      try {
        await feed(chunk => this.#take(chunk), signal);
        await this.#spool.ingest?.flush();
      } catch (error) {
        await this.#spool.ingest?.flush().catch(() => {});
        // A client that disconnected may come back. What failed here, on the disk or upstream is over.
        if (error instanceof RegistryError) await this.#giveUp();
        throw error;
      } finally {
        this.#stop = undefined;
        this.offset = this.ingest.writtenBytes;
      }
    });
  }

  /**
   * Digest verified → accepted by the upstream → committed → linked. Throws DIGEST_INVALID, and the upstream's error.
   * Then the upload is gone, unless the error is transient: it can be finished again later.
   */
  async finish(digest: Digest): Promise<Outcome> {
    const finishing = this.#exclusively(async () => {
      let outcome: Outcome;
      try {
        await this.#verify(digest);
        this.complete = digest;
        outcome = await this.#relay.finish(digest);
      } catch (error) {
        const isLasting = !isTransient(error) || this.isSingleUse;
        if (error instanceof RegistryError && isLasting) await this.#giveUp();
        throw error;
      }
      this.#dependencies.blobs.arrived(this.repository, digest);
      const isKept = await this.#keep(digest);
      this.isOver = true;
      await this.#hooks.over();
      return isKept ? outcome : 'bypass';
    });
    this.finishing = finishing.catch(() => {});
    return finishing;
  }

  /** Gives it up, with all that came. */
  async cancel(): Promise<void> {
    await this.#exclusively(() => this.#giveUp());
  }

  async #verify(digest: Digest): Promise<void> {
    await this.#spool.begin();
    const found = await this.#spool.ingest?.finish(algorithmOf(digest));
    if (found === digest) return;
    const message = `${this.offset} bytes came, and they hash to ${found}, not to ${digest}`;
    throw new RegistryError('DIGEST_INVALID', message);
  }

  /** Commit → link → settle. False when it cannot be kept, which is no failure: the upstream has it. */
  async #keep(digest: Digest): Promise<boolean> {
    const { metadata, log } = this.#dependencies;
    const sizeBytes = this.offset;
    let newBytes = 0;
    try {
      newBytes = await this.#spool.publish(digest);
      await metadata.linkBlob([this.repository], { digest, sizeBytes });
      await metadata.sync();
      return true;
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
      const what = imageName(this.repository, { digest });
      log.warn({ digest }, `${what} was pushed but is not kept: ${error.message}`);
      return false;
    } finally {
      this.#spool.settle(newBytes);
    }
  }

  #take(chunk: Buffer): Promise<void> | undefined {
    this.#relay.assertWanted();
    this.offset += chunk.length;
    if (this.offset > SIZE_LIMIT_BYTES) {
      throw new RegistryError('TOO_LARGE', `blobs of more than ${SIZE_LIMIT_BYTES} bytes are not taken`);
    }
    const room = this.#spool.expect(chunk.length);
    return room === undefined ? this.#write(chunk) : room.then(() => this.#write(chunk));
  }

  #write(chunk: Buffer): Promise<void> | undefined {
    const written = this.#spool.ingest?.write(chunk);
    const sent = this.isSingleUse ? undefined : this.#relay.keepUp(this.offset);
    if (written === undefined || sent === undefined) return written ?? sent;
    return Promise.all([written, sent]).then(() => {});
  }

  /** From here on it goes through memory to the upstream, since it cannot be stored. */
  #passThrough(why: Error, at: number): void {
    const what = `an upload to ${imageName(this.repository)}`;
    this.#dependencies.log.warn({ at }, `${what} is passed through without being kept: ${why.message}`);
    this.#relay.isolate();
  }

  async #giveUp(): Promise<void> {
    this.isOver = true;
    this.#relay.rest();
    await this.#spool.discard();
    await this.#hooks.over();
  }

  /**
   * One request at a time, none queued: a client that sends by a second connection has lost the first one, even if that
   * does not look dead yet, so that one is stopped. While an upload is being finished any other is the client's mistake.
   */
  async #exclusively<T>(work: () => Promise<T>): Promise<T> {
    if (this.#stop !== undefined) {
      this.#stop.abort();
      await this.#working;
    }
    if (this.isBusy || this.isOver) {
      throw new RegistryError('BLOB_UPLOAD_INVALID', 'another request for this upload is under way');
    }
    this.isBusy = true;
    const working = work();
    this.#working = working.catch(() => {});
    try {
      return await working;
    } finally {
      this.isBusy = false;
      this.#usedAtMs = this.#dependencies.clock.monotonic();
      if (!this.isOver) this.#hooks.idled();
    }
  }
}
