// Which forward an upload is with, and what becomes of the upload when that one ends; the upstream is played by the
// test. What a forward does is tested in forward.test.ts.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { TestClock } from '../../test/support/clock.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import type { Ingest } from '../content/ingest.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import type { Repository } from '../oci/reference.ts';
import type { Bytes, UpstreamWrites } from '../upstream/upstream.ts';
import { RelayHandle, Relays } from './relays.ts';

const APP: Repository = { upstream: 'ghcr.io', name: 'owner/app' };
const OTHER: Repository = { upstream: 'ghcr.io', name: 'owner/other' };
const MIB = 1024 * 1024;

const error = (code: ErrorCode) => new RegistryError(code, code);

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; !condition(); i++) {
    assert.ok(i < 10_000, 'it never came');
    await turns();
  }
}

interface Sent {
  readonly repository: string;
  bytes: Buffer;
}

class TestUpstream {
  /** What was asked of it, in order, but for the cancelling of uploads. */
  readonly done: string[] = [];
  readonly held = new Set<string>();
  readonly uploads: Sent[] = [];
  /** Thrown, or waited for, by the next uploads that are begun; then by those that are closed or put. */
  readonly starting: (Error | Promise<unknown>)[] = [];
  readonly closing: (Error | Promise<unknown> | undefined)[] = [];
  holding: Promise<unknown> = Promise.resolve();

  readonly writes: UpstreamWrites = {
    holdsBlob: async ({ name }, digest) => {
      this.done.push(`ask ${name}`);
      await this.holding;
      return this.held.has(`${name} ${digest}`);
    },
    startUpload: async ({ name }) => {
      this.done.push(`start ${name}`);
      await next(this.starting);
      return new URL(
        `http://upstream/${this.uploads.push({ repository: name, bytes: Buffer.alloc(0) }) - 1}`,
      );
    },
    streamUpload: async ({ name }, location, bytes, signal) => {
      this.done.push(`stream ${name}`);
      await this.#take(location, bytes, signal);
      return location;
    },
    finishUpload: async ({ name }, location, digest, signal, whole) => {
      this.done.push(`${whole ? 'put' : 'close'} ${name}`);
      if (whole !== undefined) await this.#take(location, whole.bytes, signal);
      await next(this.closing);
      if (digestOf(this.#upload(location).bytes) !== digest) throw error('DIGEST_INVALID');
      this.held.add(`${name} ${digest}`);
    },
    cancelUpload: async () => {},
    acquireUpload: async () => () => {},
  } as Pick<
    UpstreamWrites,
    'holdsBlob' | 'startUpload' | 'streamUpload' | 'finishUpload' | 'cancelUpload' | 'acquireUpload'
  > as UpstreamWrites;

  #upload(location: URL): Sent {
    return this.uploads[Number(location.pathname.slice(1))] ?? assert.fail(location.href);
  }

  async #take(location: URL, bytes: Bytes, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const upload = this.#upload(location);
    upload.bytes = Buffer.alloc(0);
    const taking = (async () => {
      for await (const chunk of bytes()) upload.bytes = Buffer.concat([upload.bytes, chunk]);
    })();
    const aborted = new Promise<void>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    await Promise.race([taking, aborted]);
  }
}

async function next(queue: (Error | Promise<unknown> | undefined)[]): Promise<void> {
  const first = queue.shift();
  if (first instanceof Error) throw first;
  await first;
}

/** An upload as far as its forwarding sees it. */
class TestUpload {
  readonly repository: Repository;
  complete: Digest | undefined;
  isSingleUse = false;
  refused = 0;
  readonly forwarding: RelayHandle;
  #bytes: Buffer;

  constructor(forwards: Relays, bytes: Uint8Array | string = '', repository = APP) {
    this.repository = repository;
    this.#bytes = Buffer.from(bytes);
    this.forwarding = new RelayHandle(forwards, this, () => {
      this.refused++;
    });
  }

  get ingest(): Ingest {
    const ingest: Pick<Ingest, 'writtenBytes' | 'reader'> = {
      writtenBytes: this.#bytes.length,
      reader: () => ({
        read: async (into, position) => this.#bytes.copy(into, 0, position),
        close: () => {},
      }),
    };
    return ingest as Ingest;
  }

  get digest(): Digest {
    return digestOf(this.#bytes);
  }

  add(bytes: Uint8Array | string): this {
    this.#bytes = Buffer.concat([this.#bytes, Buffer.from(bytes)]);
    this.forwarding.moved();
    return this;
  }

  /** As Upload does when it is closed: all bytes are here. */
  finish() {
    this.complete = this.digest;
    const finishing = this.forwarding.finish(this.digest);
    finishing.catch(() => {});
    return finishing;
  }
}

function setUp() {
  const upstream = new TestUpstream();
  const clock = new TestClock();
  const leaving = new AbortController();
  const silent = () => {};
  const forwards = new Relays({
    ...{ clock, signal: leaving.signal, writes: () => upstream.writes },
    log: { debug: silent, info: silent, warn: silent, error: silent },
  });
  const upload = (bytes: Uint8Array | string = '', repository = APP) =>
    new TestUpload(forwards, bytes, repository);
  const count = (line: string) => upstream.done.filter(one => one.startsWith(line)).length;
  return { forwards, upstream, clock, leaving, upload, count };
}

const long = bytesOf(randomContent(2 * MIB, 'long'));
const prefix = long.subarray(0, MIB);

describe('whether the upstream takes pushes', () => {
  test('is asked once for all who ask at once, and for a minute', async () => {
    const { forwards, upstream, clock } = setUp();
    await Promise.all([forwards.admit(APP), forwards.admit(APP), forwards.admit(APP)]);
    clock.advance(59_999);
    await forwards.admit(APP);
    assert.deepEqual(upstream.done, ['start owner/app']);
    clock.advance(1);
    await forwards.admit(APP);
    assert.deepEqual(upstream.done, ['start owner/app', 'start owner/app']);
  });

  test('is asked for each repository', async () => {
    const { forwards, upstream } = setUp();
    const elsewhere = { upstream: 'quay.io', name: 'owner/app' };
    for (const repository of [APP, OTHER, elsewhere]) await forwards.admit(repository);
    assert.deepEqual(upstream.done, ['start owner/app', 'start owner/other', 'start owner/app']);
  });

  test('is told as the upstream tells it, and asked again after a refusal', async () => {
    const { forwards, upstream } = setUp();
    const refusal = error('DENIED');
    upstream.starting.push(refusal);
    const asking = [forwards.admit(APP), forwards.admit(APP)];
    for (const asked of asking) await assert.rejects(asked, refusal);
    await forwards.admit(APP);
    assert.equal(upstream.done.length, 2);
  });

  test('leaves an upload that the next forward uses, and that one alone', async () => {
    const { forwards, upload, upstream, count } = setUp();
    await forwards.admit(APP);
    const [first, second] = [upload('first'), upload('second')];
    assert.equal(await first.finish(), 'miss');
    assert.equal(count('start'), 1);
    assert.equal(await second.finish(), 'miss');
    assert.equal(count('start'), 2);
    assert.deepEqual(
      upstream.uploads.map(({ bytes }) => String(bytes)),
      ['first', 'second'],
    );
  });

  test('leaves nothing to a forward that needs nothing', async () => {
    const { forwards, upload, upstream, count } = setUp();
    await forwards.admit(APP);
    const [first, second] = [upload('there'), upload('not there')];
    upstream.held.add(`owner/app ${first.digest}`);
    await first.finish();
    await second.finish();
    assert.equal(count('start'), 1);
  });

  test('leaves an upload for a minute: an older one may be gone', async () => {
    for (const [ageMs, starts] of [
      [59_999, 1],
      [60_000, 2],
    ] as const) {
      const { forwards, upload, clock, count } = setUp();
      await forwards.admit(APP);
      clock.advance(ageMs);
      await upload('bytes').finish();
      assert.equal(count('start'), starts, `${ageMs}`);
    }
  });

  test('leaves an upload to its own repository', async () => {
    const { forwards, upload, upstream } = setUp();
    await forwards.admit(APP);
    await upload('bytes', OTHER).finish();
    assert.deepEqual(
      upstream.uploads.map(({ repository, bytes }) => `${repository} ${bytes}`),
      ['owner/app ', 'owner/other bytes'],
    );
  });
});

describe('content that is here', () => {
  const sourceOf = (bytes: Buffer) => {
    const reads = { closed: 0 };
    const source = {
      sizeBytes: bytes.length,
      read: async (into: Uint8Array, position: number) => bytes.copy(into, 0, position),
      close: () => {
        reads.closed++;
      },
    };
    return { source, reads };
  };

  test('is brought to a repository in one request, unless it is there', async () => {
    const { forwards, upstream } = setUp();
    const { source, reads } = sourceOf(long);
    await forwards.bring(APP, digestOf(long), source);
    assert.deepEqual(upstream.done, ['ask owner/app', 'start owner/app', 'put owner/app']);
    assert.deepEqual(upstream.uploads[0]?.bytes, long);
    await forwards.bring(APP, digestOf(long), source);
    assert.equal(upstream.uploads.length, 1);
    assert.equal(reads.closed, 0, 'who has opened it closes it');
  });

  test('is brought once for all who want it there at once', async () => {
    const { forwards, upload, upstream, count } = setUp();
    const { source } = sourceOf(long);
    const gate = Promise.withResolvers<void>();
    upstream.holding = gate.promise;
    const digest = digestOf(long);
    const bringing = [1, 2, 3].map(() => forwards.bring(APP, digest, source));
    await turns(20);
    gate.resolve();
    await Promise.all(bringing);
    assert.equal(count('put'), 1);
    await forwards.bring(OTHER, digest, source);
    assert.equal(count('put owner/other'), 1);
    assert.equal(await upload(long).finish(), 'miss');
  });

  test('is refused with what the upstream says', async () => {
    const { forwards, upstream } = setUp();
    const refusal = error('DENIED');
    upstream.starting.push(refusal);
    await assert.rejects(forwards.bring(APP, digestOf(long), sourceOf(long).source), refusal);
  });
});

describe('an upload', () => {
  test('goes up while it is still coming, as soon as its first MiB is there', async () => {
    const { upload, upstream } = setUp();
    const one = upload(long.subarray(0, MIB - 1));
    one.forwarding.moved();
    await turns(20);
    assert.deepEqual(upstream.done, []);
    one.add(long.subarray(MIB - 1, MIB));
    await until(() => upstream.uploads[0]?.bytes.length === MIB);
    one.add(long.subarray(MIB));
    await until(() => upstream.uploads[0]?.bytes.length === 2 * MIB);
    assert.deepEqual(upstream.done, ['start owner/app', 'stream owner/app']);
    assert.equal(await one.finish(), 'miss');
    assert.deepEqual(upstream.done, ['start owner/app', 'stream owner/app', 'close owner/app']);
  });

  test('that is shorter goes up as a whole when it is complete, be it of nothing', async () => {
    for (const bytes of ['short', '']) {
      const { upload, upstream } = setUp();
      assert.equal(await upload(bytes).finish(), 'miss');
      assert.deepEqual(upstream.done, ['ask owner/app', 'start owner/app', 'put owner/app']);
      assert.equal(String(upstream.uploads[0]?.bytes), bytes);
    }
  });

  test('shares the forward of another one that begins with the same MiB', async () => {
    const { upload, upstream, count } = setUp();
    const [first, second] = [upload(), upload()];
    first.add(long.subarray(0, MIB + 10));
    await until(() => upstream.uploads[0]?.bytes.length === MIB + 10);
    second.add(long);
    await until(() => upstream.uploads[0]?.bytes.length === 2 * MIB);
    assert.equal(await second.finish(), 'joined');
    first.add(long.subarray(MIB + 10));
    assert.equal(await first.finish(), 'miss');
    assert.equal(count('stream'), 1);
    assert.equal(count('start'), 1);
    assert.equal(count('put'), 0);
  });

  test('shares it also with one that is complete, and with one that is short', async () => {
    for (const bytes of [long, 'short']) {
      const { upload, upstream, count } = setUp();
      const gate = Promise.withResolvers<void>();
      upstream.holding = gate.promise;
      const finishing = [upload(bytes).finish(), upload(bytes).finish(), upload(bytes).finish()];
      await turns(20);
      gate.resolve();
      assert.deepEqual((await Promise.all(finishing)).sort(), ['joined', 'joined', 'miss']);
      assert.equal(count('put'), 1);
    }
  });

  test('shares none with what begins otherwise, goes elsewhere, or is over', async () => {
    const { upload, upstream, count } = setUp();
    const different = Buffer.from(long);
    different.writeUInt8(different.readUInt8(MIB - 1) ^ 1, MIB - 1);
    const uploads = [upload(long), upload(different), upload(long, OTHER)];
    for (const one of uploads) one.forwarding.moved();
    await until(
      () => upstream.uploads.length === 3 && upstream.uploads.every(({ bytes }) => bytes.length === 2 * MIB),
    );
    for (const one of uploads) assert.equal(await one.finish(), 'miss');
    assert.equal(count('stream'), 3);
    upstream.held.clear();
    assert.equal(await upload(long).finish(), 'miss');
    assert.equal(upstream.uploads.length, 4);
  });

  test('whose beginning it shares, and whose end it does not, goes up by itself', async () => {
    const { upload, upstream, count } = setUp();
    const [first, second] = [upload(prefix), upload(prefix)];
    for (const one of [first, second]) one.forwarding.moved();
    await until(() => upstream.uploads[0]?.bytes.length === MIB);
    first.add('one end');
    assert.equal(await first.finish(), 'miss');
    second.add('another end');
    assert.equal(await second.finish(), 'miss');
    assert.equal(count('stream'), 1);
    assert.equal(count('put'), 1);
    for (const one of [first, second]) assert.ok(upstream.held.has(`owner/app ${one.digest}`));
  });

  test('goes up by itself when more was sent than all of it', async () => {
    const { upload, upstream } = setUp();
    const [first, second] = [upload(prefix), upload(prefix)];
    for (const one of [first, second]) one.forwarding.moved();
    first.add('and much more');
    await until(() => upstream.uploads[0]?.bytes.length === MIB + 13);
    assert.equal(await second.finish(), 'miss');
    assert.deepEqual(upstream.uploads[1]?.bytes, prefix);
    // Which is no trouble to the one that it was with.
    assert.equal(await first.add('.').finish(), 'miss');
    assert.equal(upstream.uploads.length, 2);
  });

  test('goes up by itself together with another one that does so', async () => {
    const { upload, upstream, count } = setUp();
    const uploads = [upload(prefix), upload(prefix), upload(prefix)];
    for (const one of uploads) one.forwarding.moved();
    uploads[0]?.add('and more');
    await until(() => upstream.uploads[0]?.bytes.length === MIB + 8);
    const outcomes = await Promise.all(uploads.slice(1).map(one => one.finish()));
    assert.deepEqual(outcomes.sort(), ['joined', 'miss']);
    assert.equal(count('put'), 1);
  });

  test('that says what it is going to be is not sent when that is there', async () => {
    const { upload, upstream } = setUp();
    const one = upload();
    upstream.held.add(`owner/app ${digestOf(long)}`);
    one.forwarding.expect(digestOf(long));
    one.add(long);
    await turns(20);
    assert.equal(await one.finish(), 'revalidated');
    assert.deepEqual(upstream.done, ['ask owner/app']);
  });

  test('that says what it is going to be is sent when that is not there, or not to be learnt', async () => {
    for (const failure of [undefined, error('UPSTREAM_UNAVAILABLE')]) {
      const { upload, upstream, count } = setUp();
      const one = upload();
      if (failure !== undefined) upstream.holding = Promise.reject(failure);
      one.forwarding.expect(digestOf(long));
      await turns(20);
      upstream.holding = Promise.resolve();
      one.add(long);
      assert.equal(await one.finish(), 'miss');
      assert.equal(count('start'), 1);
    }
  });

  test('that says what it is going to be when it is on its way already goes on', async () => {
    const { upload, upstream, count } = setUp();
    const one = upload(prefix);
    upstream.held.add(`owner/app ${digestOf(long)}`);
    one.forwarding.moved();
    await until(() => upstream.uploads[0]?.bytes.length === MIB);
    one.forwarding.expect(digestOf(long));
    one.add(long.subarray(MIB));
    assert.equal(await one.finish(), 'miss');
    assert.equal(count('ask'), 0);
  });

  test('that is something else than it said is sent', async () => {
    const { upload, upstream } = setUp();
    const one = upload();
    upstream.held.add(`owner/app ${digestOf(Buffer.from('promised'))}`);
    one.forwarding.expect(digestOf(Buffer.from('promised')));
    one.add(long);
    assert.equal(await one.finish(), 'miss');
    assert.deepEqual(upstream.uploads.at(-1)?.bytes, long);
  });

  test('that leaves ends its forward, if nobody else is with it, and begins none', async () => {
    const { upload, upstream } = setUp();
    const [first, second] = [upload(prefix), upload(prefix)];
    first.forwarding.moved();
    await until(() => upstream.uploads[0]?.bytes.length === MIB);
    first.forwarding.leave();
    await turns(20);
    second.forwarding.moved();
    second.forwarding.leave();
    await turns(20);
    assert.equal(upstream.uploads.length, 1);
    const third = upload(prefix);
    assert.equal(await third.finish(), 'miss', 'what was left is not joined');
  });

  test('that comes while a forward is being given up has another one, which others join', async () => {
    const { upload, upstream } = setUp();
    const gate = Promise.withResolvers<void>();
    upstream.starting.push(gate.promise);
    const [first, second, third] = [upload(prefix), upload(prefix), upload(prefix)];
    first.forwarding.moved();
    await until(() => upstream.done.length === 1);
    first.forwarding.leave();
    second.forwarding.moved();
    await until(() => upstream.uploads[0]?.bytes.length === MIB);
    // The end of the first one is not the end of what has taken its place.
    gate.resolve();
    await turns(20);
    second.forwarding.assertWanted();
    third.forwarding.moved();
    await turns(20);
    second.add('end');
    assert.equal(await second.finish(), 'miss');
    assert.equal(await third.add('end').finish(), 'joined');
    assert.equal(upstream.uploads.filter(({ bytes }) => bytes.length > 0).length, 1);
  });

  test('that rests lets go of the upstream, and is sent anew when there is more', async () => {
    const { upload, upstream, count } = setUp();
    const one = upload(prefix);
    one.forwarding.moved();
    await until(() => upstream.uploads[0]?.bytes.length === MIB);
    one.forwarding.rest();
    await turns(20);
    assert.equal(count('start'), 1);
    one.add('more');
    await until(() => upstream.uploads[1]?.bytes.length === MIB + 4);
    one.forwarding.rest();
    await turns(20);
    assert.equal(await one.finish(), 'miss');
    assert.equal(upstream.uploads[2]?.bytes.length, MIB + 4);
  });
});

describe('an upload that can be read only once', () => {
  test('has a forward to itself from then on, begun at once', async () => {
    const { upload, upstream, count } = setUp();
    const [first, second] = [upload(prefix), upload(prefix)];
    for (const one of [first, second]) one.forwarding.moved();
    await until(() => upstream.uploads[0]?.bytes.length === MIB);
    second.isSingleUse = true;
    second.forwarding.alone();
    second.forwarding.alone();
    await until(() => upstream.uploads[1]?.bytes.length === MIB);
    second.add('another end');
    first.add('e');
    await turns(20);
    assert.equal(upstream.uploads[0]?.bytes.length, MIB + 1, 'of the second it gets nothing');
    assert.equal(await second.finish(), 'miss');
    assert.equal(await first.add('nd').finish(), 'miss');
    assert.equal(count('stream'), 2);
    assert.deepEqual(
      upstream.uploads.map(({ bytes }) => bytes.length - MIB),
      [3, 11],
    );
  });

  test('is joined by nobody', async () => {
    const { upload, upstream } = setUp();
    const [fleeting, other] = [upload(prefix), upload(prefix)];
    fleeting.isSingleUse = true;
    fleeting.forwarding.alone();
    await until(() => upstream.uploads[0]?.bytes.length === MIB);
    assert.equal(await other.finish(), 'miss');
    assert.equal(upstream.uploads.length, 2);
    assert.equal(await fleeting.finish(), 'miss');
  });

  test('is refused with what its forward failed with, whatever that is', async () => {
    for (const code of ['UPSTREAM_UNAVAILABLE', 'BLOB_UPLOAD_UNKNOWN', 'DENIED'] as const) {
      const { upload, upstream } = setUp();
      const failure = error(code);
      upstream.starting.push(failure);
      const one = upload(prefix);
      one.isSingleUse = true;
      one.forwarding.alone();
      await until(() => one.refused > 0);
      assert.throws(() => one.forwarding.assertWanted(), failure);
      await assert.rejects(one.finish(), failure);
      assert.equal(one.refused, 1);
      assert.equal(upstream.uploads.length, 0);
    }
  });

  test('is refused when it turns out at its end', async () => {
    const { upload, upstream } = setUp();
    const failure = error('UPSTREAM_UNAVAILABLE');
    upstream.closing.push(failure);
    const one = upload(prefix);
    one.isSingleUse = true;
    one.forwarding.alone();
    await until(() => upstream.uploads[0]?.bytes.length === MIB);
    await assert.rejects(one.finish(), failure);
    assert.equal(upstream.uploads.length, 1);
  });
});

describe('an upload whose forward fails', () => {
  for (const code of ['DENIED', 'UNAUTHORIZED', 'TOO_LARGE', 'UNSUPPORTED'] as const) {
    test(`with ${code} is refused at once: nobody needs to send the rest`, async () => {
      const { upload, upstream } = setUp();
      const refusal = error(code);
      upstream.starting.push(refusal);
      const [one, with_] = [upload(prefix), upload(prefix)];
      one.forwarding.assertWanted();
      for (const each of [one, with_]) each.forwarding.moved();
      await until(() => one.refused > 0);
      for (const each of [one, with_]) {
        assert.throws(() => each.forwarding.assertWanted(), refusal);
        await assert.rejects(each.finish(), refusal);
        assert.equal(each.refused, 1);
      }
      assert.equal(upstream.uploads.length, 0);
    });
  }

  test('because the upstream is away is not refused, and goes up as a whole when it is complete', async () => {
    const { upload, upstream, clock } = setUp();
    for (let i = 0; i < 4; i++) upstream.starting.push(error('UPSTREAM_UNAVAILABLE'));
    const one = upload(prefix);
    one.forwarding.moved();
    await until(() => clock.sleptMs.length === 3);
    await turns(20);
    one.forwarding.assertWanted();
    assert.equal(one.refused, 0);
    one.add('end');
    assert.equal(await one.finish(), 'miss');
    assert.deepEqual(upstream.done.slice(-3), ['ask owner/app', 'start owner/app', 'put owner/app']);
  });

  test('as a whole is told why, and can be finished once more', async () => {
    const { upload, upstream, count } = setUp();
    const failures = Array.from({ length: 4 }, () => error('UPSTREAM_TIMEOUT'));
    upstream.starting.push(...failures);
    const one = upload('short');
    await assert.rejects(one.finish(), failures[3]);
    assert.equal(count('start'), 4, 'trying the same anew is nothing new');
    one.forwarding.assertWanted();
    assert.equal(await one.finish(), 'miss');
    assert.equal(String(upstream.uploads[0]?.bytes), 'short');
  });

  test('as a stream, and then as a whole, is told why, and can be finished once more', async () => {
    const { upload, upstream, clock } = setUp();
    upstream.starting.push(...Array.from({ length: 8 }, () => error('UPSTREAM_UNAVAILABLE')));
    const one = upload(long);
    one.forwarding.moved();
    await until(() => clock.sleptMs.length === 3);
    await turns(20);
    await assert.rejects(one.finish(), { code: 'UPSTREAM_UNAVAILABLE' });
    assert.equal(upstream.starting.length, 0);
    assert.equal(await one.finish(), 'miss');
    assert.deepEqual(upstream.uploads.at(-1)?.bytes, long);
  });

  test('because its server leaves is told so', async () => {
    const { upload, upstream, leaving } = setUp();
    const one = upload(prefix);
    one.forwarding.moved();
    await until(() => upstream.uploads[0]?.bytes.length === MIB);
    const reason = new Error('the server is leaving');
    leaving.abort(reason);
    await assert.rejects(one.finish(), reason);
  });
});

test('an upload is asked to wait by the forward that it is with, and by none when there is none', async () => {
  const { upload, upstream } = setUp();
  const gate = Promise.withResolvers<void>();
  upstream.starting.push(gate.promise);
  const one = upload(prefix);
  assert.equal(one.forwarding.keepUp(100 * MIB), undefined);
  one.forwarding.moved();
  await until(() => upstream.done.length === 1);
  assert.equal(one.forwarding.keepUp(16 * MIB), undefined);
  const waiting = one.forwarding.keepUp(16 * MIB + 1);
  assert.ok(waiting instanceof Promise);
  gate.resolve();
  await waiting;
});
