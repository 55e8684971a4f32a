// Which relays are shared, and what becomes of those that share one. What a relay does is tested in relay.test.ts.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { APP, errorOf, OTHER, soon, startRelays, TestSource } from '../../test/support/fake-writes.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { digestOf } from '../oci/digest.ts';

const bytes = bytesOf(randomContent(300_000, 'relays'));
const digest = digestOf(bytes);
const whole = () => new TestSource(bytes).end();

/** Holds the relay that comes first until `release`. */
function hold(upstream: ReturnType<typeof startRelays>['upstream']) {
  const gate = Promise.withResolvers<void>();
  upstream.starting.push(gate.promise);
  return gate;
}

describe('content of the same digest that is sent at once', () => {
  test('goes up once, from the first that comes', async () => {
    const { relays, upstream } = startRelays();
    const gate = hold(upstream);
    const sending = [1, 2, 3].map(() => relays.send(APP, digest, whole()));
    await soon(() => upstream.count('start') === 1);
    sending.push(relays.send(APP, digest, whole()));
    gate.resolve();
    assert.deepEqual(await Promise.all(sending), ['miss', 'joined', 'joined', 'joined']);
    assert.deepEqual(upstream.done, ['ask', 'start', 'put 300000 bytes to /0']);
    assert.deepEqual(upstream.uploads, [bytes]);
  });

  test('goes up on its own in another repository, and when the first is over', async () => {
    const { relays, upstream } = startRelays();
    await Promise.all([relays.send(APP, digest, whole()), relays.send(OTHER, digest, whole())]);
    assert.deepEqual(upstream.targets.toSorted(), ['owner/app', 'owner/other']);
    assert.equal(await relays.send(APP, digest, whole()), 'miss');
    assert.equal(upstream.count('ask'), 3);
    assert.equal(upstream.count('put'), 2, 'the upstream has it');
  });

  test('fails with what the first failed with', async () => {
    const { relays, upstream } = startRelays();
    const denied = errorOf('DENIED');
    upstream.starting.push(denied);
    const sending = [1, 2].map(() => relays.send(APP, digest, whole()));
    for (const sent of sending) await assert.rejects(sent, denied);
    assert.equal(upstream.count('start'), 1);
    assert.equal(await relays.send(APP, digest, whole()), 'miss');
  });

  test('does not wait for a source whose client stalls: the relay reads the complete one', async () => {
    const { relays, upstream } = startRelays();
    const stalled = new TestSource(bytes.subarray(0, 100_000));
    const { relay, joined } = relays.join(APP, digest, stalled);
    assert.equal(joined, false);
    await soon(() => upstream.uploads[0]?.length === 100_000);
    assert.equal(await relays.send(APP, digest, whole()), 'joined');
    assert.deepEqual(await relay.result, { accepted: digest });
    assert.deepEqual(upstream.uploads, [bytes]);
  });

  test('is sent when the first is given up', async () => {
    const { relays, upstream } = startRelays();
    const gate = hold(upstream);
    const first = whole();
    const { relay } = relays.join(APP, digest, first);
    await soon(() => upstream.count('start') === 1);
    const second = relays.send(APP, digest, whole());
    relay.leave(first);
    // No one joins a relay that is being given up.
    assert.equal(await relays.send(APP, digest, whole()), 'miss');
    gate.resolve();
    await second;
    assert.equal(upstream.uploads.filter(({ length }) => length > 0).length, 1);
  });

  test('is sent when the first turns out to be something else', async () => {
    const { relays, upstream } = startRelays();
    const gate = hold(upstream);
    const other = new TestSource('something else').end();
    const { relay } = relays.join(APP, digest, other);
    await soon(() => upstream.count('start') === 1);
    const sent = relays.send(APP, digest, whole());
    gate.resolve();
    assert.deepEqual(await relay.result, { accepted: other.digest });
    assert.equal(await sent, 'miss');
    assert.deepEqual(upstream.uploads, [Buffer.from('something else'), bytes]);
  });
});

describe('a relay', () => {
  test('that is shared later is joined from then on', async () => {
    const { relays, upstream } = startRelays();
    const source = new TestSource(bytes.subarray(0, 200_000));
    const { relay } = relays.join(APP, undefined, source);
    await soon(() => upstream.uploads[0]?.length === 200_000);
    assert.equal(relays.find(APP, digest), undefined);
    relays.share(relay, digest);
    assert.equal(relays.find(APP, digest), relay);
    assert.equal(await relays.send(APP, digest, whole()), 'joined');
    assert.equal(relays.find(APP, digest), undefined, 'it is over');
    relays.share(relay, digest);
    assert.equal(relays.find(APP, digest), undefined);
  });

  test('is not replaced by another of the same digest while it goes on', async () => {
    const { relays } = startRelays();
    const [first, second] = [1, 2].map(() => relays.join(APP, undefined, new TestSource('begin')).relay);
    relays.share(first ?? assert.fail(), digest);
    relays.share(second ?? assert.fail(), digest);
    assert.equal(relays.find(APP, digest), first);
  });

  test('of what can be read only once is not shared, and joins none', async () => {
    const { relays, upstream } = startRelays();
    const once = () => new TestSource(bytes, { isSingleUse: true }).end();
    const sending = [once(), once(), whole()].map(source => relays.send(APP, digest, source));
    assert.deepEqual(await Promise.all(sending), ['miss', 'miss', 'miss']);
    assert.ok(upstream.count('put') >= 1);
    assert.equal(upstream.count('ask'), 3);
  });

  test('that failed while bytes were still to come is followed by one of the whole', async () => {
    const { relays, upstream, clock } = startRelays();
    for (let i = 0; i < 4; i++) upstream.starting.push(errorOf('UPSTREAM_UNAVAILABLE'));
    const source = new TestSource(bytes.subarray(0, 200_000));
    const first = relays.join(APP, undefined, source);
    await soon(() => clock.sleptMs.length === 3);
    await first.relay.result;
    source.add(bytes.subarray(200_000)).end();
    assert.equal(await relays.send(APP, digest, source, first), 'miss');
    assert.equal(upstream.done.at(-1), 'put 300000 bytes to /0');
  });

  test('that tried the whole in vain is not followed by another', async () => {
    const { relays, upstream } = startRelays();
    const failures = Array.from({ length: 4 }, () => errorOf('UPSTREAM_TIMEOUT'));
    upstream.starting.push(...failures);
    await assert.rejects(relays.send(APP, digest, whole()), failures[3]);
    assert.equal(upstream.count('start'), 4);
  });

  test('ends when the server shuts down, and so do those that wait for it', async () => {
    const { relays, upstream, shutdown } = startRelays();
    const gate = hold(upstream);
    const sending = [1, 2].map(() => relays.send(APP, digest, whole()));
    await soon(() => upstream.count('start') === 1);
    const reason = new Error('the server is shutting down');
    shutdown.abort(reason);
    gate.resolve();
    for (const sent of sending) await assert.rejects(sent, reason);
  });
});

describe('stored content', () => {
  function storedOf(content: Buffer) {
    const stored = {
      closed: 0,
      sizeBytes: content.length,
      read: async (into: Uint8Array, position: number) => content.copy(into, 0, position),
      close: () => {
        stored.closed++;
      },
    };
    return stored;
  }

  test('is sent to a repository in one request, unless the upstream has it', async () => {
    const { relays, upstream } = startRelays();
    const stored = storedOf(bytes);
    await relays.sendStored(APP, digest, stored);
    assert.deepEqual(upstream.done, ['ask', 'start', 'put 300000 bytes to /0']);
    assert.deepEqual(upstream.uploads, [bytes]);
    await relays.sendStored(APP, digest, stored);
    assert.equal(upstream.uploads.length, 1);
    assert.equal(stored.closed, 0, 'the caller closes what it has opened');
  });

  test('is sent once for all that want it there at once, be they uploads', async () => {
    const { relays, upstream } = startRelays();
    const gate = hold(upstream);
    const sending = [1, 2].map(() => relays.sendStored(APP, digest, storedOf(bytes)));
    const upload = relays.send(APP, digest, whole());
    await turns(20);
    gate.resolve();
    await Promise.all(sending);
    assert.equal(await upload, 'joined');
    assert.equal(upstream.count('put'), 1);
  });

  test('fails with the upstream error', async () => {
    const { relays, upstream } = startRelays();
    const denied = errorOf('DENIED');
    upstream.starting.push(denied);
    await assert.rejects(relays.sendStored(APP, digest, storedOf(bytes)), denied);
  });
});

test('whether the upstream has a blob is no when it does not say', async () => {
  const { relays, upstream } = startRelays();
  assert.equal(await relays.holds(APP, digest), false);
  upstream.hold(digest);
  assert.equal(await relays.holds(APP, digest), true);
  upstream.holding = Promise.reject(errorOf('UPSTREAM_UNAVAILABLE'));
  assert.equal(await relays.holds(APP, digest), false);
});
