// A blob, or a range of one, whatever happens on the way: a body that breaks or stalls is asked for again, through the
// registry for a fresh redirect, from the first missing byte. Each byte comes once; whether they are the right ones is for
// the receiver to verify.
//
// The first connection asks for all of it. Where that is slow, and the receiver takes bytes in any order, others fetch
// segments further on (segments.ts), as many as pay (spare-connections.ts). They are not needed: what breaks one of them is
// left to the rest.
//
// It holds a permit while bytes move. A receiver that takes nothing, or an upstream that hardly sends while others wait,
// makes it yield: the connection and the permit are given back, and it goes on behind those who wait.
import { type Backoff, backoffMs } from '../base/backoff.ts';
import { Condition } from '../base/condition.ts';
import type { Digest } from '../oci/digest.ts';
import { reasonOf } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { Connection } from './connection.ts';
import { Abandoned, brokeTooOften, otherSize, stalled } from './download-errors.ts';
import type { Blob, DownloadOptions, OpenReceiver, Receiver } from './download-options.ts';
import { Opener } from './opener.ts';
import { OtherConnections } from './other-connections.ts';
import type { Permit } from './permits.ts';
import { LOOK_MS, Progress } from './progress.ts';
import { Segments } from './segments.ts';
import type { Received, SpareUser } from './spare-connections.ts';
import { type BlobBody, isLimited } from './upstream.ts';

/** Breaks in a row, with less than PROGRESS_BYTES between them, before the download fails. */
const BREAKS_LIMIT = 5;
const PROGRESS_BYTES = 64 * 1024;
const BACKOFF: Backoff = { firstMs: 200 };
/** There is one download of a blob at a time: no crowd to spread. */
const NO_JITTER = 0.5;

const LONGEST_LIMIT_MS = 60_000;
/** After so long without a byte it is asked whether the receiver holds them up. */
const RECEIVER_MS = 2_000;
/**
 * Hands the blob to the receiver. Throws what the receiver throws, what `upstream.openBlob` throws at the first
 * request, the signal's reason, UPSTREAM_UNAVAILABLE when the body broke too often, UNAVAILABLE when the receiver
 * stalled for too long, and Abandoned.
 */
export async function download(
  options: DownloadOptions,
  repository: Repository,
  digest: Digest,
  openReceiver: OpenReceiver,
): Promise<void> {
  const running = new Download(options, repository, digest, openReceiver);
  const stop = options.clock.every(LOOK_MS, () => running.look());
  try {
    await running.run();
  } finally {
    stop();
    await running.release();
  }
}

class Download implements SpareUser {
  readonly #options: DownloadOptions;
  readonly #blob: Blob;
  readonly #openReceiver: OpenReceiver;
  readonly #failing = new AbortController();
  readonly #signal: AbortSignal;
  readonly #segments: Segments;
  /** With its requests, and the permit. */
  readonly #first: Connection;
  readonly #opener: Opener;
  /** Notified when another connection has ended, or has less to do. */
  readonly #changed = new Condition();
  /** Once there may be others. */
  #others: OtherConnections | undefined;
  #leaveSpares = () => {};
  /** The body of the first connection was closed to yield. */
  #isYielding = false;
  /** Where the first connection stood at its last end. */
  #brokeAt: number;
  #receiver: Receiver | undefined;
  readonly #progress: Progress;

  constructor(options: DownloadOptions, repository: Repository, digest: Digest, openReceiver: OpenReceiver) {
    const { start = 0, end = Infinity, here = [], signal } = options;
    this.#options = options;
    this.#blob = { repository, digest, what: imageName(repository, { digest }) };
    this.#openReceiver = openReceiver;
    this.#brokeAt = start;
    this.#progress = new Progress(options.clock);
    this.#signal = AbortSignal.any([signal, this.#failing.signal]);
    this.#segments = new Segments({ start, end }, here);
    this.#opener = new Opener(options, this.#blob, this.#segments, this.#signal);
    this.#first = new Connection(this.#blob.what, this.#segments, this.#signal, options.clock);
  }

  async run(): Promise<void> {
    const first = this.#first;
    for (let breaks = 0; ; ) {
      const from = first.receivedBytes;
      const broken = await this.#receiveNext();
      // Also when another connection has failed in the last moment.
      if (broken !== undefined || this.#failing.signal.aborted) this.#signal.throwIfAborted();
      if (broken === undefined) {
        if (this.#segments.isComplete) return;
        breaks = 0;
        continue;
      }
      // Its turn was over, and it goes on in its next one.
      if (broken === YIELDED && first.receivedBytes > from) continue;
      breaks = first.receivedBytes - from >= PROGRESS_BYTES ? 1 : breaks + 1;
      if (breaks > BREAKS_LIMIT) {
        const why = broken === YIELDED ? 'it hardly sends' : reasonOf(broken);
        throw brokeTooOften(this.#blob.what, breaks, this.#brokeAt, this.#opener.sizeBytes, why, broken);
      }
      if (broken === YIELDED) continue;
      this.#options.onBreak?.(reasonOf(broken), this.#brokeAt);
      this.#opener.forgetAddress();
      const pauseMs = Math.max(backoffMs(breaks, BACKOFF, NO_JITTER), limitMs(broken));
      // Not while it stands still for long.
      if (isLimited(broken)) this.#opener.release();
      await this.#options.clock.sleep(pauseMs, this.#signal);
    }
  }

  /** Ends all that is in progress: the receiver is handed nothing afterwards. */
  async release(): Promise<void> {
    this.#leaveSpares();
    this.#failing.abort(new Error('the download has ended'));
    this.#opener.release();
    await this.#others?.ended();
  }

  /** Looks, each second, whether bytes move and who waits for them. Never throws. */
  look(): void {
    const { isWanted, receiverStallMs = Infinity } = this.#options;
    this.#progress.look(this.received.bytes + this.#first.skippedBytes);
    const { isSlow, stillMs } = this.#progress;
    const isAwaited = this.#opener.permit?.isAwaited;
    const isHeldUp = stillMs >= RECEIVER_MS && this.#first.isHeldUp;
    if (isHeldUp && stillMs >= receiverStallMs) this.#fail(stalled(this.#blob.what, receiverStallMs));
    else if (isHeldUp) this.#yield();
    else if (isWanted?.() === false && (isAwaited !== false || isSlow)) this.#fail(new Abandoned());
    else {
      if (isAwaited && isSlow) this.#yield();
      this.#others?.relieveSlow(this.#first, LOOK_MS);
    }
  }

  get received(): Received {
    const { receivedBytes, openMs } = this.#first;
    const others = this.#others?.received;
    return { bytes: receivedBytes + (others?.bytes ?? 0), openMs: openMs + (others?.openMs ?? 0) };
  }

  get isAwaited(): boolean {
    return this.#options.isWanted?.() !== false;
  }

  wants(): boolean {
    if (!this.isAwaited || !this.#others?.canGrow) return false;
    const { receivedBytes, isHeldUp } = this.#first;
    return this.#segments.hasWanted || (this.#progress.isSlowerThanDisk(receivedBytes) && !isHeldUp);
  }

  grow(permit: Permit): void {
    this.#others?.grow(permit);
  }

  /** Resolves to what broke the first connection, to YIELDED, or to undefined when it has fetched its segment. */
  async #receiveNext(): Promise<unknown> {
    const first = this.#first;
    // The bytes of the next body wait for the receiver of those before, or they would overtake.
    await first.taken();
    first.segment ??= this.#opener.next(!this.#others?.count);
    if (first.segment === undefined) {
      // Others fetch the rest, and have permits of their own.
      this.#opener.release();
      await this.#changed.wait(() => this.#segments.isComplete || this.#segments.hasFree, this.#signal);
      return undefined;
    }
    const body = await this.#opener.open(first);
    if ('broken' in body) return body.broken;
    const { segment } = first;
    try {
      const receiver = await this.#openedReceiver(body);
      this.#isYielding = false;
      this.#progress.restart();
      const broken = await first.receive(body, segment, this.#opener.sizeBytes, receiver(segment.position));
      // A connection that breaks does not wait for the receiver.
      if (!this.#isYielding) await first.taken();
      this.#brokeAt = segment.position;
      // While this one pauses, others go on where it stood.
      if (broken === undefined || this.#others?.count) first.release();
      return this.#isYielding && broken !== undefined ? YIELDED : broken;
    } finally {
      body.close();
    }
  }

  /** Opens the receiver, the first time; later it holds the upstream to what it told then. */
  async #openedReceiver(body: BlobBody): Promise<Receiver> {
    const { sizeBytes, address, contentType } = body;
    if (this.#receiver !== undefined) {
      if (this.#opener.sizeBytes === undefined || (sizeBytes ?? this.#opener.sizeBytes) === this.#opener.sizeBytes)
        return this.#receiver;
      throw otherSize(this.#blob.what, this.#opener.sizeBytes, sizeBytes);
    }
    this.#receiver = await this.#openReceiver(sizeBytes, contentType);
    this.#progress.begin();
    if (sizeBytes !== undefined) this.#allowOthers(sizeBytes, address, this.#receiver);
    return this.#receiver;
  }

  #allowOthers(sizeBytes: number, address: URL | undefined, receiver: Receiver): void {
    const { upstream, clock, onBreak, onWant, inAnyOrder } = this.#options;
    if (!inAnyOrder) return;
    const others = new OtherConnections({
      ...{ blob: this.#blob, upstream, sizeBytes, address, receiver, segments: this.#segments },
      ...{ signal: this.#signal, clock, onBreak, onFailure: error => this.#fail(error), changed: this.#changed },
    });
    this.#others = others;
    this.#leaveSpares = upstream.spares.join(this);
    onWant?.(position => others.want(position));
  }

  #yield(): void {
    if (!this.#first.isOpen) return;
    this.#isYielding = true;
    this.#first.close();
    this.#opener.release();
  }

  #fail(error: Error): void {
    this.#failing.abort(error);
  }
}

const YIELDED = Symbol('yielded');

/** How long the upstream wants to be left alone, as far as is waited for that. */
function limitMs(error: unknown): number {
  return isLimited(error) ? Math.min(error.retryAfterMs ?? 0, LONGEST_LIMIT_MS) : 0;
}
