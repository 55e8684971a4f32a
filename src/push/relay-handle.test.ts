// When an upload gets a relay, which one, and what becomes of the upload when that one ends.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { APP, errorOf, OTHER, soon, startRelays, TestSource } from '../../test/support/fake-writes.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import { RelayHandle } from './relay-handle.ts';
import type { Relays } from './relays.ts';

const MIB = 1024 * 1024;
const bytes = bytesOf(randomContent(2 * MIB, 'handle'));
const digest = digestOf(bytes);
const half = bytes.subarray(0, MIB);

/** An upload, as far as its way to the upstream is concerned. */
class TestUpload extends TestSource {
  readonly repository: typeof APP;
  readonly relay: RelayHandle;
  failed = 0;

  constructor(relays: Relays, repository = APP) {
    super();
    this.repository = repository;
    this.relay = new RelayHandle(relays, this, () => {
      this.failed++;
    });
  }

  /** As a client's chunk does; what it gives asks the client to wait. */
  receive(chunk: Uint8Array | string): Promise<void> | undefined {
    this.add(chunk);
    return this.relay.keepUp(this.ingest.writtenBytes);
  }

  finish(as: Digest = this.digest) {
    this.complete = this.digest;
    const finishing = this.relay.finish(as);
    finishing.catch(() => {});
    return finishing;
  }
}

function setUp() {
  const set = startRelays();
  const upload = (chunk: Uint8Array | string = '', repository = APP) => {
    const made = new TestUpload(set.relays, repository);
    made.receive(chunk);
    return made;
  };
  return { ...set, upload };
}

describe('an upload', () => {
  test('is sent while it is coming, as soon as its first MiB is here', async () => {
    const { upload, upstream } = setUp();
    const one = upload(bytes.subarray(0, MIB - 1));
    await turns(20);
    assert.deepEqual(upstream.done, []);
    one.receive(bytes.subarray(MIB - 1, MIB));
    await soon(() => upstream.uploads[0]?.length === MIB);
    one.receive(bytes.subarray(MIB));
    await soon(() => upstream.uploads[0]?.length === 2 * MIB);
    assert.deepEqual(upstream.done, ['start', 'stream to /0']);
    assert.equal(await one.finish(), 'miss');
    assert.deepEqual(upstream.done, ['start', 'stream to /0', 'close /0?streamed']);
  });

  test('that is shorter is sent as a whole when it is complete, even if it is empty', async () => {
    for (const short of ['short', '']) {
      const { upload, upstream } = setUp();
      assert.equal(await upload(short).finish(), 'miss');
      assert.deepEqual(upstream.done, ['ask', 'start', `put ${short.length} bytes to /0`]);
      assert.equal(String(upstream.uploads[0]), short);
    }
  });

  test('is asked to wait by its relay, and by none if it has none', async () => {
    const { upload, upstream } = setUp();
    const gate = Promise.withResolvers<void>();
    upstream.starting.push(gate.promise);
    const one = upload();
    assert.equal(one.relay.keepUp(100 * MIB), undefined);
    await soon(() => upstream.done.length === 1);
    assert.equal(one.relay.keepUp(16 * MIB), undefined);
    const waiting = one.relay.keepUp(16 * MIB + 1);
    assert.ok(waiting instanceof Promise);
    one.add(half);
    gate.resolve();
    await waiting;
  });

  test('that rests releases the upstream, and is sent again when there is more', async () => {
    const { upload, upstream } = setUp();
    const one = upload(half);
    await soon(() => upstream.uploads[0]?.length === MIB);
    one.relay.rest();
    await turns(20);
    assert.equal(upstream.done.at(-1), 'cancel /0');
    one.receive('more');
    await soon(() => upstream.uploads[1]?.length === MIB + 4);
    one.relay.rest();
    await turns(20);
    assert.equal(await one.finish(), 'miss');
    assert.equal(upstream.uploads[2]?.length, MIB + 4);
    assert.equal(one.failed, 0);
  });

  test('that rests before it is known whether it has to be sent starts no relay', async () => {
    const { upload, upstream } = setUp();
    const gate = Promise.withResolvers<void>();
    upstream.holding = gate.promise;
    const one = upload();
    one.relay.expect(digest);
    one.receive(half);
    one.relay.rest();
    gate.resolve();
    await turns(20);
    assert.deepEqual(upstream.done, ['ask']);
  });
});

describe('an upload whose digest is named before its bytes', () => {
  test('is not sent if the upstream has it', async () => {
    const { upload, upstream } = setUp();
    const one = upload();
    upstream.hold(digest);
    one.relay.expect(digest);
    one.receive(bytes);
    await turns(20);
    assert.equal(await one.finish(), 'revalidated');
    assert.deepEqual(upstream.done, ['ask']);
  });

  test('is sent if the upstream lacks it or does not say', async () => {
    for (const isSaid of [true, false]) {
      const { upload, upstream } = setUp();
      if (!isSaid) upstream.holding = Promise.reject(errorOf('UPSTREAM_UNAVAILABLE'));
      const one = upload();
      one.relay.expect(digest);
      await turns(20);
      upstream.holding = Promise.resolve();
      one.receive(bytes);
      assert.equal(await one.finish(), 'miss');
      assert.equal(upstream.count('start'), 1);
    }
  });

  test('goes on if it is being sent already', async () => {
    const { upload, upstream } = setUp();
    const one = upload(half);
    upstream.hold(digest);
    await soon(() => upstream.uploads[0]?.length === MIB);
    one.relay.expect(digest);
    one.receive(bytes.subarray(MIB));
    assert.equal(await one.finish(), 'miss');
    assert.equal(upstream.count('ask'), 0);
  });

  test('is sent if it turns out to be something else', async () => {
    const { upload, upstream } = setUp();
    const one = upload();
    const named = digestOf(Buffer.from('named'));
    upstream.hold(named);
    one.relay.expect(named);
    one.receive(bytes);
    assert.equal(await one.finish(), 'miss');
    assert.deepEqual(upstream.uploads.at(-1), bytes);
  });

  /** Two uploads that name the same digest; the first is on its way. */
  async function two() {
    const set = setUp();
    const [first, second] = [set.upload(), set.upload()];
    first.relay.expect(digest);
    first.receive(half);
    await soon(() => set.upstream.uploads[0]?.length === MIB);
    second.relay.expect(digest);
    second.receive(half);
    await turns(20);
    return { ...set, first, second };
  }

  test('joins the relay of another one at once, and does not ask the upstream', async () => {
    const { first, second, upstream } = await two();
    assert.equal(upstream.count('ask'), 1);
    first.receive(bytes.subarray(MIB));
    assert.equal(await first.finish(), 'miss');
    // What comes when the relay is over is not sent.
    second.receive(bytes.subarray(MIB));
    assert.equal(await second.finish(), 'joined');
    assert.equal(upstream.count('start'), 1);
  });

  test('shares the relay of another one, whichever is finished first', async () => {
    for (const order of [
      [0, 1],
      [1, 0],
    ]) {
      const { first, second, upstream } = await two();
      const uploads = [first, second] as const;
      const outcomes: string[] = [];
      for (const i of order) {
        const each = uploads[i] ?? assert.fail();
        each.receive(bytes.subarray(MIB));
        outcomes[i] = await each.finish();
      }
      assert.deepEqual(outcomes, ['miss', 'joined']);
      assert.deepEqual(upstream.uploads, [bytes]);
      assert.equal(upstream.count('start'), 1);
    }
  });

  test('does not wait for another one whose client has stopped sending', async () => {
    const { first, second, upstream } = await two();
    const far = Buffer.concat([bytes, Buffer.alloc(16 * MIB)]);
    const waiting = second.receive(far.subarray(MIB));
    assert.ok(waiting instanceof Promise, 'it is far ahead of what the first one has brought');
    await waiting;
    assert.equal(first.failed, 0);
    await soon(() => upstream.uploads[0]?.length === far.length);
  });

  test('gets a relay of its own when the other is given up', async () => {
    const { first, second, upstream } = await two();
    first.relay.rest();
    await turns(20);
    second.receive(bytes.subarray(MIB));
    await soon(() => upstream.uploads[1]?.length === 2 * MIB);
    assert.equal(await second.finish(), 'miss');
    assert.equal(second.failed, 0);
  });

  test('gets it also when it is complete by then', async () => {
    const { first, second, upstream } = await two();
    first.relay.rest();
    second.add(bytes.subarray(MIB));
    assert.equal(await second.finish(), 'miss');
    assert.deepEqual(upstream.uploads.at(-1), bytes);
  });

  test('is denied with the other', async () => {
    const { upload, upstream } = setUp();
    const denied = errorOf('DENIED');
    const gate = Promise.withResolvers<void>();
    upstream.starting.push(gate.promise);
    const uploads = [upload(), upload()];
    for (const each of uploads) {
      each.relay.expect(digest);
      each.receive(half);
    }
    await soon(() => upstream.count('start') === 1);
    gate.reject(denied);
    await soon(() => uploads.every(({ failed }) => failed === 1));
    for (const each of uploads) await assert.rejects(each.finish(), denied);
  });

  test('does not share with one that names another, or goes elsewhere', async () => {
    const { upload, upstream } = setUp();
    const uploads = [upload(), upload(), upload('', OTHER)];
    for (const [i, each] of uploads.entries()) {
      each.relay.expect(i === 1 ? digestOf(half) : digest);
      each.receive(half);
    }
    await soon(() => upstream.uploads.length === 3 && upstream.uploads.every(({ length }) => length === MIB));
  });
});

describe('uploads that turn out to be the same at their end', () => {
  test('go up once if the second is behind when it is finished', async () => {
    const { upload, upstream } = setUp();
    const first = upload(bytes);
    await soon(() => upstream.uploads[0]?.length === 2 * MIB);
    const gate = Promise.withResolvers<void>();
    upstream.closing.push(gate.promise);
    const finished = first.finish();
    const held = Promise.withResolvers<void>();
    upstream.starting.push(held.promise);
    const second = upload(bytes);
    await soon(() => upstream.count('start') === 2);
    const joined = second.finish();
    await turns(20);
    gate.resolve();
    assert.equal(await finished, 'miss');
    assert.equal(await joined, 'joined');
    held.resolve();
    await turns(20);
    assert.deepEqual(upstream.uploads, [bytes, Buffer.alloc(0)]);
    assert.equal(upstream.done.at(-1), 'cancel /1');
  });

  test('both go up if the second is ahead, and both are accepted', async () => {
    const { upload, upstream } = setUp();
    const held = Promise.withResolvers<void>();
    upstream.starting.push(held.promise);
    const first = upload(bytes);
    await soon(() => upstream.count('start') === 1);
    const second = upload(bytes);
    await soon(() => upstream.uploads[0]?.length === 2 * MIB);
    const finished = first.finish();
    assert.equal(await second.finish(), 'miss');
    held.resolve();
    assert.equal(await finished, 'miss');
    assert.deepEqual(upstream.uploads, [bytes, bytes]);
  });

  test('go up once if they are short', async () => {
    const { upload, upstream } = setUp();
    const finishing = ['short', 'short', 'short'].map(text => upload(text).finish());
    assert.deepEqual((await Promise.all(finishing)).toSorted(), ['joined', 'joined', 'miss']);
    assert.equal(upstream.count('put'), 1);
  });
});

describe('an upload that can be read only once', () => {
  test('has a relay of its own from then on, started at once', async () => {
    const { upload, upstream } = setUp();
    const [first, second] = [upload(), upload()];
    for (const each of [first, second]) {
      each.relay.expect(digest);
      each.receive(half);
    }
    await soon(() => upstream.uploads[0]?.length === MIB);
    second.isSingleUse = true;
    second.relay.isolate();
    second.relay.isolate();
    await soon(() => upstream.uploads[1]?.length === MIB);
    second.add('another end');
    await turns(20);
    assert.equal(upstream.uploads[0]?.length, MIB, 'of the second it gets nothing');
    assert.equal(await second.finish(), 'miss');
    assert.equal(await first.finish(), 'miss');
    assert.deepEqual(
      upstream.uploads.map(({ length }) => length - MIB),
      [0, 11],
    );
  });

  test('is not joined, and does not leave its relay for another', async () => {
    const { upload, upstream } = setUp();
    const [once, other] = [upload(half), upload(half)];
    once.isSingleUse = true;
    once.relay.isolate();
    assert.equal(await other.finish(), 'miss');
    assert.equal(await once.finish(), 'miss');
    assert.equal(upstream.uploads.filter(({ length }) => length === MIB).length, 2);
  });

  for (const code of ['UPSTREAM_UNAVAILABLE', 'BLOB_UPLOAD_UNKNOWN', 'DENIED'] as const) {
    test(`fails with what its relay failed with: ${code}`, async () => {
      const { upload, upstream } = setUp();
      const failure = errorOf(code);
      upstream.starting.push(failure);
      const one = upload('begin');
      one.isSingleUse = true;
      one.relay.isolate();
      await soon(() => one.failed > 0);
      assert.throws(() => one.relay.assertWanted(), failure);
      await assert.rejects(one.finish(), failure);
      assert.equal(one.failed, 1);
      assert.equal(upstream.uploads.length, 0);
    });
  }

  test('fails also when that is at its end', async () => {
    const { upload, upstream } = setUp();
    const failure = errorOf('UPSTREAM_UNAVAILABLE');
    upstream.closing.push(failure);
    const one = upload(half);
    one.isSingleUse = true;
    one.relay.isolate();
    await soon(() => upstream.uploads.some(({ length }) => length === MIB));
    const { length } = upstream.uploads;
    await assert.rejects(one.finish(), failure);
    assert.equal(upstream.uploads.length, length);
  });
});

describe('an upload whose relay fails', () => {
  for (const code of ['DENIED', 'UNAUTHORIZED', 'TOO_LARGE', 'UNSUPPORTED'] as const) {
    test(`with ${code} is told at once: the client need not send the rest`, async () => {
      const { upload, upstream } = setUp();
      const failure = errorOf(code);
      upstream.starting.push(failure);
      const one = upload(half);
      one.relay.assertWanted();
      await soon(() => one.failed > 0);
      assert.throws(() => one.relay.assertWanted(), failure);
      await assert.rejects(one.finish(), failure);
      assert.equal(one.failed, 1);
      assert.equal(upstream.uploads.length, 0);
    });
  }

  test('because the upstream is unavailable goes on, and is sent as a whole when it is complete', async () => {
    const { upload, upstream, clock } = setUp();
    for (let i = 0; i < 4; i++) upstream.starting.push(errorOf('UPSTREAM_UNAVAILABLE'));
    const one = upload(half);
    await soon(() => clock.sleptMs.length === 3);
    await turns(20);
    one.relay.assertWanted();
    assert.equal(one.failed, 0);
    one.receive('end');
    assert.equal(await one.finish(), 'miss');
    assert.deepEqual(upstream.done.slice(-3), ['ask', 'start', `put ${MIB + 3} bytes to /0`]);
  });

  test('as a whole is told why, and can be finished again', async () => {
    const { upload, upstream } = setUp();
    const failures = Array.from({ length: 4 }, () => errorOf('UPSTREAM_TIMEOUT'));
    upstream.starting.push(...failures);
    const one = upload('short');
    await assert.rejects(one.finish(), failures[3]);
    assert.equal(upstream.count('start'), 4, 'trying the same again is nothing new');
    one.relay.assertWanted();
    assert.equal(await one.finish(), 'miss');
    assert.equal(String(upstream.uploads[0]), 'short');
  });

  test('as a stream, and then as a whole, is told why, and can be finished again', async () => {
    const { upload, upstream, clock } = setUp();
    upstream.starting.push(...Array.from({ length: 8 }, () => errorOf('UPSTREAM_UNAVAILABLE')));
    const one = upload(bytes);
    await soon(() => clock.sleptMs.length === 3);
    await turns(20);
    await assert.rejects(one.finish(), { code: 'UPSTREAM_UNAVAILABLE' });
    assert.equal(upstream.starting.length, 0);
    assert.equal(await one.finish(), 'miss');
    assert.deepEqual(upstream.uploads.at(-1), bytes);
  });

  test('because the server shuts down is told so', async () => {
    const { upload, upstream, shutdown } = setUp();
    const one = upload(half);
    await soon(() => upstream.uploads[0]?.length === MIB);
    const reason = new Error('the server is shutting down');
    shutdown.abort(reason);
    await assert.rejects(one.finish(), reason);
  });
});
