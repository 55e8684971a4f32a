import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { APP, errorOf, FakeWrites, OTHER } from '../../test/support/fake-writes.ts';
import { Admission } from './admission.ts';

function setUp() {
  const upstream = new FakeWrites();
  const clock = new TestClock();
  const admission = new Admission({ clock, writes: () => upstream.writes });
  return { admission, upstream, clock };
}

describe('whether the upstream takes pushes', () => {
  test('is asked once for all that ask at once, and counts for a minute, whatever the wall clock says', async () => {
    const { admission, upstream, clock } = setUp();
    await Promise.all([admission.admit(APP), admission.admit(APP), admission.admit(APP)]);
    clock.advance(59_999);
    clock.set(-3_600_000);
    await admission.admit(APP);
    clock.set(7_200_000);
    await admission.admit(APP);
    assert.deepEqual(upstream.done, ['start']);
    clock.set(-7_200_000);
    clock.advance(1);
    await admission.admit(APP);
    assert.deepEqual(upstream.done, ['start', 'start']);
  });

  test('is asked for each repository', async () => {
    const { admission, upstream } = setUp();
    const elsewhere = { upstream: 'quay.io', name: 'owner/app' };
    for (const repository of [APP, OTHER, elsewhere]) await admission.admit(repository);
    assert.deepEqual(upstream.targets, ['owner/app', 'owner/other', 'owner/app']);
  });

  test('is answered with the upstream error, and asked again afterwards', async () => {
    const { admission, upstream } = setUp();
    const denied = errorOf('DENIED');
    upstream.starting.push(denied);
    const asking = [admission.admit(APP), admission.admit(APP)];
    for (const asked of asking) await assert.rejects(asked, denied);
    await admission.admit(APP);
    assert.equal(upstream.done.length, 2);
  });
});

describe('the upload that was opened to ask', () => {
  test('is used once; after it, others are opened', async () => {
    const { admission, upstream } = setUp();
    await admission.admit(APP);
    const locations = [await admission.location(APP), await admission.location(APP)];
    assert.deepEqual(locations.map(String), ['http://upstream/0', 'http://upstream/1']);
    assert.deepEqual(upstream.done, ['start', 'start']);
    // That it was used takes nothing from the yes.
    await admission.admit(APP);
    assert.equal(upstream.done.length, 2);
  });

  for (const [ageMs, path] of [
    [59_999, '/0'],
    [60_000, '/1'],
  ] as const) {
    test(`is ${path === '/0' ? '' : 'not '}used after ${ageMs} ms: an older one may be gone`, async () => {
      const { admission, clock } = setUp();
      await admission.admit(APP);
      clock.advance(ageMs);
      assert.equal((await admission.location(APP)).pathname, path);
    });
  }

  test('is used for its own repository only', async () => {
    const { admission, upstream } = setUp();
    await admission.admit(APP);
    await admission.location(OTHER);
    assert.deepEqual(upstream.targets, ['owner/app', 'owner/other']);
  });

  test('is not needed: where no one has asked, one is opened', async () => {
    const { admission, upstream } = setUp();
    assert.equal((await admission.location(APP)).pathname, '/0');
    assert.deepEqual(upstream.done, ['start']);
  });
});
