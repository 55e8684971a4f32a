import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { RegistryError } from '../oci/errors.ts';
import { Trouble } from './transport/trouble.ts';
import { Troubles } from './troubles.ts';

const IMAGE = 'ghcr.io/owner/app:v1';
const FAILED = new RegistryError('UPSTREAM_UNAVAILABLE', 'it answers with 500');

function setUp() {
  const clock = new TestClock();
  const troubles = new Troubles(clock);
  /** How long the image is left alone from now on. */
  const leftAloneMs = (image = IMAGE): number => {
    try {
      troubles.check(image);
      return 0;
    } catch (error) {
      assert.ok(error instanceof Trouble);
      assert.equal(error.mayRetry, false);
      return error.retryAfterMs ?? assert.fail();
    }
  };
  return { clock, troubles, leftAloneMs };
}

describe('an image that was in trouble', () => {
  test('is left alone for a second, then for longer each time, up to ten', () => {
    const { clock, troubles, leftAloneMs } = setUp();
    const pauses = Array.from({ length: 6 }, () => {
      troubles.remember(IMAGE, FAILED);
      const ms = leftAloneMs();
      clock.advance(ms);
      assert.equal(leftAloneMs(), 0);
      return ms;
    });
    assert.deepEqual(pauses, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
  });

  test('fails as it did, and says when it is asked for again', () => {
    const { troubles } = setUp();
    troubles.remember(IMAGE, new RegistryError('UPSTREAM_TIMEOUT', 'no answer in time'));
    assert.throws(() => troubles.check(IMAGE), {
      code: 'UPSTREAM_TIMEOUT',
      message: 'no answer in time; it will be asked for again in 1 s',
    });
  });

  test('says nothing of others', () => {
    const { troubles, leftAloneMs } = setUp();
    troubles.remember(IMAGE, FAILED);
    assert.equal(leftAloneMs('ghcr.io/owner/app:v2'), 0);
  });

  test('starts over once it was had, after a minute without trouble, and when a host has come back', () => {
    const ends = [
      (troubles: Troubles) => troubles.forget(IMAGE),
      (troubles: Troubles) => troubles.clear(),
      (_: Troubles, clock: TestClock) => clock.advance(60_000),
    ];
    for (const end of ends) {
      const { clock, troubles, leftAloneMs } = setUp();
      for (let i = 0; i < 3; i++) troubles.remember(IMAGE, FAILED);
      end(troubles, clock);
      assert.equal(leftAloneMs(), 0);
      troubles.remember(IMAGE, FAILED);
      assert.equal(leftAloneMs(), 1_000);
    }
  });

  test('because its host is, is left alone for a second each time, and not at all where the host is already', () => {
    const { clock, troubles, leftAloneMs } = setUp();
    for (let i = 0; i < 3; i++) {
      troubles.remember(IMAGE, new Trouble('UPSTREAM_UNAVAILABLE', 'reset', { of: 'host', mayRetry: true }));
      assert.equal(leftAloneMs(), 1_000);
      clock.advance(1_000);
    }
    troubles.remember(IMAGE, new Trouble('UPSTREAM_UNAVAILABLE', 'is failing', { of: 'host', mayRetry: false }));
    assert.equal(leftAloneMs(), 0);
  });
});
