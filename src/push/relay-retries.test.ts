// What becomes of a relay when the upstream fails, the source or the server goes away, and when it starts again.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import {
  accepted,
  breakAfter,
  errorOf,
  FakeWrites,
  failed,
  soon,
  startRelay,
  TestSource,
} from '../../test/support/fake-writes.ts';
import { type ErrorCode, RegistryError, StorageFailure } from '../oci/errors.ts';
import { isTransient } from './relay.ts';

describe('a relay that breaks', () => {
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
    test(`with ${code} starts again from the first byte, up to four times, each after a longer pause`, async () => {
      const source = new TestSource('begin');
      const upstream = new FakeWrites();
      const failures = Array.from({ length: 4 }, () => errorOf(code, retryAfterMs));
      for (const failure of failures) upstream.receiving.push(breakAfter(5, failure));
      const { relay, clock, warnings } = startRelay(source, upstream);
      for (let attempt = 1; attempt < 4; attempt++) {
        await soon(() => warnings.length === attempt);
        // There has to be something new for it.
        source.add('+');
        relay.offer(source);
      }
      assert.deepEqual(await relay.result, failed(failures[3] ?? assert.fail(), !isTransient(failures[3])));
      assert.deepEqual(clock.sleptMs, [200, 400, 800]);
      assert.deepEqual(
        upstream.done.filter(line => !/^(location|start)$/.test(line)),
        [0, 1, 2, 3].flatMap(n => [`stream to /${n}`, `cancel /${n}`]),
      );
      assert.equal(source.openReaders, 0);
    });
  }

  test('and gets through at the last attempt is accepted', async () => {
    const source = new TestSource('whole').end();
    const upstream = new FakeWrites();
    for (let i = 0; i < 3; i++) upstream.receiving.push(breakAfter(5, errorOf('UPSTREAM_UNAVAILABLE')));
    const { relay, clock } = startRelay(source, upstream);
    assert.deepEqual(await relay.result, accepted(source));
    assert.deepEqual(clock.sleptMs, [200, 400, 800]);
  });

  test('starts again also when opening or closing the upload failed', async () => {
    const source = new TestSource('bytes');
    const upstream = new FakeWrites();
    upstream.starting.push(errorOf('UPSTREAM_UNAVAILABLE'));
    upstream.closing.push(errorOf('BLOB_UPLOAD_UNKNOWN'));
    const { relay } = startRelay(source, upstream);
    await soon(() => upstream.uploads[0]?.length === 5);
    source.end();
    relay.offer(source);
    assert.deepEqual(await relay.result, accepted(source));
    assert.deepEqual(upstream.uploads.map(String), ['bytes', 'bytes']);
    assert.equal(upstream.done.filter(line => line.startsWith('cancel')).join(), 'cancel /0', 'only what there was');
  });

  test('is found to have got through when only the response was lost', async () => {
    const source = new TestSource('bytes');
    const upstream = new FakeWrites();
    upstream.closing.push(errorOf('UPSTREAM_UNAVAILABLE'));
    const { relay } = startRelay(source, upstream);
    await soon(() => upstream.uploads[0]?.length === 5);
    upstream.hold(source.digest);
    source.end();
    relay.offer(source);
    assert.deepEqual(await relay.result, accepted(source));
    assert.equal(upstream.done.at(-1), 'ask');
  });

  test('because the upstream rejects the digest of a whole is tried once more only: the digest is right', async () => {
    const source = new TestSource('whole').end();
    const upstream = new FakeWrites();
    for (let i = 0; i < 2; i++) upstream.receiving.push(breakAfter(5, errorOf('DIGEST_INVALID')));
    const { relay, clock } = startRelay(source, upstream);
    const result = await relay.result;
    assert.ok('failure' in result && (result.failure as RegistryError).code === 'DIGEST_INVALID');
    assert.deepEqual(clock.sleptMs, [200]);
  });

  test('waits as long as a rate limit says, when that is not long', async () => {
    const upstream = new FakeWrites();
    upstream.starting.push(errorOf('TOOMANYREQUESTS', 5_000));
    const source = new TestSource('whole').end();
    const { relay, clock } = startRelay(source, upstream);
    assert.deepEqual(await relay.result, accepted(source));
    assert.deepEqual(clock.sleptMs, [5_000]);
  });

  const lasting: Error[] = [
    errorOf('DENIED'),
    errorOf('UNAUTHORIZED'),
    errorOf('UNSUPPORTED'),
    errorOf('NAME_UNKNOWN'),
    errorOf('TOO_LARGE'),
    errorOf('UPSTREAM_INVALID'),
    errorOf('TOOMANYREQUESTS', 5_001),
    errorOf('TOOMANYREQUESTS'),
    new StorageFailure('no room'),
    new Error('a bug'),
  ];
  for (const failure of lasting) {
    const what = failure instanceof RegistryError ? `${failure.code} ${failure.retryAfterMs ?? ''}` : 'a bug';
    test(`with ${what} fails at once`, async () => {
      const source = new TestSource('bytes');
      const upstream = new FakeWrites();
      upstream.receiving.push(breakAfter(5, failure));
      const { relay, clock } = startRelay(source, upstream);
      assert.deepEqual(await relay.result, failed(failure, !isTransient(failure)));
      assert.equal(upstream.done.at(-1), 'cancel /0');
      assert.deepEqual(clock.sleptMs, []);
    });
  }

  test('waits for more bytes before it tries again: the upstream may have timed out waiting', async () => {
    const source = new TestSource('begin');
    const upstream = new FakeWrites();
    upstream.receiving.push(breakAfter(5, errorOf('UPSTREAM_UNAVAILABLE')));
    const { relay, clock, warnings, ended } = startRelay(source, upstream);
    await soon(() => warnings.length === 1);
    relay.offer(source);
    await turns(20);
    assert.deepEqual(clock.sleptMs, []);
    assert.equal(upstream.places, 0, 'others may have the place meanwhile');
    assert.equal(upstream.done.at(-1), 'cancel /0');
    source.add(' more');
    relay.offer(source);
    await soon(() => upstream.uploads[1]?.toString() === 'begin more');
    assert.equal(ended.result, undefined);
    source.end();
    relay.offer(source);
    assert.deepEqual(await relay.result, accepted(source));
  });

  for (const how of ['complete', 'replaced by another that has more', 'given up'] as const) {
    test(`does not wait for more bytes when its source is ${how}`, async () => {
      const source = new TestSource('begin');
      const other = new TestSource('begin and end').end();
      const upstream = new FakeWrites();
      upstream.receiving.push(breakAfter(5, errorOf('UPSTREAM_UNAVAILABLE')));
      const { relay, warnings } = startRelay(source, upstream);
      await soon(() => warnings.length === 1);
      if (how === 'given up') relay.leave(source);
      else relay.offer(how === 'complete' ? source.end() : other);
      const result = how === 'given up' ? { abandoned: true } : accepted(how === 'complete' ? source : other);
      assert.deepEqual(await relay.result, result);
    });
  }

  test('because the upstream has closed it too early starts again', async () => {
    const source = new TestSource('begin');
    const upstream = new FakeWrites();
    upstream.receiving.push(async bytes => {
      for await (const _ of bytes()) return;
    });
    const { relay, warnings } = startRelay(source, upstream);
    await soon(() => warnings.length === 1);
    assert.match(warnings[0] ?? '', /before it was complete/);
    source.add(' end').end();
    relay.offer(source);
    assert.deepEqual(await relay.result, accepted(source));
    assert.equal(source.openReaders, 0);
  });

  test('leaves no reading that waits for bytes', async () => {
    const source = new TestSource('begin');
    const upstream = new FakeWrites();
    const failure = errorOf('DENIED');
    let more: Promise<unknown> | undefined;
    // As when an answer comes while the next chunk is still awaited.
    upstream.receiving.push(async bytes => {
      const asked = bytes()[Symbol.asyncIterator]();
      await asked.next();
      more = asked.next();
      throw failure;
    });
    const { relay } = startRelay(source, upstream);
    assert.deepEqual(await relay.result, failed(failure));
    assert.deepEqual(await more, { done: true, value: undefined });
    assert.equal(source.openReaders, 0);
  });

  const reason = new Error('the server is shutting down');
  const points: Record<string, (upstream: FakeWrites) => () => boolean> = {
    'waits for a place': upstream => {
      upstream.beforePlace = turns(20);
      return () => true;
    },
    'is being sent': upstream => () => upstream.uploads[0]?.length === 5,
    'has broken, and waits for more': upstream => {
      upstream.receiving.push(breakAfter(5, errorOf('UPSTREAM_UNAVAILABLE')));
      return () => upstream.done.at(-1) === 'cancel /0';
    },
  };
  for (const [point, prepare] of Object.entries(points)) {
    test(`does not start again when the server shuts down while it ${point}`, async () => {
      const source = new TestSource('begin');
      const upstream = new FakeWrites();
      const reached = prepare(upstream);
      const { relay, shutdown } = startRelay(source, upstream);
      await soon(reached);
      shutdown.abort(reason);
      assert.deepEqual(await relay.result, failed(reason));
      assert.ok(upstream.uploads.length < 2);
      assert.equal(source.openReaders, 0);
    });
  }
});

describe('a relay of content that can be read only once', () => {
  const once = (bytes: string) => new TestSource(bytes, { isSingleUse: true });

  test('sends to an upload that was opened just now, not to one from before', async () => {
    const source = once('bytes');
    const { relay, upstream } = startRelay(source);
    await soon(() => upstream.uploads[0]?.length === 5);
    source.end();
    relay.offer(source);
    assert.deepEqual(await relay.result, accepted(source));
    assert.deepEqual(upstream.done, ['start', 'stream to /0', 'close /0?streamed']);
  });

  for (const code of ['UPSTREAM_UNAVAILABLE', 'BLOB_UPLOAD_UNKNOWN', 'DIGEST_INVALID'] as const) {
    test(`is not tried again after ${code}`, async () => {
      const upstream = new FakeWrites();
      const failure = errorOf(code);
      upstream.receiving.push(breakAfter(5, failure));
      const { relay, clock } = startRelay(once('bytes'), upstream);
      assert.deepEqual(await relay.result, failed(failure));
      assert.deepEqual(clock.sleptMs, []);
    });
  }

  test('is not tried again even if nothing was sent', async () => {
    const upstream = new FakeWrites();
    const failure = errorOf('UPSTREAM_UNAVAILABLE');
    upstream.starting.push(failure);
    const { relay } = startRelay(once('bytes'), upstream);
    assert.deepEqual(await relay.result, failed(failure));
  });
});

test('transient are an upstream that is unavailable and a rate limit, nothing else', () => {
  for (const code of ['UPSTREAM_UNAVAILABLE', 'UPSTREAM_TIMEOUT', 'TOOMANYREQUESTS'] as const) {
    assert.equal(isTransient(errorOf(code)), true);
  }
  for (const code of ['DENIED', 'DIGEST_INVALID', 'UPSTREAM_INVALID', 'UNAVAILABLE'] as const) {
    assert.equal(isTransient(errorOf(code)), false);
  }
  assert.equal(isTransient(new Error('bug')), false);
});
