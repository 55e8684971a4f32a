// An upstream to push to, and uploads to push, both played by the test: what goes out in which order, and what becomes of
// it when either side fails. No bytes go over any wire.
import assert from 'node:assert/strict';
import { Condition } from '../../src/base/condition.ts';
import type { Log } from '../../src/base/log.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { type ErrorCode, RegistryError } from '../../src/oci/errors.ts';
import type { Repository } from '../../src/oci/reference.ts';
import { Admission } from '../../src/push/admission.ts';
import { Relay, type RelayResult } from '../../src/push/relay.ts';
import type { RelaySource } from '../../src/push/relay-source.ts';
import { Relays } from '../../src/push/relays.ts';
import type { Permit } from '../../src/upstream/permits.ts';
import type { Bytes, UpstreamWrites } from '../../src/upstream/upstream.ts';
import { turns } from './async.ts';
import { TestClock, testRandom } from './clock.ts';

export const APP: Repository = { upstream: 'ghcr.io', name: 'owner/app' };
export const OTHER: Repository = { upstream: 'ghcr.io', name: 'owner/other' };

export const errorOf = (code: ErrorCode, retryAfterMs?: number) =>
  new RegistryError(code, code, retryAfterMs === undefined ? {} : { retryAfterMs });

/** Resolves when the condition holds; fails when it is not going to. */
export async function soon(condition: () => boolean): Promise<void> {
  for (let i = 0; !condition(); i++) {
    assert.ok(i < 10_000, `in vain: ${condition}`);
    await turns();
  }
}

/** A log that keeps its warnings alone. */
export function logTo(warnings: string[]): Log {
  const silent = () => {};
  return { debug: silent, info: silent, warn: (_, text) => void warnings.push(text), error: silent };
}

/** An upload, as far as a relay sees it. The test hands in its bytes. */
export class TestSource implements RelaySource {
  complete: Digest | undefined;
  isSingleUse: boolean;
  openReaders = 0;
  readBytes = 0;
  /** Thrown by the next read. */
  failure: Error | undefined;
  readonly ingest: RelaySource['ingest'];
  #bytes = Buffer.alloc(0);

  constructor(bytes: Uint8Array | string = '', { isSingleUse = false } = {}) {
    this.isSingleUse = isSingleUse;
    const written = () => this.#bytes.length;
    this.ingest = {
      progress: new Condition(),
      get writtenBytes() {
        return written();
      },
      reader: () => this.#reader(),
    };
    this.add(bytes);
  }

  add(bytes: Uint8Array | string): this {
    this.#bytes = Buffer.concat([this.#bytes, Buffer.from(bytes)]);
    this.ingest.progress.notify();
    return this;
  }

  /** All bytes are here; the relay has to be told. */
  end(): this {
    this.complete = this.digest;
    return this;
  }

  get digest(): Digest {
    return digestOf(this.#bytes);
  }

  #reader(): ReturnType<RelaySource['ingest']['reader']> {
    this.openReaders++;
    return {
      read: async (into, position) => {
        if (this.failure !== undefined) throw this.failure;
        assert.ok(position < this.#bytes.length, 'reads stay below what is written');
        const count = this.#bytes.copy(into, 0, position);
        this.readBytes += count;
        return count;
      },
      close: () => {
        this.openReaders--;
      },
    };
  }
}

/** What the upstream does with the bytes that it is sent; `take` takes all of them. */
export type Receive = (bytes: Bytes, take: (bytes: Bytes) => Promise<void>, signal: AbortSignal) => Promise<void>;

type Writes = Pick<
  UpstreamWrites,
  'holdsBlob' | 'startUpload' | 'streamUpload' | 'finishUpload' | 'cancelUpload' | 'uploads'
>;

/** Thrown, or waited for. */
type Effect = Error | Promise<unknown> | undefined;

export class FakeWrites {
  /** What was asked of it, in order. */
  readonly done: string[] = [];
  /** What the uploads have received, by their number, and to which repositories they are. */
  readonly uploads: Buffer[] = [];
  readonly targets: string[] = [];
  /** How many have a place now. */
  places = 0;
  /** Whether others wait for a permit. */
  isContended = false;
  beforePlace: Promise<unknown> = Promise.resolve();
  /** Before it says whether it holds a blob. */
  holding: Promise<unknown> = Promise.resolve();
  /** For the next streams or wholes, one each; by default all bytes are taken. */
  readonly receiving: Receive[] = [];
  /** For the next uploads that are opened, and the next that are closed, one each. */
  readonly starting: Effect[] = [];
  readonly closing: Effect[] = [];
  readonly #held = new Set<string>();

  readonly writes = {
    holdsBlob: async (repository, digest) => {
      this.done.push('ask');
      await this.holding;
      return this.holds(digest, repository);
    },
    startUpload: async repository => {
      this.done.push('start');
      await effect(this.starting);
      this.targets.push(repository.name);
      return new URL(`http://upstream/${this.uploads.push(Buffer.alloc(0)) - 1}`);
    },
    streamUpload: async (_, location, bytes, signal) => {
      this.done.push(`stream to ${location.pathname}`);
      await this.#receive(location, bytes, signal);
      return new URL(`${location.href}?streamed`);
    },
    finishUpload: async (repository, location, digest, signal, whole) => {
      const { pathname, search } = location;
      this.done.push(`${whole ? `put ${whole.sizeBytes} bytes to` : 'close'} ${pathname}${search}`);
      if (whole !== undefined) await this.#receive(location, whole.bytes, signal);
      else await effect(this.closing);
      const received = this.uploads[Number(pathname.slice(1))] ?? assert.fail(pathname);
      if (whole !== undefined) assert.equal(received.length, whole.sizeBytes);
      if (digestOf(received) !== digest) throw errorOf('DIGEST_INVALID');
      this.hold(digest, repository);
    },
    cancelUpload: async (_, location) => {
      this.done.push(`cancel ${location.pathname}`);
    },
    uploads: {
      acquire: (_, signal) => this.#permit(signal),
      acquireLarge: (_, signal) => this.#permit(signal),
    },
  } as Writes as UpstreamWrites;

  hold(digest: Digest, { name } = APP): void {
    this.#held.add(`${name} ${digest}`);
  }

  holds(digest: Digest, { name } = APP): boolean {
    return this.#held.has(`${name} ${digest}`);
  }

  /** How many times it was asked for something that begins so. */
  count(what: string): number {
    return this.done.filter(line => line.startsWith(what)).length;
  }

  async #permit(signal: AbortSignal): Promise<Permit> {
    await this.beforePlace;
    signal.throwIfAborted();
    this.places++;
    let isHeld = true;
    const release = () => {
      if (isHeld) this.places--;
      isHeld = false;
    };
    return { isForSmall: false, isAwaited: this.isContended, release };
  }

  async #receive(location: URL, bytes: Bytes, signal: AbortSignal): Promise<void> {
    assert.ok(this.places > 0, 'what is sent has a place');
    const number = Number(location.pathname.slice(1));
    const take = async (all: Bytes) => {
      this.uploads[number] = Buffer.alloc(0);
      const chunks: Uint8Array[] = [];
      for await (const chunk of all()) {
        signal.throwIfAborted();
        assert.ok(chunk.length > 0);
        // What a socket may still hold when it asks for more is kept as it came: its memory must not be used again.
        chunks.push(chunk.length < 128 * 1024 ? chunk : Buffer.from(chunk));
        this.uploads[number] = Buffer.concat(chunks);
      }
    };
    const receive = this.receiving.shift() ?? (all => take(all));
    const aborted = new Promise<void>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    await Promise.race([receive(bytes, take, signal), aborted]);
  }
}

/** Takes so many bytes or more, then fails so. */
export function breakAfter(count: number, failure: unknown): Receive {
  return async bytes => {
    let length = 0;
    for await (const chunk of bytes()) {
      length += chunk.length;
      if (length >= count) throw failure;
    }
    assert.fail(`only ${length} bytes came`);
  };
}

/** A relay of the source, to the repository APP. */
export function startRelay(source: TestSource, upstream = new FakeWrites()) {
  const clock = new TestClock();
  const shutdown = new AbortController();
  const warnings: string[] = [];
  const relay = new Relay(
    {
      ...{ clock, random: testRandom(), log: logTo(warnings), signal: shutdown.signal },
      writes: repository => {
        assert.equal(repository, APP);
        return upstream.writes;
      },
      admission: {
        location: async repository => {
          upstream.done.push('location');
          return upstream.writes.startUpload(repository);
        },
      },
    },
    APP,
    source,
  );
  const ended: { result?: RelayResult } = {};
  void relay.result.then(result => {
    ended.result = result;
    assert.equal(upstream.places, 0, 'the place is released');
  });
  return { relay, upstream, clock, shutdown, warnings, ended };
}

/** Relays to the fake upstream. */
export function startRelays() {
  const upstream = new FakeWrites();
  const clock = new TestClock();
  const shutdown = new AbortController();
  const writes = () => upstream.writes;
  const admission = new Admission({ clock, writes });
  const relays = new Relays({
    ...{ clock, random: testRandom(), log: logTo([]), signal: shutdown.signal, writes, admission },
  });
  return { relays, admission, upstream, clock, shutdown };
}

export const accepted = (source: TestSource) => ({ accepted: source.digest });
export const failed = (failure: Error, isFinal = true) => ({ failure, isFinal });

async function effect(queue: Effect[]): Promise<void> {
  const first = queue.shift();
  if (first instanceof Error) throw first;
  await first;
}
