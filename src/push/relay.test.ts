// What a relay sends, and from where. What becomes of it when either side fails is in relay-retries.test.ts.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { accepted, errorOf, FakeWrites, failed, soon, startRelay, TestSource } from '../../test/support/fake-writes.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { StorageFailure } from '../oci/errors.ts';
import type { Relay } from './relay.ts';

const MIB = 1024 * 1024;

describe('a relay of content that is still coming', () => {
  test('is one stream that follows it, closed when it is complete', async () => {
    const source = new TestSource('one');
    const { relay, upstream, ended } = startRelay(source);
    await soon(() => upstream.uploads[0]?.toString() === 'one');
    for (const [text, sofar] of [
      [' two', 'one two'],
      [' three', 'one two three'],
    ] as const) {
      await turns(20);
      source.add(text);
      relay.offer(source);
      await soon(() => upstream.uploads[0]?.toString() === sofar);
    }
    assert.equal(ended.result, undefined);
    // The last bytes and the end may come together.
    source.add(' end').end();
    relay.offer(source);
    assert.deepEqual(await relay.result, accepted(source));
    assert.equal(upstream.uploads[0]?.toString(), 'one two three end');
    assert.deepEqual(upstream.done, ['location', 'start', 'stream to /0', 'close /0?streamed']);
    assert.equal(source.openReaders, 0);
  });

  test('may start with nothing at all, and end with nothing', async () => {
    const source = new TestSource();
    const { relay, upstream } = startRelay(source);
    await turns(20);
    source.end();
    relay.offer(source);
    assert.deepEqual(await relay.result, accepted(source));
    assert.deepEqual(upstream.done, ['location', 'start', 'stream to /0', 'close /0?streamed']);
  });

  test('sends each byte once, of content of many chunks that comes in odd pieces', async () => {
    const bytes = bytesOf(randomContent(3 * MIB + 7, 'pieces'));
    const source = new TestSource();
    const { relay, upstream } = startRelay(source);
    for (let at = 0; at < bytes.length; at += 333_333) {
      source.add(bytes.subarray(at, at + 333_333));
      relay.offer(source);
      await turns();
    }
    source.end();
    relay.offer(source);
    assert.deepEqual(await relay.result, accepted(source));
    assert.deepEqual(upstream.uploads, [bytes]);
    assert.equal(source.readBytes, bytes.length);
  });

  test('waits for a place and for an upload to be opened, then sends what has come meanwhile', async () => {
    const upstream = new FakeWrites();
    const [place, start] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    upstream.beforePlace = place.promise;
    upstream.starting.push(start.promise);
    const source = new TestSource('a');
    const { relay } = startRelay(source, upstream);
    await turns(20);
    assert.deepEqual(upstream.done, []);
    place.resolve();
    await soon(() => upstream.done.length === 2);
    source.add('bc').end();
    relay.offer(source);
    start.resolve();
    assert.deepEqual(await relay.result, accepted(source));
    assert.deepEqual(upstream.uploads.map(String), ['abc']);
  });

  test('starts from the first byte when the request is made again, and ends the reading before', async () => {
    const upstream = new FakeWrites();
    const source = new TestSource('begin');
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
    const { relay } = startRelay(source, upstream);
    await soon(() => upstream.uploads[0]?.toString() === 'begin');
    source.add(' end').end();
    relay.offer(source);
    assert.deepEqual(await relay.result, accepted(source));
    assert.ok(isFirstOver);
    assert.equal(upstream.uploads[0]?.toString(), 'begin end');
    assert.equal(source.openReaders, 0);
  });

  test('fails, and is not tried again, when the bytes cannot be read', async () => {
    for (const failure of [new Error('EIO'), new StorageFailure('the disk cannot be read')]) {
      const source = new TestSource('begin');
      const { relay, upstream, clock } = startRelay(source);
      await soon(() => upstream.uploads[0]?.length === 5);
      source.failure = failure;
      source.add('more');
      relay.offer(source);
      assert.deepEqual(await relay.result, failed(failure));
      assert.equal(upstream.done.at(-1), 'cancel /0');
      assert.equal(source.openReaders, 0);
      assert.deepEqual(clock.sleptMs, []);
    }
  });
});

describe('a relay of complete content', () => {
  test('asks whether the upstream has it, and sends nothing then', async () => {
    const source = new TestSource('whole').end();
    const upstream = new FakeWrites();
    upstream.hold(source.digest);
    const { relay } = startRelay(source, upstream);
    assert.deepEqual(await relay.result, accepted(source));
    assert.deepEqual(upstream.done, ['ask']);
  });

  for (const [what, bytes] of [
    ['of several chunks', bytesOf(randomContent(MIB, 'whole'))],
    ['of nothing', Buffer.alloc(0)],
  ] as const) {
    test(`sends it in one request if the upstream lacks it, ${what}`, async () => {
      const source = new TestSource(bytes).end();
      const upstream = new FakeWrites();
      const { relay } = startRelay(source, upstream);
      assert.deepEqual(await relay.result, accepted(source));
      assert.deepEqual(upstream.done, ['ask', 'location', 'start', `put ${bytes.length} bytes to /0`]);
      assert.deepEqual(upstream.uploads, [bytes]);
      assert.equal(source.openReaders, 0);
    });
  }
});

describe('a relay that another source is offered to', () => {
  test('reads on from that one, where it is, if it has more', async () => {
    const [slow, fast] = [new TestSource('0123'), new TestSource('01234567')];
    const { relay, upstream } = startRelay(slow);
    await soon(() => upstream.uploads[0]?.length === 4);
    relay.offer(fast);
    await soon(() => upstream.uploads[0]?.length === 8);
    slow.add('45678');
    relay.offer(slow);
    await soon(() => upstream.uploads[0]?.length === 9);
    fast.add('89').end();
    relay.offer(fast);
    assert.deepEqual(await relay.result, accepted(fast));
    assert.deepEqual(upstream.uploads.map(String), ['0123456789']);
    assert.deepEqual(upstream.done, ['location', 'start', 'stream to /0', 'close /0?streamed']);
    assert.equal(slow.readBytes + fast.readBytes, 10, 'no byte is read twice');
    assert.deepEqual([slow.openReaders, fast.openReaders], [0, 0]);
  });

  test('does not if that one has less, unless it is complete', async () => {
    const [source, other] = [new TestSource('0123456'), new TestSource('0123')];
    const { relay, upstream } = startRelay(source);
    await soon(() => upstream.uploads[0]?.length === 7);
    relay.offer(other);
    source.add('789');
    await soon(() => upstream.uploads[0]?.length === 10);
    assert.equal(other.readBytes, 0);
    // Which proves that the content is another one: it goes up from the first byte.
    relay.offer(other.end());
    assert.deepEqual(await relay.result, accepted(other));
    assert.deepEqual(upstream.uploads.map(String), ['0123456789', '0123']);
  });

  test('keeps to a source that is complete', async () => {
    const upstream = new FakeWrites();
    const asked = Promise.withResolvers<void>();
    upstream.holding = asked.promise;
    const whole = new TestSource('whole').end();
    const { relay } = startRelay(whole, upstream);
    await soon(() => upstream.done.length === 1);
    relay.offer(new TestSource('something else, and longer'));
    relay.offer(new TestSource('as complete as the first').end());
    asked.resolve();
    assert.deepEqual(await relay.result, accepted(whole));
    assert.deepEqual(upstream.uploads.map(String), ['whole']);
  });

  test('sends the complete one as a whole if the bytes before were of something else', async () => {
    const [wrong, right] = [new TestSource('same, then a'), new TestSource('same, then b and more')];
    const { relay, upstream, warnings } = startRelay(wrong);
    await soon(() => upstream.uploads[0]?.length === 12);
    relay.offer(right.end());
    assert.deepEqual(await relay.result, accepted(right));
    assert.deepEqual(upstream.uploads.map(String), ['same, then a and more', 'same, then b and more']);
    assert.deepEqual(upstream.done.slice(3), [
      ...['close /0?streamed', 'cancel /0', 'ask', 'location', 'start'],
      'put 21 bytes to /1',
    ]);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? '', /push to ghcr\.io\/owner\/app broke at byte 21 and starts again: DIGEST_INVALID/);
    assert.deepEqual([wrong.openReaders, right.openReaders], [0, 0]);
  });

  test('goes on when the one before leaves, and is abandoned when its present one does', async () => {
    const [before, present] = [new TestSource('01'), new TestSource('0123')];
    const { relay, upstream, ended, clock } = startRelay(before);
    await soon(() => upstream.uploads[0]?.length === 2);
    relay.offer(present);
    await soon(() => upstream.uploads[0]?.length === 4);
    relay.leave(before);
    await turns(20);
    assert.equal(ended.result, undefined);
    assert.equal(relay.isOpen, true);
    relay.leave(present);
    assert.equal(relay.isOpen, false);
    assert.deepEqual(await relay.result, { abandoned: true });
    assert.equal(upstream.done.at(-1), 'cancel /0');
    assert.deepEqual(clock.sleptMs, []);
    assert.deepEqual([before.openReaders, present.openReaders], [0, 0]);
  });
});

describe('keeping up', () => {
  const LEAD = 16 * MIB;

  /** A relay whose upstream takes what the test lets it take. */
  async function held(source: TestSource) {
    const upstream = new FakeWrites();
    let takeMore = Promise.withResolvers<void>();
    const next = () => {
      takeMore.resolve();
      takeMore = Promise.withResolvers();
    };
    upstream.receiving.push(async bytes => {
      for await (const _ of bytes()) await takeMore.promise;
    });
    const set = startRelay(source, upstream);
    await soon(() => source.readBytes > 0);
    return { ...set, next };
  }

  test('is not asked of a writer that is not far ahead of what was sent', async () => {
    const source = new TestSource(Buffer.alloc(MIB));
    const { relay, shutdown } = await held(source);
    const sent = source.readBytes;
    for (const written of [0, MIB, LEAD, sent + LEAD]) assert.equal(relay.keepUp(written), undefined);
    assert.ok(relay.keepUp(sent + LEAD + 1) instanceof Promise);
    shutdown.abort(new Error('enough'));
  });

  test('lasts until enough was sent, and no longer', async () => {
    const source = new TestSource(Buffer.alloc(8 * MIB));
    const { relay, next, shutdown } = await held(source);
    const chunk = source.readBytes;
    let isOver = false;
    const waiting = relay.keepUp(LEAD + 3 * chunk)?.then(() => {
      isOver = true;
    });
    assert.ok(waiting instanceof Promise);
    for (let sent = chunk; sent < 3 * chunk; sent += chunk) {
      await turns(20);
      assert.equal(source.readBytes, sent);
      assert.equal(isOver, false);
      next();
    }
    // That the last of it was taken shows when more is wanted.
    await turns(20);
    next();
    await waiting;
    assert.equal(source.readBytes, 4 * chunk);
    shutdown.abort(new Error('enough'));
  });

  for (const [end, finish] of [
    ['is accepted', (source: TestSource) => source.end()],
    ['is abandoned', (source: TestSource, relay: Relay) => relay.leave(source)],
  ] as const) {
    test(`is over when the relay ${end}`, async () => {
      const source = new TestSource(Buffer.alloc(MIB));
      const { relay, next } = await held(source);
      const waiting = [relay.keepUp(100 * LEAD), relay.keepUp(200 * LEAD)];
      finish(source, relay);
      relay.offer(source);
      const ending = setInterval(next);
      await relay.result;
      clearInterval(ending);
      await Promise.all(waiting);
      assert.equal(relay.keepUp(100 * LEAD), undefined);
    });
  }

  test('is over when the relay has failed', async () => {
    const source = new TestSource(Buffer.alloc(MIB));
    const upstream = new FakeWrites();
    const gate = Promise.withResolvers<void>();
    upstream.receiving.push(() => gate.promise);
    const { relay } = startRelay(source, upstream);
    await soon(() => upstream.done.length === 3);
    const waiting = relay.keepUp(LEAD + 1);
    assert.ok(waiting instanceof Promise);
    gate.reject(errorOf('DENIED'));
    await waiting;
    assert.equal(relay.keepUp(LEAD + 1), undefined);
  });
});
