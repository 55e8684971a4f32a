// What becomes of a relay whose client pauses: it holds neither connection nor permit, and begins anew with more.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { accepted, FakeWrites, soon, startRelay, TestSource } from '../../test/support/fake-writes.ts';

const MIB = 1024 * 1024;

describe('a relay whose client pauses', () => {
  test('rests after two seconds, also when bytes trickle, and sends all when all is here', async () => {
    const source = new TestSource(Buffer.alloc(MIB));
    const { relay, upstream, clock } = startRelay(source);
    await soon(() => relay.sentBytes === MIB);
    await clock.pass(2);
    assert.equal(upstream.places, 1, 'it has just sent');
    for (let second = 0; second < 10; second++) {
      relay.offer(source.add('a byte'));
      await clock.pass(1);
    }
    assert.equal(upstream.places, 0);
    assert.equal(upstream.count('cancel'), 1);
    assert.equal(relay.keepUp(100 * MIB), undefined, 'the client may run ahead');
    relay.offer(source.end());
    assert.deepEqual(await relay.result, accepted(source));
    assert.equal(upstream.count('stream'), 1);
    assert.equal(upstream.count('put'), 1);
  });

  test('begins again with twice as much, so that little is sent more than once', async () => {
    const source = new TestSource(Buffer.alloc(MIB));
    const { relay, upstream, clock } = startRelay(source);
    let sentBytes = 0;
    for (let mebibytes = 1; mebibytes <= 32; mebibytes++) {
      await turns(20);
      await clock.pass(5);
      sentBytes = upstream.uploads.reduce((sum, { length }) => sum + length, 0);
      relay.offer(source.add(Buffer.alloc(MIB)));
    }
    assert.ok(upstream.count('stream') <= 6, `${upstream.count('stream')} streams`);
    assert.ok(sentBytes <= 2 * 33 * MIB, `${sentBytes} bytes`);
    relay.offer(source.end());
    assert.deepEqual(await relay.result, accepted(source));
  });

  test('goes on while it sends at a fair rate, and while the upstream is slow to accept', async () => {
    const source = new TestSource(Buffer.alloc(MIB));
    const upstream = new FakeWrites();
    const closing = Promise.withResolvers<void>();
    upstream.closing.push(closing.promise);
    const { relay, clock } = startRelay(source, upstream);
    for (let second = 0; second < 10; second++) {
      relay.offer(source.add(Buffer.alloc(40 * 1024)));
      await turns(5);
      await clock.pass(1);
    }
    relay.offer(source.end());
    await soon(() => upstream.count('close') === 1);
    assert.equal(upstream.places, 0, 'no bytes move any more');
    await clock.pass(60);
    closing.resolve();
    assert.deepEqual(await relay.result, accepted(source));
    assert.equal(upstream.count('stream'), 1);
  });

  for (const [isContended, seconds] of [
    [false, 30],
    [true, 2],
  ] as const) {
    test(`is given up after ${seconds} s when its bytes cannot be sent again and ${isContended ? 'others' : 'none'} wait`, async () => {
      const source = new TestSource(Buffer.alloc(MIB), { isSingleUse: true });
      const upstream = new FakeWrites();
      upstream.isContended = isContended;
      const { relay, clock, ended } = startRelay(source, upstream);
      await soon(() => relay.sentBytes === MIB);
      await clock.pass(seconds);
      assert.equal(ended.result, undefined);
      await clock.pass(1);
      const result = await relay.result;
      assert.match('failure' in result ? result.failure.message : '', new RegExp(`stood still for ${seconds} s`));
      assert.equal(upstream.places, 0);
    });
  }
});
