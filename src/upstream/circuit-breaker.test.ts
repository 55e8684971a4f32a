import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { CircuitBreaker } from './circuit-breaker.ts';

const REFUSED = new RegistryError('UPSTREAM_UNAVAILABLE', 'connection refused');
const TIMEOUT = new RegistryError('UPSTREAM_TIMEOUT', 'no answer');

function setUp(offline = false) {
  const clock = new TestClock();
  const gate = new CircuitBreaker({ name: 'ghcr.io', offline, clock });
  const assertClosed = (code: ErrorCode, said: RegExp, retryAfterMs: number | undefined) =>
    assert.throws(
      () => gate.check(),
      (error: RegistryError) => {
        assert.equal(error.code, code);
        assert.match(error.message, said);
        assert.equal(error.retryAfterMs, retryAfterMs);
        return true;
      },
    );
  const assertBroken = (retryAfterMs: number) =>
    assertClosed(
      'UPSTREAM_UNAVAILABLE',
      /ghcr\.io is failing .*: (connection refused|no answer)/,
      retryAfterMs,
    );
  /** A try that goes out and fails; the pause that follows, which then passes. */
  const failOnce = (): number => {
    gate.check();
    gate.failed(REFUSED);
    let pauseMs = 0;
    assert.throws(
      () => gate.check(),
      (error: RegistryError) => {
        pauseMs = error.retryAfterMs ?? 0;
        return pauseMs > 0;
      },
    );
    clock.advance(pauseMs);
    return pauseMs;
  };
  return { clock, gate, assertClosed, assertBroken, failOnce };
}

describe('a gate', () => {
  test('is open while the upstream answers', () => {
    const { gate } = setUp();
    for (let i = 0; i < 10; i++) {
      gate.check();
      gate.answered();
    }
    gate.check();
  });

  test('of an upstream that is offline never opens, and says which key of the config does that', () => {
    const { gate, clock, assertClosed } = setUp(true);
    gate.answered();
    clock.advance(1e9);
    assertClosed('UPSTREAM_UNAVAILABLE', /upstreams: ghcr\.io: offline/, undefined);
  });

  test('is closed by a rate limit until its time is over, and no longer', () => {
    const { gate, clock, assertClosed } = setUp();
    gate.limited(10_000);
    assertClosed('TOOMANYREQUESTS', /asked again in 10 s/, 10_000);
    gate.answered();
    clock.advance(9_001);
    assertClosed('TOOMANYREQUESTS', /asked again in 1 s/, 999);
    clock.advance(999);
    gate.check();
  });

  test('keeps the longest of several rate limits', () => {
    const { gate, clock, assertClosed } = setUp();
    gate.limited(10_000);
    gate.limited(1_000);
    clock.advance(5_000);
    assertClosed('TOOMANYREQUESTS', /5 s/, 5_000);
    gate.limited(6_000);
    assertClosed('TOOMANYREQUESTS', /6 s/, 6_000);
  });

  test('breaks after three failures in a row, for a second', () => {
    const { gate, clock, assertBroken } = setUp();
    for (let i = 0; i < 3; i++) {
      gate.check();
      gate.failed(REFUSED);
    }
    assertBroken(1_000);
    clock.advance(999);
    assertBroken(1);
    clock.advance(1);
    gate.check();
  });

  test('does not break when failures are not in a row', () => {
    const { gate } = setUp();
    for (let i = 0; i < 10; i++) {
      gate.check();
      gate.failed(REFUSED);
      gate.check();
      gate.failed(REFUSED);
      gate.check();
      gate.answered();
    }
  });

  test('breaks after a single time-out, which has cost enough', () => {
    const { gate, assertBroken } = setUp();
    gate.check();
    gate.failed(TIMEOUT);
    assertBroken(1_000);
  });

  test('lets one out to try, and the others only when that one has done well', () => {
    const { gate, clock, assertBroken } = setUp();
    gate.failed(TIMEOUT);
    clock.advance(1_000);
    gate.check();
    assertBroken(1_000);
    gate.answered();
    gate.check();
    gate.check();
  });

  test('lets another out when nothing is heard of the one that tries', () => {
    const { gate, clock, assertBroken } = setUp();
    gate.failed(TIMEOUT);
    clock.advance(1_000);
    gate.check();
    clock.advance(1_000);
    gate.check();
    assertBroken(1_000);
  });

  test('stays broken for longer each time that a try fails, up to half a minute', () => {
    const { gate, failOnce } = setUp();
    gate.failed(REFUSED);
    gate.failed(REFUSED);
    const pauses = Array.from({ length: 10 }, () => failOnce());
    assert.deepEqual(
      pauses,
      pauses.toSorted((a, b) => a - b),
    );
    assert.equal(pauses[0], 1_000);
    assert.ok((pauses[4] ?? 0) >= 8_000, `${pauses}`);
    assert.equal(pauses.at(-1), 30_000);
  });

  test('starts anew with a short pause after the upstream was well', () => {
    const { gate, failOnce } = setUp();
    for (let i = 0; i < 10; i++) gate.failed(TIMEOUT);
    gate.answered();
    gate.failed(REFUSED);
    gate.failed(REFUSED);
    assert.equal(failOnce(), 1_000);
  });

  for (const error of [REFUSED, TIMEOUT]) {
    test(`is not closed for longer by the many that were under way when it broke (${error.code})`, () => {
      const { gate, clock, assertBroken } = setUp();
      for (let i = 0; i < 50; i++) gate.check();
      for (let i = 0; i < 50; i++) gate.failed(error);
      assertBroken(1_000);
      clock.advance(1_000);
      gate.check();
    });
  }
});
