// The connections of a download beside its first one: each fetches a segment further on, and then the next. They are not
// needed: what one of them does not bring is left to the rest, and when too many fail there are no more.
import type { Clock } from '../base/clock.ts';
import type { Condition } from '../base/condition.ts';
import { reasonOf } from '../oci/errors.ts';
import { Connection } from './connection.ts';
import type { Blob, Receiver } from './download-options.ts';
import type { Permit } from './permits.ts';
import type { Segment, Segments } from './segments.ts';
import type { Received } from './spare-connections.ts';
import { type BlobBody, isInvalid, isLimited, isUnavailable, type Upstream } from './upstream.ts';

export interface OtherConnectionsOptions {
  readonly upstream: Upstream;
  readonly blob: Blob;
  readonly sizeBytes: number;
  /** Where the registry has sent the first request, if it did. */
  readonly address: URL | undefined;
  readonly segments: Segments;
  readonly signal: AbortSignal;
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly receiver: Receiver;
  readonly onBreak: ((message: string, at: number) => void) | undefined;
  /** The receiver has failed. */
  readonly onFailure: (error: Error) => void;
  /** Notified when one has ended, or has less to do. */
  readonly changed: Condition;
}

const FAILURES_LIMIT = 20;
/** A connection is slow that brings a third of what one has brought, and needs longer than this for the rest. */
const SLOW_SHARE = 1 / 3;
const LONG_MS = 4_000;
/** One that brings nothing for so many looks is given up. */
const STALLED_LOOKS = 2;

export class OtherConnections {
  readonly #options: OtherConnectionsOptions;
  readonly #running = new Map<Connection, Promise<void>>();
  #address: URL | undefined;
  #failures = 0;
  /** By those that have ended. */
  #ended: Received = { bytes: 0, openMs: 0 };
  /** The most that one connection has brought between two looks. */
  #mostBytes = 0;

  constructor(options: OtherConnectionsOptions) {
    this.#options = options;
    this.#address = options.address;
  }

  get count(): number {
    return this.#running.size;
  }

  get received(): Received {
    let { bytes, openMs } = this.#ended;
    for (const connection of this.#running.keys()) {
      bytes += connection.receivedBytes;
      openMs += connection.openMs;
    }
    return { bytes, openMs };
  }

  /** Whether there may be one more, and something for it to fetch. */
  get canGrow(): boolean {
    const { upstream, segments } = this.#options;
    return this.count < upstream.spares.perBlob && this.#mayGoOn && segments.canTake;
  }

  /** As Want. */
  want(position: number): boolean {
    const { segments, upstream } = this.#options;
    if (!this.canGrow) return false;
    if (!segments.want(position)) return true;
    upstream.spares.serve();
    if (!segments.hasWanted) return true;
    segments.unwant(position);
    return false;
  }

  /** Starts one. It has the permit until there is nothing to fetch, or it must not go on. */
  grow(permit: Permit): void {
    const { blob, segments, signal, clock, changed } = this.#options;
    const connection = new Connection(blob.what, segments, signal, clock);
    const running = this.#fetch(connection, permit).finally(() => {
      this.#running.delete(connection);
      const { bytes, openMs } = this.#ended;
      this.#ended = { bytes: bytes + connection.receivedBytes, openMs: openMs + connection.openMs };
      permit.release();
      changed.notify();
    });
    this.#running.set(connection, running);
  }

  /** Resolves when all have ended, as they do when the signal is aborted. */
  async ended(): Promise<void> {
    await Promise.all(this.#running.values());
  }

  /** Takes from the foremost of those that are slow, the first connection included. To be called each so many ms. */
  relieveSlow(first: Connection, intervalMs: number): void {
    const { segments, changed } = this.#options;
    const open = [first, ...this.#running.keys()].filter(({ isOpen, isHeldUp }) => isOpen && !isHeldUp);
    const moved = new Map(open.map(connection => [connection, connection.look()]));
    this.#mostBytes = Math.max(this.#mostBytes, ...moved.values());
    if (this.count === 0) return;
    const slow = open.filter(connection => {
      const bytes = moved.get(connection) ?? 0;
      const leftMs = (connection.leftBytes / bytes) * intervalMs;
      return connection.looks >= STALLED_LOOKS && bytes < this.#mostBytes * SLOW_SHARE && leftMs > LONG_MS;
    });
    const [foremost] = slow.sort((a, b) => (a.segment?.position ?? 0) - (b.segment?.position ?? 0));
    if (foremost === undefined) return;
    const isStalled = foremost.stillLooks >= STALLED_LOOKS;
    // Where none moves it is for the timeout of all.
    if (isStalled && [...moved.values()].some(bytes => bytes > 0)) foremost.close();
    else if (!isStalled && foremost.segment !== undefined && segments.halve(foremost.segment)) changed.notify();
  }

  get #mayGoOn(): boolean {
    return this.#options.upstream.spares.hasRanges && this.#failures < FAILURES_LIMIT;
  }

  /** Fetches one segment after another. Never rejects. */
  async #fetch(connection: Connection, permit: Permit): Promise<void> {
    const { segments, upstream, onFailure } = this.#options;
    try {
      do {
        connection.segment = segments.take();
        if (connection.segment === undefined) return;
        const body = await this.#open(connection.segment);
        if (body === undefined || !(await this.#receive(connection, connection.segment, body))) this.#failures++;
        connection.release();
        // What is denied now is not asked for again at once.
        if (body === undefined) return;
      } while (!permit.isAwaited && !upstream.spares.isOverLimit && this.#mayGoOn);
    } catch (error) {
      onFailure(error as Error);
    } finally {
      connection.release();
    }
  }

  /** Resolves to whether the segment is fetched. Rejects with what the receiver fails with. */
  async #receive(connection: Connection, segment: Segment, body: BlobBody): Promise<boolean> {
    const { sizeBytes, receiver, signal, onBreak } = this.#options;
    try {
      const broken = await connection.receive(body, segment, sizeBytes, receiver(segment.position));
      await connection.taken();
      if (broken !== undefined && !signal.aborted) onBreak?.(reasonOf(broken), segment.position);
      return broken === undefined;
    } finally {
      body.close();
    }
  }

  /** Undefined when it cannot be had. */
  async #open({ position, end }: Segment): Promise<BlobBody | undefined> {
    const { upstream, blob, signal, sizeBytes } = this.#options;
    const span = { start: position, end, isSpare: true, address: this.#address };
    let body: BlobBody;
    try {
      body = await upstream.openBlob(blob.repository, blob.digest, span, signal);
    } catch (error) {
      if (isInvalid(error)) upstream.spares.gaveNoRange();
      else if (isLimited(error) || isUnavailable(error)) upstream.spares.limited();
      return undefined;
    }
    this.#address = body.address;
    if (body.start === position && (body.sizeBytes ?? sizeBytes) === sizeBytes) return body;
    body.close();
    upstream.spares.gaveNoRange();
  }
}
