// A forward between suppliers and an upstream that the test plays: what goes out in which order, and what becomes
// of it when either side fails. No bytes go over any wire.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { TestClock } from '../../test/support/clock.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import { type ErrorCode, RegistryError, StorageFailure } from '../oci/errors.ts';
import type { Repository } from '../oci/reference.ts';
import type { Bytes, UpstreamWrites } from '../upstream/upstream.ts';
import { isTransient, Relay, type RelayResult, type RelaySource } from './relay.ts';

const APP: Repository = { upstream: 'ghcr.io', name: 'owner/app' };
const MIB = 1024 * 1024;

const error = (code: ErrorCode, retryAfterMs?: number) =>
  new RegistryError(code, code, retryAfterMs === undefined ? {} : { retryAfterMs });

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; !condition(); i++) {
    assert.ok(i < 10_000, 'it never came');
    await turns();
  }
}

/** An upload, whose bytes the test hands in. */
class TestSupplier implements RelaySource {
  complete: Digest | undefined;
  readonly isSingleUse: boolean;
  openReaders = 0;
  readBytes = 0;
  /** Thrown by the next read. */
  failure: Error | undefined;
  #bytes = Buffer.alloc(0);

  constructor(bytes: Uint8Array | string = '', { isSingleUse = false } = {}) {
    this.isSingleUse = isSingleUse;
    this.add(bytes);
  }

  add(bytes: Uint8Array | string): this {
    this.#bytes = Buffer.concat([this.#bytes, Buffer.from(bytes)]);
    return this;
  }

  /** All bytes are here. */
  end(): this {
    this.complete = this.digest;
    return this;
  }

  get digest(): Digest {
    return digestOf(this.#bytes);
  }

  get ingest(): RelaySource['ingest'] {
    return {
      writtenBytes: this.#bytes.length,
      reader: () => {
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
      },
    };
  }
}

/** What the upstream does with a stream or a whole; by default it takes all of it. */
type Receive = (bytes: Bytes, take: (bytes: Bytes) => Promise<void>, signal: AbortSignal) => Promise<void>;

class TestUpstream {
  /** What was asked of it, in order. */
  readonly done: string[] = [];
  readonly held = new Set<Digest>();
  /** What became of the uploads, by their number. */
  readonly uploads: Buffer[] = [];
  places = 0;
  /** For the next streams or wholes, each for one. */
  readonly receiving: Receive[] = [];
  /** Thrown by the next closing without bytes. */
  readonly closing: Error[] = [];
  /** Thrown, or waited for, by the next ones that are begun. */
  readonly starting: (Error | Promise<unknown>)[] = [];
  beforePlace: Promise<unknown> = Promise.resolve();
  holding: Promise<unknown> = Promise.resolve();

  readonly writes: UpstreamWrites = {
    holdsBlob: async (_, digest) => {
      this.done.push(`ask for ${this.#nameOf(digest)}`);
      await this.holding;
      return this.held.has(digest);
    },
    startUpload: async () => {
      this.done.push('start');
      const first = this.starting.shift();
      if (first instanceof Error) throw first;
      await first;
      return new URL(`http://upstream/${this.uploads.push(Buffer.alloc(0)) - 1}`);
    },
    streamUpload: async (_, location, bytes, signal) => {
      this.done.push(`stream to ${location.pathname}`);
      await this.#receive(location, bytes, signal);
      return new URL(`${location.href}?streamed`);
    },
    finishUpload: async (_, location, digest, signal, whole) => {
      const number = Number(location.pathname.slice(1));
      this.done.push(
        `${whole ? `put ${whole.sizeBytes} bytes to` : 'close'} ${location.pathname}${location.search}`,
      );
      if (whole !== undefined) await this.#receive(location, whole.bytes, signal);
      const failure = whole === undefined ? this.closing.shift() : undefined;
      if (failure !== undefined) throw failure;
      const received = this.uploads[number] ?? assert.fail();
      if (whole !== undefined) assert.equal(received.length, whole.sizeBytes);
      if (digestOf(received) !== digest) throw error('DIGEST_INVALID');
      this.held.add(digest);
    },
    cancelUpload: async (_, location) => {
      this.done.push(`cancel ${location.pathname}`);
    },
    acquireUpload: async (_, signal) => {
      await this.beforePlace;
      signal.throwIfAborted();
      this.places++;
      return () => {
        this.places--;
      };
    },
  } as Pick<
    UpstreamWrites,
    'holdsBlob' | 'startUpload' | 'streamUpload' | 'finishUpload' | 'cancelUpload' | 'acquireUpload'
  > as UpstreamWrites;

  async #receive(location: URL, bytes: Bytes, signal: AbortSignal): Promise<void> {
    assert.equal(this.places, 1, 'what is sent has a place');
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

  readonly names = new Map<Digest, string>();
  #nameOf(digest: Digest): string {
    return this.names.get(digest) ?? digest.slice(7, 11);
  }
}

/** Takes so many bytes or more, then fails so. */
const breakAfter =
  (count: number, failure: unknown): Receive =>
  async bytes => {
    let length = 0;
    if (length >= count) throw failure;
    for await (const chunk of bytes()) {
      length += chunk.length;
      if (length >= count) throw failure;
    }
    assert.fail(`only ${length} bytes came`);
  };

function setUp(first: TestSupplier, upstream = new TestUpstream()) {
  const clock = new TestClock();
  const leaving = new AbortController();
  const warnings: string[] = [];
  const log = {
    debug: () => {},
    info: () => {},
    warn: (_: object, text: string) => warnings.push(text),
    error: () => {},
  };
  const forward = new Relay(
    {
      clock,
      log,
      signal: leaving.signal,
      writes: repository => {
        assert.equal(repository, APP);
        return upstream.writes;
      },
      location: async repository => {
        upstream.done.push('location');
        return upstream.writes.startUpload(repository);
      },
    },
    APP,
    first,
  );
  const ended: { result?: RelayResult } = {};
  void forward.over.then(result => {
    ended.result = result;
    assert.equal(upstream.places, 0, 'the place is given back');
  });
  return { forward, upstream, clock, leaving, warnings, ended };
}

const accepted = (supplier: TestSupplier) => ({ accepted: supplier.digest });

describe('a forward of what is still coming', () => {
  test('is one stream that follows it, and is closed when it is complete', async () => {
    const supplier = new TestSupplier('one');
    const { forward, upstream, ended } = setUp(supplier);
    await until(() => upstream.uploads[0]?.toString() === 'one');
    for (const [text, sofar] of [
      [' two', 'one two'],
      [' three', 'one two three'],
    ] as const) {
      await turns(20);
      supplier.add(text);
      forward.moved();
      await until(() => upstream.uploads[0]?.toString() === sofar);
    }
    assert.equal(ended.result, undefined);
    // The last bytes and the end may come together.
    supplier.add(' end').end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.equal(upstream.uploads[0]?.toString(), 'one two three end');
    assert.deepEqual(upstream.done, ['location', 'start', 'stream to /0', 'close /0?streamed']);
    assert.equal(supplier.openReaders, 0);
    assert.equal(forward.triedWhole, false);
  });

  test('begins with nothing at all, and may end so', async () => {
    const supplier = new TestSupplier();
    const { forward, upstream } = setUp(supplier);
    await turns(20);
    supplier.end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.deepEqual(upstream.done, ['location', 'start', 'stream to /0', 'close /0?streamed']);
  });

  test('has each byte once, of content of many chunks that comes in odd pieces', async () => {
    const bytes = bytesOf(randomContent(3 * MIB + 7, 'pieces'));
    const supplier = new TestSupplier();
    const { forward, upstream } = setUp(supplier);
    for (let at = 0; at < bytes.length; at += 333_333) {
      supplier.add(bytes.subarray(at, at + 333_333));
      forward.moved();
      await turns();
    }
    supplier.end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.deepEqual(upstream.uploads, [bytes]);
    assert.equal(supplier.readBytes, bytes.length);
  });

  test('waits for a place, and for an upload to be begun, and sends then what has come meanwhile', async () => {
    const upstream = new TestUpstream();
    const [place, start] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    upstream.beforePlace = place.promise;
    upstream.starting.push(start.promise);
    const supplier = new TestSupplier('a');
    const { forward } = setUp(supplier, upstream);
    await turns(20);
    assert.deepEqual(upstream.done, []);
    place.resolve();
    await until(() => upstream.done.length === 2);
    supplier.add('bc').end();
    forward.moved();
    start.resolve();
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.deepEqual(upstream.uploads.map(String), ['abc']);
  });

  test('is sent from the beginning to who asks for its bytes anew, and to them alone', async () => {
    const upstream = new TestUpstream();
    const supplier = new TestSupplier('begin');
    // As after a 401: another token, and the same request.
    let isFirstOver = false;
    upstream.receiving.push(async (bytes, take) => {
      const first = bytes()[Symbol.asyncIterator]();
      assert.equal(String((await first.next()).value), 'begin');
      const more = first.next();
      const all = take(bytes);
      // What the first one waited for comes to its end, with nothing for it.
      assert.deepEqual(await more, { done: true, value: undefined });
      isFirstOver = true;
      await all;
    });
    const { forward } = setUp(supplier, upstream);
    await until(() => upstream.uploads[0]?.toString() === 'begin');
    supplier.add(' end').end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.ok(isFirstOver);
    assert.equal(upstream.uploads[0]?.toString(), 'begin end');
    assert.equal(supplier.openReaders, 0);
  });

  test('fails, and is not tried again, when its bytes cannot be read', async () => {
    for (const failure of [new Error('EIO'), new StorageFailure('the disk cannot be read')]) {
      const supplier = new TestSupplier('begin');
      const { forward, upstream, clock } = setUp(supplier);
      await until(() => upstream.uploads[0]?.length === 5);
      supplier.failure = failure;
      supplier.add('more');
      forward.moved();
      assert.deepEqual(await forward.over, { failure });
      assert.equal(upstream.done.at(-1), 'cancel /0');
      assert.equal(supplier.openReaders, 0);
      assert.deepEqual(clock.sleptMs, []);
    }
  });
});

describe('a forward of what is complete', () => {
  test('asks whether it is there, and sends nothing when it is', async () => {
    const supplier = new TestSupplier('whole').end();
    const upstream = new TestUpstream();
    upstream.names.set(supplier.digest, 'whole');
    upstream.held.add(supplier.digest);
    const { forward } = setUp(supplier, upstream);
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.deepEqual(upstream.done, ['ask for whole']);
    assert.equal(forward.triedWhole, true);
  });

  for (const [what, bytes] of [
    ['of several chunks', bytesOf(randomContent(MIB, 'whole'))],
    ['of nothing', Buffer.alloc(0)],
  ] as const) {
    test(`sends it in one request when it is not, ${what}`, async () => {
      const supplier = new TestSupplier(bytes).end();
      const upstream = new TestUpstream();
      upstream.names.set(supplier.digest, 'whole');
      const { forward } = setUp(supplier, upstream);
      assert.deepEqual(await forward.over, accepted(supplier));
      assert.deepEqual(upstream.done, [
        'ask for whole',
        'location',
        'start',
        `put ${bytes.length} bytes to /0`,
      ]);
      assert.deepEqual(upstream.uploads, [bytes]);
      assert.equal(supplier.openReaders, 0);
      assert.equal(forward.triedWhole, true);
    });
  }

  test('sends that one alone, whoever else has other bytes', async () => {
    const upstream = new TestUpstream();
    const asked = Promise.withResolvers<void>();
    upstream.holding = asked.promise;
    const whole = new TestSupplier('whole').end();
    const { forward } = setUp(whole, upstream);
    await until(() => upstream.done.length === 1);
    forward.join(new TestSupplier('something else, and longer'));
    asked.resolve();
    assert.deepEqual(await forward.over, accepted(whole));
    assert.deepEqual(upstream.uploads.map(String), ['whole']);
  });
});

describe('a forward of several who push the same', () => {
  test('is one stream, read on from whoever has the next bytes, and closed by the first that is complete', async () => {
    const [a, b] = [new TestSupplier('0123'), new TestSupplier('01')];
    const { forward, upstream } = setUp(a);
    forward.join(b);
    await until(() => upstream.uploads[0]?.length === 4);
    b.add('23456');
    forward.moved();
    await until(() => upstream.uploads[0]?.length === 7);
    a.add('45678');
    forward.moved();
    await until(() => upstream.uploads[0]?.length === 9);
    b.add('789').end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(b));
    assert.equal(upstream.uploads[0]?.toString(), '0123456789');
    assert.deepEqual(upstream.done, ['location', 'start', 'stream to /0', 'close /0?streamed']);
    assert.equal(a.readBytes + b.readBytes, 10, 'no byte is read twice');
    assert.deepEqual([a.openReaders, b.openReaders], [0, 0]);
  });

  test('is closed by who is complete also when that one comes late', async () => {
    const slow = new TestSupplier('0123');
    const { forward, upstream } = setUp(slow);
    await until(() => upstream.uploads[0]?.length === 4);
    const fast = new TestSupplier('0123456789').end();
    forward.join(fast);
    assert.deepEqual(await forward.over, accepted(fast));
    assert.deepEqual(upstream.uploads.map(String), ['0123456789']);
  });

  test('goes on when one of them leaves, be it the one that is read from', async () => {
    const [a, b] = [new TestSupplier('0123'), new TestSupplier('01')];
    const { forward, upstream, ended } = setUp(a);
    forward.join(b);
    await until(() => upstream.uploads[0]?.length === 4);
    forward.leave(a);
    await turns(20);
    assert.equal(ended.result, undefined);
    // What b has not reached yet comes when it does.
    b.add('2');
    forward.moved();
    await turns(20);
    assert.equal(upstream.uploads[0]?.length, 4);
    b.add('345').end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(b));
    assert.deepEqual(upstream.uploads.map(String), ['012345']);
    assert.deepEqual([a.openReaders, b.openReaders], [0, 0]);
  });

  test('is given up when the last of them leaves, and its upload cancelled', async () => {
    const [a, b] = [new TestSupplier('a'), new TestSupplier('a')];
    const { forward, upstream, clock } = setUp(a);
    forward.join(b);
    await until(() => upstream.uploads[0]?.length === 1);
    forward.leave(a);
    forward.leave(b);
    const result = await forward.over;
    assert.match('failure' in result ? result.failure.message : '', /have left/);
    assert.equal(upstream.done.at(-1), 'cancel /0');
    assert.deepEqual(clock.sleptMs, []);
    assert.deepEqual([a.openReaders, b.openReaders], [0, 0]);
  });

  test('is joined by nobody once it is being given up, or over', async () => {
    const upstream = new TestUpstream();
    const gate = Promise.withResolvers<void>();
    upstream.starting.push(gate.promise);
    const [a, b] = [new TestSupplier('a'), new TestSupplier('a')];
    const { forward, ended } = setUp(a, upstream);
    await until(() => upstream.done.length === 2);
    assert.equal(forward.join(b), true);
    forward.leave(a);
    forward.leave(b);
    assert.equal(forward.join(b), false);
    await turns(20);
    assert.equal(ended.result, undefined, 'the answer to what it asked is still to come');
    gate.resolve();
    assert.ok('failure' in (await forward.over));
    assert.equal(forward.join(b), false);
    assert.equal(upstream.done.at(-1), 'cancel /0');

    const done = setUp(new TestSupplier('b').end()).forward;
    assert.ok('accepted' in (await done.over));
    assert.equal(done.join(b), false);
  });

  test('that turn out to differ ends with the one that is complete, sent once more by itself', async () => {
    const [a, b] = [new TestSupplier('same, then a'), new TestSupplier('same')];
    const { forward, upstream, warnings } = setUp(a);
    forward.join(b);
    upstream.names.set(digestOf(Buffer.from('same, then b and more')), 'b');
    await until(() => upstream.uploads[0]?.length === 12);
    b.add(', then b and more').end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(b));
    assert.deepEqual(upstream.uploads.map(String), ['same, then a and more', 'same, then b and more']);
    assert.deepEqual(upstream.done.slice(3), [
      'close /0?streamed',
      'cancel /0',
      'ask for b',
      'location',
      'start',
      'put 21 bytes to /1',
    ]);
    assert.equal(warnings.length, 1);
    assert.match(
      warnings[0] ?? '',
      /push to ghcr\.io\/owner\/app broke at byte 21 and is begun anew: DIGEST_INVALID/,
    );
    assert.equal(forward.triedWhole, true);
    assert.deepEqual([a.openReaders, b.openReaders], [0, 0]);
  });

  test('is read on from who is complete, though somebody else has more', async () => {
    const [long, whole] = [new TestSupplier('0123'), new TestSupplier('0123')];
    const { forward, upstream } = setUp(long);
    forward.join(whole);
    await until(() => upstream.uploads[0]?.length === 4);
    long.add('456789');
    whole.add('4567').end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(whole));
    assert.deepEqual(upstream.uploads.map(String), ['01234567']);
  });

  for (const order of ['first', 'last']) {
    test(`has passed who is complete with less than was sent, and goes on without it, be it ${order}`, async () => {
      const [long, short] = [new TestSupplier('0123456'), new TestSupplier('0123')];
      const [one, two] = order === 'first' ? [short, long] : [long, short];
      const { forward, upstream } = setUp(one);
      forward.join(two);
      await until(() => upstream.uploads[0]?.length === 7);
      assert.equal(forward.hasPassed(short), false, 'it may still get there');
      short.end();
      assert.equal(forward.hasPassed(short), true);
      assert.equal(forward.hasPassed(new TestSupplier('0123456').end()), false);
      assert.equal(forward.hasPassed(new TestSupplier('01234567').end()), false);
      forward.moved();
      await turns(20);
      long.add('789').end();
      forward.moved();
      assert.deepEqual(await forward.over, accepted(long));
      assert.deepEqual(upstream.uploads.map(String), ['0123456789']);
    });
  }

  test('has passed nobody when it is begun anew', async () => {
    const upstream = new TestUpstream();
    const gate = Promise.withResolvers<void>();
    const [long, short] = [new TestSupplier('0123456'), new TestSupplier('0123')];
    upstream.receiving.push(breakAfter(7, error('UPSTREAM_UNAVAILABLE')));
    const { forward, warnings } = setUp(long, upstream);
    forward.join(short);
    await until(() => warnings.length === 1);
    upstream.starting.push(gate.promise);
    long.add('789');
    forward.moved();
    await until(() => upstream.done.at(-1) === 'start');
    short.end();
    assert.equal(forward.hasPassed(short), false);
    gate.resolve();
    assert.deepEqual(await forward.over, accepted(short));
    assert.equal(upstream.uploads[1]?.toString(), '0123');
  });
});

describe('a forward that breaks', () => {
  const again: [code: ErrorCode, retryAfterMs?: number][] = [
    ['UPSTREAM_UNAVAILABLE'],
    ['UPSTREAM_TIMEOUT'],
    ['BLOB_UPLOAD_UNKNOWN'],
    ['BLOB_UPLOAD_INVALID'],
    ['DIGEST_INVALID'],
    ['SIZE_INVALID'],
    ['TOOMANYREQUESTS', 100],
  ];
  for (const [code, retryAfterMs] of again) {
    test(`with ${code} is begun anew from the first byte, four times in all, each after a longer pause`, async () => {
      const supplier = new TestSupplier('begin');
      const upstream = new TestUpstream();
      const failures = Array.from({ length: 4 }, () => error(code, retryAfterMs));
      for (const failure of failures) upstream.receiving.push(breakAfter(5, failure));
      const { forward, clock, warnings } = setUp(supplier, upstream);
      for (let attempt = 1; attempt < 4; attempt++) {
        await until(() => warnings.length === attempt);
        // There has to be something new for it.
        supplier.add('+');
        forward.moved();
      }
      assert.deepEqual(await forward.over, { failure: failures[3] });
      assert.deepEqual(clock.sleptMs, [200, 400, 800]);
      assert.deepEqual(
        upstream.done.filter(line => !/^(location|start)$/.test(line)),
        [0, 1, 2, 3].flatMap(n => [`stream to /${n}`, `cancel /${n}`]),
      );
      assert.equal(supplier.openReaders, 0);
    });
  }

  test('and comes through at the last attempt is accepted', async () => {
    const supplier = new TestSupplier('whole').end();
    const upstream = new TestUpstream();
    for (let i = 0; i < 3; i++) upstream.receiving.push(breakAfter(5, error('UPSTREAM_UNAVAILABLE')));
    const { forward, clock } = setUp(supplier, upstream);
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.deepEqual(clock.sleptMs, [200, 400, 800]);
  });

  test('is begun anew too when it was its beginning or its end that failed', async () => {
    const supplier = new TestSupplier('bytes');
    const upstream = new TestUpstream();
    upstream.starting.push(error('UPSTREAM_UNAVAILABLE'));
    upstream.closing.push(error('BLOB_UPLOAD_UNKNOWN'));
    const { forward } = setUp(supplier, upstream);
    await until(() => upstream.uploads[0]?.length === 5);
    supplier.end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.deepEqual(upstream.uploads.map(String), ['bytes', 'bytes']);
    assert.equal(
      upstream.done.filter(line => line.startsWith('cancel')).join(),
      'cancel /0',
      'only what there was',
    );
  });

  test('is found to have come through when only the answer was lost', async () => {
    const supplier = new TestSupplier('bytes');
    const upstream = new TestUpstream();
    upstream.names.set(supplier.digest, 'it');
    upstream.closing.push(error('UPSTREAM_UNAVAILABLE'));
    const { forward } = setUp(supplier, upstream);
    await until(() => upstream.uploads[0]?.length === 5);
    upstream.held.add(supplier.digest);
    supplier.end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.equal(upstream.done.at(-1), 'ask for it');
  });

  test('with a digest that is refused of a whole is tried once more, and no more: the digest is right', async () => {
    const supplier = new TestSupplier('whole').end();
    const upstream = new TestUpstream();
    for (let i = 0; i < 2; i++) upstream.receiving.push(breakAfter(5, error('DIGEST_INVALID')));
    const { forward, clock } = setUp(supplier, upstream);
    const result = await forward.over;
    assert.ok('failure' in result && (result.failure as RegistryError).code === 'DIGEST_INVALID');
    assert.deepEqual(clock.sleptMs, [200]);
  });

  test('waits as long as a rate limit says, when that is not long', async () => {
    const upstream = new TestUpstream();
    upstream.starting.push(error('TOOMANYREQUESTS', 5_000));
    const supplier = new TestSupplier('whole').end();
    const { forward, clock } = setUp(supplier, upstream);
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.deepEqual(clock.sleptMs, [5_000]);
  });

  const lasting: Error[] = [
    error('DENIED'),
    error('UNAUTHORIZED'),
    error('UNSUPPORTED'),
    error('NAME_UNKNOWN'),
    error('TOO_LARGE'),
    error('UPSTREAM_INVALID'),
    error('TOOMANYREQUESTS', 5_001),
    error('TOOMANYREQUESTS'),
    new StorageFailure('no room'),
    new Error('a bug'),
  ];
  for (const failure of lasting) {
    const what = failure instanceof RegistryError ? `${failure.code} ${failure.retryAfterMs ?? ''}` : 'a bug';
    test(`with ${what} fails at once`, async () => {
      const supplier = new TestSupplier('bytes');
      const upstream = new TestUpstream();
      upstream.receiving.push(breakAfter(5, failure));
      const { forward, clock } = setUp(supplier, upstream);
      assert.deepEqual(await forward.over, { failure });
      assert.equal(upstream.done.at(-1), 'cancel /0');
      assert.deepEqual(clock.sleptMs, []);
    });
  }

  test('while nothing new has come waits for that: the upstream may not like to wait', async () => {
    const supplier = new TestSupplier('begin');
    const upstream = new TestUpstream();
    upstream.receiving.push(breakAfter(5, error('UPSTREAM_UNAVAILABLE')));
    const { forward, clock, warnings, ended } = setUp(supplier, upstream);
    await until(() => warnings.length === 1);
    forward.moved();
    await turns(20);
    assert.deepEqual(clock.sleptMs, []);
    assert.equal(upstream.places, 0, 'others may have its place meanwhile');
    assert.equal(upstream.done.at(-1), 'cancel /0');
    supplier.add(' more');
    forward.moved();
    await until(() => upstream.uploads[1]?.toString() === 'begin more');
    assert.equal(ended.result, undefined);
    supplier.end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(supplier));
  });

  test('while nothing new has come is begun anew when it is complete, or when somebody else has more', async () => {
    for (const isComplete of [true, false]) {
      const supplier = new TestSupplier('begin');
      const upstream = new TestUpstream();
      upstream.receiving.push(breakAfter(5, error('UPSTREAM_UNAVAILABLE')));
      const { forward, warnings } = setUp(supplier, upstream);
      await until(() => warnings.length === 1);
      const other = new TestSupplier('begin and end').end();
      if (isComplete) {
        supplier.end();
        forward.moved();
      } else forward.join(other);
      assert.deepEqual(await forward.over, accepted(isComplete ? supplier : other));
    }
  });

  test('while nothing new has come is given up when all leave', async () => {
    const supplier = new TestSupplier('begin');
    const upstream = new TestUpstream();
    upstream.receiving.push(breakAfter(5, error('UPSTREAM_UNAVAILABLE')));
    const { forward, warnings } = setUp(supplier, upstream);
    await until(() => warnings.length === 1);
    forward.leave(supplier);
    assert.ok('failure' in (await forward.over));
  });

  test('because the upstream has closed it too early is begun anew', async () => {
    const supplier = new TestSupplier('begin');
    const upstream = new TestUpstream();
    upstream.receiving.push(async bytes => {
      for await (const _ of bytes()) return;
    });
    const { forward, warnings } = setUp(supplier, upstream);
    await until(() => warnings.length === 1);
    assert.match(warnings[0] ?? '', /before it was complete/);
    supplier.add(' end').end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.equal(supplier.openReaders, 0);
  });

  test('leaves nobody waiting for bytes of what is over', async () => {
    const supplier = new TestSupplier('begin');
    const upstream = new TestUpstream();
    const failure = error('DENIED');
    let more: Promise<unknown> | undefined;
    // As when an answer comes while the next chunk is still awaited.
    upstream.receiving.push(async bytes => {
      const asked = bytes()[Symbol.asyncIterator]();
      await asked.next();
      more = asked.next();
      throw failure;
    });
    const { forward } = setUp(supplier, upstream);
    assert.deepEqual(await forward.over, { failure });
    assert.deepEqual(await more, { done: true, value: undefined });
    assert.equal(supplier.openReaders, 0);
  });

  const reason = new Error('the server is leaving');
  const points: Record<string, (upstream: TestUpstream) => () => boolean> = {
    'waits for a place': upstream => {
      upstream.beforePlace = turns(20);
      return () => true;
    },
    'is being sent': upstream => () => upstream.uploads[0]?.length === 5,
    'has broken, and waits for more': upstream => {
      upstream.receiving.push(breakAfter(5, error('UPSTREAM_UNAVAILABLE')));
      return () => upstream.done.at(-1) === 'cancel /0';
    },
  };
  for (const [point, prepare] of Object.entries(points)) {
    test(`is not begun anew when the server leaves while it ${point}`, async () => {
      const supplier = new TestSupplier('begin');
      const upstream = new TestUpstream();
      const reached = prepare(upstream);
      const { forward, leaving } = setUp(supplier, upstream);
      await until(reached);
      leaving.abort(reason);
      assert.deepEqual(await forward.over, { failure: reason });
      assert.ok(upstream.uploads.length < 2);
      assert.equal(supplier.openReaders, 0);
    });
  }
});

describe('a forward of what can be read only once', () => {
  const once = (bytes: string) => new TestSupplier(bytes, { isSingleUse: true });

  test('goes to an upload that was just begun, and not to one from before', async () => {
    const supplier = once('bytes');
    const { forward, upstream } = setUp(supplier);
    await until(() => upstream.uploads[0]?.length === 5);
    supplier.end();
    forward.moved();
    assert.deepEqual(await forward.over, accepted(supplier));
    assert.deepEqual(upstream.done, ['start', 'stream to /0', 'close /0?streamed']);
  });

  for (const code of ['UPSTREAM_UNAVAILABLE', 'BLOB_UPLOAD_UNKNOWN', 'DIGEST_INVALID'] as const) {
    test(`is not tried again after ${code}`, async () => {
      const upstream = new TestUpstream();
      const failure = error(code);
      upstream.receiving.push(breakAfter(5, failure));
      const { forward, clock } = setUp(once('bytes'), upstream);
      assert.deepEqual(await forward.over, { failure });
      assert.deepEqual(clock.sleptMs, []);
    });
  }

  test('is not tried again even when nothing of it was sent', async () => {
    const upstream = new TestUpstream();
    const failure = error('UPSTREAM_UNAVAILABLE');
    upstream.starting.push(failure);
    const { forward } = setUp(once('bytes'), upstream);
    assert.deepEqual(await forward.over, { failure });
  });
});

describe('keeping up', () => {
  const LEAD = 16 * MIB;

  /** A forward whose upstream takes what the test lets it. */
  async function held(supplier: TestSupplier) {
    const upstream = new TestUpstream();
    let takeMore = Promise.withResolvers<void>();
    const next = () => {
      takeMore.resolve();
      takeMore = Promise.withResolvers();
    };
    upstream.receiving.push(async bytes => {
      for await (const _ of bytes()) await takeMore.promise;
    });
    const set = setUp(supplier, upstream);
    await until(() => supplier.readBytes > 0);
    return { ...set, next };
  }

  test('is asked of nobody who is not far ahead of what was sent', async () => {
    const supplier = new TestSupplier(Buffer.alloc(MIB));
    const { forward, leaving } = await held(supplier);
    const sent = supplier.readBytes;
    for (const written of [0, MIB, LEAD, sent + LEAD]) assert.equal(forward.keepUp(written), undefined);
    assert.ok(forward.keepUp(sent + LEAD + 1) instanceof Promise);
    leaving.abort(new Error('enough'));
  });

  test('lasts until enough was sent, and no longer', async () => {
    const supplier = new TestSupplier(Buffer.alloc(8 * MIB));
    const { forward, next, leaving } = await held(supplier);
    const chunk = supplier.readBytes;
    let isOver = false;
    const waiting = forward.keepUp(LEAD + 3 * chunk)?.then(() => {
      isOver = true;
    });
    assert.ok(waiting instanceof Promise);
    for (let sent = chunk; sent < 3 * chunk; sent += chunk) {
      await turns(20);
      assert.equal(supplier.readBytes, sent);
      assert.equal(isOver, false);
      next();
    }
    // That the last of it was taken shows when more is wanted.
    await turns(20);
    next();
    await waiting;
    assert.equal(supplier.readBytes, 4 * chunk);
    leaving.abort(new Error('enough'));
  });

  for (const [end, finish] of [
    ['is accepted', (supplier: TestSupplier) => supplier.end()],
    ['is left by the one who pushed it', (supplier: TestSupplier, forward: Relay) => forward.leave(supplier)],
  ] as const) {
    test(`is over when the forward ${end}`, async () => {
      const supplier = new TestSupplier(Buffer.alloc(MIB));
      const { forward, next } = await held(supplier);
      const waiting = [forward.keepUp(100 * LEAD), forward.keepUp(200 * LEAD)];
      finish(supplier, forward);
      forward.moved();
      const ending = setInterval(next);
      await forward.over;
      clearInterval(ending);
      await Promise.all(waiting);
      assert.equal(forward.keepUp(100 * LEAD), undefined);
    });
  }

  test('is over when the forward has failed', async () => {
    const supplier = new TestSupplier(Buffer.alloc(MIB));
    const upstream = new TestUpstream();
    const gate = Promise.withResolvers<void>();
    upstream.receiving.push(() => gate.promise);
    const { forward } = setUp(supplier, upstream);
    await until(() => upstream.done.length === 3);
    const waiting = forward.keepUp(LEAD + 1);
    assert.ok(waiting instanceof Promise);
    gate.reject(error('DENIED'));
    await waiting;
    assert.equal(forward.keepUp(LEAD + 1), undefined);
  });
});

test('what may pass is an upstream that is away and a rate limit, and nothing else', () => {
  for (const code of ['UPSTREAM_UNAVAILABLE', 'UPSTREAM_TIMEOUT', 'TOOMANYREQUESTS'] as const) {
    assert.equal(isTransient(error(code)), true);
  }
  for (const code of ['DENIED', 'DIGEST_INVALID', 'UPSTREAM_INVALID', 'UNAVAILABLE'] as const) {
    assert.equal(isTransient(error(code)), false);
  }
  assert.equal(isTransient(new Error('bug')), false);
});
