import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { CircuitBreaker } from './circuit-breaker.ts';

const FAILED = new RegistryError('UPSTREAM_UNAVAILABLE', 'connection refused');
const TIMEOUT = new RegistryError('UPSTREAM_TIMEOUT', 'no answer');

function setUp(offline = false) {
  const clock = new TestClock();
  const breaker = new CircuitBreaker({ name: 'ghcr.io', offline, clock });
  const assertOpen = (code: ErrorCode, said: RegExp, retryAfterMs: number | undefined) =>
    assert.throws(
      () => breaker.check(),
      (error: RegistryError) => {
        assert.equal(error.code, code);
        assert.match(error.message, said);
        assert.equal(error.retryAfterMs, retryAfterMs);
        return true;
      },
    );
  const assertFailing = (retryAfterMs: number) =>
    assertOpen('UPSTREAM_UNAVAILABLE', /ghcr\.io is failing .*: (connection refused|no answer)/, retryAfterMs);
  /** A probe that goes out and fails; the pause that follows, which then passes. */
  const failOnce = (): number => {
    breaker.check();
    breaker.failed(FAILED);
    let pauseMs = 0;
    assert.throws(
      () => breaker.check(),
      (error: RegistryError) => {
        pauseMs = error.retryAfterMs ?? 0;
        return pauseMs > 0;
      },
    );
    clock.advance(pauseMs);
    return pauseMs;
  };
  return { clock, breaker, assertOpen, assertFailing, failOnce };
}

describe('a circuit breaker', () => {
  test('is closed while the upstream answers', () => {
    const { breaker } = setUp();
    for (let i = 0; i < 10; i++) {
      breaker.check();
      breaker.succeeded();
    }
    breaker.check();
  });

  test('of an upstream that is offline is always open, and says which key of the config does that', () => {
    const { breaker, clock, assertOpen } = setUp(true);
    breaker.succeeded();
    clock.advance(1e9);
    assertOpen('UPSTREAM_UNAVAILABLE', /upstreams: ghcr\.io: offline/, undefined);
  });

  test('is open while the upstream limits our rate, and no longer', () => {
    const { breaker, clock, assertOpen } = setUp();
    breaker.rateLimited(10_000);
    assertOpen('TOOMANYREQUESTS', /asked again in 10 s/, 10_000);
    breaker.succeeded();
    clock.advance(9_001);
    assertOpen('TOOMANYREQUESTS', /asked again in 1 s/, 999);
    clock.advance(999);
    breaker.check();
  });

  test('keeps the longest of several rate limits', () => {
    const { breaker, clock, assertOpen } = setUp();
    breaker.rateLimited(10_000);
    breaker.rateLimited(1_000);
    clock.advance(5_000);
    assertOpen('TOOMANYREQUESTS', /5 s/, 5_000);
    breaker.rateLimited(6_000);
    assertOpen('TOOMANYREQUESTS', /6 s/, 6_000);
  });

  test('opens after three failures in a row, for a second', () => {
    const { breaker, clock, assertFailing } = setUp();
    for (let i = 0; i < 3; i++) {
      breaker.check();
      breaker.failed(FAILED);
    }
    assertFailing(1_000);
    clock.advance(999);
    assertFailing(1);
    clock.advance(1);
    breaker.check();
  });

  test('stays closed when failures are not in a row', () => {
    const { breaker } = setUp();
    for (let i = 0; i < 10; i++) {
      breaker.check();
      breaker.failed(FAILED);
      breaker.check();
      breaker.failed(FAILED);
      breaker.check();
      breaker.succeeded();
    }
  });

  test('opens after a single timeout, which has cost enough', () => {
    const { breaker, assertFailing } = setUp();
    breaker.check();
    breaker.failed(TIMEOUT);
    assertFailing(1_000);
  });

  test('lets one probe out, and the others only when that has succeeded', () => {
    const { breaker, clock, assertFailing } = setUp();
    breaker.failed(TIMEOUT);
    clock.advance(1_000);
    breaker.check();
    assertFailing(1_000);
    breaker.succeeded();
    breaker.check();
    breaker.check();
  });

  test('lets another probe out when nothing is heard of the first', () => {
    const { breaker, clock, assertFailing } = setUp();
    breaker.failed(TIMEOUT);
    clock.advance(1_000);
    breaker.check();
    clock.advance(1_000);
    breaker.check();
    assertFailing(1_000);
  });

  test('stays open for longer each time that a probe fails, up to half a minute', () => {
    const { breaker, failOnce } = setUp();
    breaker.failed(FAILED);
    breaker.failed(FAILED);
    const pauses = Array.from({ length: 10 }, () => failOnce());
    assert.deepEqual(
      pauses,
      pauses.toSorted((a, b) => a - b),
    );
    assert.equal(pauses[0], 1_000);
    assert.ok((pauses[4] ?? 0) >= 8_000, `${pauses}`);
    assert.equal(pauses.at(-1), 30_000);
  });

  test('starts over with a short pause after the upstream has recovered', () => {
    const { breaker, failOnce } = setUp();
    for (let i = 0; i < 10; i++) breaker.failed(TIMEOUT);
    breaker.succeeded();
    breaker.failed(FAILED);
    breaker.failed(FAILED);
    assert.equal(failOnce(), 1_000);
  });

  for (const error of [FAILED, TIMEOUT]) {
    test(`does not stay open for longer because of the many requests in flight when it opened (${error.code})`, () => {
      const { breaker, clock, assertFailing } = setUp();
      for (let i = 0; i < 50; i++) breaker.check();
      for (let i = 0; i < 50; i++) breaker.failed(error);
      assertFailing(1_000);
      clock.advance(1_000);
      breaker.check();
    });
  }

  test('keeps its times when the wall clock is set, back or forward', () => {
    for (const byMs of [-3_600_000, 3_600_000]) {
      const { breaker, clock, assertOpen, assertFailing } = setUp();
      breaker.rateLimited(10_000);
      clock.set(byMs);
      assertOpen('TOOMANYREQUESTS', /10 s/, 10_000);
      clock.advance(10_000);
      breaker.failed(TIMEOUT);
      clock.set(byMs);
      assertFailing(1_000);
      clock.advance(1_000);
      breaker.check();
    }
  });
});
