// The memory of request bodies that are buffered whole: one bound over all of them, counted as bytes are really kept,
// so that no number of clients that stall can fill the process. Small bodies, which nearly all manifests are, have a
// part of it that large ones cannot use up. When a part is full, a body that has stalled makes way for the one that
// moves; and none may take as long as it likes.
import { ByteLimit } from '../../base/byte-limit.ts';
import type { Clock } from '../../base/clock.ts';
import { RegistryError } from '../../oci/errors.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SMALL_BYTES = 64 * KIB;
const SMALL_TOTAL_BYTES = 4 * MIB;
const LARGE_TOTAL_BYTES = 24 * MIB;
/** What a body counts for at least: it has a connection and objects too. */
const LEAST_BYTES = KIB;
/** The first buffer of a body; the next is twice as large. */
const FIRST_BYTES = 16 * KIB;
/** A body that has not moved for so long makes way. */
const STALLED_MS = 2_000;
const DEADLINE_MS = 30_000;
/** After so long a body must have come at the least rate, on average. */
const GRACE_MS = 5_000;
const LEAST_BYTES_PER_SECOND = 16 * KIB;
const WATCH_MS = 1_000;

/** Told, once at most, that a body has ended before it was whole. */
type OnCut = (why: RegistryError) => void;

export class BodyMemory {
  readonly #clock: Clock;
  readonly #small = new ByteLimit(SMALL_TOTAL_BYTES);
  readonly #large = new ByteLimit(LARGE_TOTAL_BYTES);
  /** Those that are still coming. */
  readonly #receiving = new Set<BufferedBody>();
  #stopWatching: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What all bodies are counted for now. */
  get usedBytes(): number {
    return this.#small.takenBytes + this.#large.takenBytes;
  }

  /** Begins a body, of `declaredBytes` if that is known. Throws TOOMANYREQUESTS. It has to be disposed of. */
  begin(declaredBytes: number | undefined, onCut: OnCut): BufferedBody {
    let counted = { part: this.#small, bytes: 0 };
    const recount = (bytes: number, isSmall: boolean) => {
      const part = isSmall ? this.#small : this.#large;
      const more = part === counted.part ? bytes - counted.bytes : bytes;
      if (more > 0) this.#take(part, more, body);
      else part.release(-more);
      if (part !== counted.part) counted.part.release(counted.bytes);
      counted = { part, bytes };
    };
    const body = new BufferedBody(this.#clock, declaredBytes, { recount, forget: () => this.#forget(body), onCut });
    body.open();
    this.#receiving.add(body);
    this.#stopWatching ??= this.#clock.every(WATCH_MS, () => this.#watch());
    return body;
  }

  #take(part: ByteLimit, bytes: number, body: BufferedBody): void {
    while (!part.take(bytes)) {
      const stalled = this.#longestStalled(part === this.#small, body);
      if (stalled === undefined) {
        const message = 'too many manifests are being received at the same time; try again';
        throw new RegistryError('TOOMANYREQUESTS', message, { retryAfterMs: 1_000 });
      }
      stalled.cut('no byte of the request came for a while, and others needed its place; try again');
    }
  }

  #longestStalled(isSmall: boolean, except: BufferedBody): BufferedBody | undefined {
    let found: BufferedBody | undefined;
    let longestMs = STALLED_MS;
    for (const body of this.#receiving) {
      if (body === except || body.isSmall !== isSmall || body.stalledMs < longestMs) continue;
      found = body;
      longestMs = body.stalledMs;
    }
    return found;
  }

  #watch(): void {
    for (const body of this.#receiving) body.check();
  }

  #forget(body: BufferedBody): void {
    this.#receiving.delete(body);
    if (this.#receiving.size > 0) return;
    this.#stopWatching?.();
    this.#stopWatching = undefined;
  }
}

/** What a body tells the memory that it is in. */
interface Account {
  /** Counts it as so many bytes from now on. Throws TOOMANYREQUESTS when there are not so many. */
  recount(bytes: number, isSmall: boolean): void;
  /** Nothing more comes. */
  forget(): void;
  readonly onCut: OnCut;
}

/** One body. It is counted until it is disposed of, also when it is whole. */
export class BufferedBody implements Disposable {
  readonly #clock: Clock;
  readonly #declaredBytes: number | undefined;
  readonly #account: Account;
  readonly #startedMs: number;
  #movedMs: number;
  #buffer = new ArrayBuffer(0);
  #length = 0;
  #state: 'coming' | 'whole' | 'over' = 'coming';

  constructor(clock: Clock, declaredBytes: number | undefined, account: Account) {
    this.#clock = clock;
    this.#declaredBytes = declaredBytes;
    this.#account = account;
    this.#startedMs = clock.monotonic();
    this.#movedMs = this.#startedMs;
  }

  get length(): number {
    return this.#length;
  }

  get isSmall(): boolean {
    return (this.#declaredBytes ?? this.#buffer.byteLength) <= SMALL_BYTES;
  }

  get stalledMs(): number {
    return this.#clock.monotonic() - this.#movedMs;
  }

  /** Counts it for the first time. Throws TOOMANYREQUESTS. */
  open(): void {
    this.#account.recount(LEAST_BYTES, this.isSmall);
  }

  /** Keeps a copy. Throws TOOMANYREQUESTS, and when the body has been cut. */
  append(chunk: Buffer): void {
    if (this.#state !== 'coming') throw new Error('the body is over');
    const length = this.#length + chunk.length;
    if (length > this.#buffer.byteLength) this.#grow(length);
    new Uint8Array(this.#buffer, this.#length).set(chunk);
    this.#length = length;
    this.#movedMs = this.#clock.monotonic();
  }

  /** All of it, once nothing more comes. */
  whole(): Buffer {
    this.#state = 'whole';
    this.#account.forget();
    return Buffer.from(this.#buffer, 0, this.#length);
  }

  /** Cuts it if it is too slow. */
  check(): void {
    const elapsedMs = this.#clock.monotonic() - this.#startedMs;
    if (elapsedMs > DEADLINE_MS) this.cut(`the request was not complete after ${DEADLINE_MS / 1000} s`);
    else if (elapsedMs > GRACE_MS && this.#length < (elapsedMs / 1000) * LEAST_BYTES_PER_SECOND) {
      this.cut(`the request came too slowly: ${this.#length} bytes in ${Math.floor(elapsedMs / 1000)} s`);
    }
  }

  cut(why: string): void {
    this[Symbol.dispose]();
    this.#account.onCut(new RegistryError('REQUEST_TIMEOUT', why));
  }

  [Symbol.dispose](): void {
    this.#state = 'over';
    this.#account.forget();
    this.#account.recount(0, this.isSmall);
    this.#buffer = new ArrayBuffer(0);
  }

  /** The buffer grows where it is, or moves with the old one freed at once: garbage would not be counted. */
  #grow(neededBytes: number): void {
    const doubled = Math.max(FIRST_BYTES, 2 * this.#buffer.byteLength);
    const capacity = Math.max(neededBytes, Math.min(doubled, this.#declaredBytes ?? doubled));
    this.#account.recount(Math.max(capacity, LEAST_BYTES), (this.#declaredBytes ?? capacity) <= SMALL_BYTES);
    this.#buffer = this.#buffer.transfer(capacity);
  }
}
