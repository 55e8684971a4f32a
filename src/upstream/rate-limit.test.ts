import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import type { ErrorCode, RegistryError } from '../oci/errors.ts';
import { RateLimit } from './rate-limit.ts';

function setUp(offline = false) {
  const clock = new TestClock();
  const limit = new RateLimit({ name: 'ghcr.io', offline, clock });
  const assertClosed = (code: ErrorCode, said: RegExp, retryAfterMs: number | undefined) =>
    assert.throws(
      () => limit.check(),
      (error: RegistryError) => {
        assert.deepEqual([error.code, error.retryAfterMs], [code, retryAfterMs]);
        assert.match(error.message, said);
        return true;
      },
    );
  return { clock, limit, assertClosed };
}

describe('an upstream', () => {
  test('that is offline is never asked, and an error says which key of the config does that', () => {
    const { clock, assertClosed } = setUp(true);
    clock.advance(1e9);
    assertClosed('UPSTREAM_UNAVAILABLE', /upstreams: ghcr\.io: offline/, undefined);
  });

  test('that limits our rate is not asked until that is over, whatever the wall clock says', () => {
    for (const byMs of [-3_600_000, 3_600_000]) {
      const { limit, clock, assertClosed } = setUp();
      limit.check();
      limit.limited(10_000);
      clock.set(byMs);
      assertClosed('TOOMANYREQUESTS', /asked again in 10 s/, 10_000);
      clock.advance(9_001);
      assertClosed('TOOMANYREQUESTS', /asked again in 1 s/, 999);
      clock.advance(999);
      limit.check();
    }
  });

  test('is held to the longest of several limits', () => {
    const { limit, clock, assertClosed } = setUp();
    limit.limited(10_000);
    limit.limited(1_000);
    clock.advance(5_000);
    assertClosed('TOOMANYREQUESTS', /5 s/, 5_000);
    limit.limited(6_000);
    assertClosed('TOOMANYREQUESTS', /6 s/, 6_000);
  });
});
