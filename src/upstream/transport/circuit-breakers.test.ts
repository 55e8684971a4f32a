import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../../test/support/clock.ts';
import { RegistryError } from '../../oci/errors.ts';
import { CircuitBreakers } from './circuit-breakers.ts';

const HOST = new URL('https://ghcr.io/v2/');
const OTHER = new URL('https://blobs.example/');
const REFUSED = new RegistryError('UPSTREAM_UNAVAILABLE', 'connection refused');
const TIMEOUT = new RegistryError('UPSTREAM_TIMEOUT', 'no answer in time');
const of = (repository: string, image = repository) => ({ repository, image });

function setUp() {
  const clock = new TestClock();
  const said: string[] = [];
  const breakers = new CircuitBreakers({
    clock,
    onDown: (host, why) => said.push(`${host} down: ${why}`),
    onUp: (host, awayMs) => said.push(`${host} up after ${awayMs}`),
  });
  const isOpen = (url = HOST) => {
    try {
      breakers.check(url);
      return false;
    } catch (error) {
      assert.ok(error instanceof RegistryError);
      assert.equal(error.code, 'UPSTREAM_UNAVAILABLE');
      assert.match(error.message, /is failing and is left alone for a moment: /);
      assert.ok((error.retryAfterMs ?? 0) > 0);
      return true;
    }
  };
  const open = () => {
    for (let i = 0; i < 3; i++) breakers.unreachable(HOST, REFUSED);
  };
  return { clock, breakers, said, isOpen, open };
}

describe('a circuit breaker', () => {
  test('opens when three connections in a row cannot be made', () => {
    const { breakers, isOpen } = setUp();
    for (let i = 0; i < 3; i++) {
      assert.equal(isOpen(), false);
      breakers.unreachable(HOST, REFUSED);
    }
    assert.equal(isOpen(), true);
  });

  test('opens at once when a connection times out, which has cost enough', () => {
    const { breakers, isOpen } = setUp();
    breakers.unreachable(HOST, TIMEOUT);
    assert.equal(isOpen(), true);
  });

  test('is that of one host alone', () => {
    const { isOpen, open } = setUp();
    open();
    assert.deepEqual([isOpen(HOST), isOpen(OTHER)], [true, false]);
  });

  test('stays closed while answers come in between', () => {
    const { breakers, isOpen } = setUp();
    for (let i = 0; i < 10; i++) {
      breakers.unreachable(HOST, REFUSED);
      breakers.unreachable(HOST, REFUSED);
      breakers.answered(HOST, 404, of('a'));
      assert.equal(isOpen(), false);
    }
  });

  for (const [what, fail] of [
    ['answers with 500', (breakers: CircuitBreakers, key: string) => breakers.answered(HOST, 500, of(key))],
    ['takes too long', (breakers: CircuitBreakers, key: string) => breakers.unanswered(HOST, TIMEOUT, of(key))],
    ['breaks its connections', (breakers: CircuitBreakers, key: string) => breakers.unanswered(HOST, REFUSED, of(key))],
  ] as const) {
    test(`stays closed when one thing ${what}, however often, and opens when three do`, () => {
      const { breakers, isOpen } = setUp();
      for (let i = 0; i < 100; i++) fail(breakers, 'a');
      fail(breakers, 'b');
      assert.equal(isOpen(), false);
      fail(breakers, 'c');
      assert.equal(isOpen(), true);
    });

    test(`stays closed when three things do so with an answer between: ${what}`, () => {
      const { breakers, isOpen } = setUp();
      for (const key of ['a', 'b', 'c', 'd']) {
        fail(breakers, key);
        breakers.answered(HOST, 200, of('z'));
      }
      assert.equal(isOpen(), false);
    });
  }

  test('counts two images of one repository twice where connections break, and once where it answers with 500', () => {
    const broken = setUp();
    for (const image of ['1', '2', '3']) broken.breakers.unanswered(HOST, REFUSED, of('a', image));
    assert.equal(broken.isOpen(), true);
    const failing = setUp();
    for (const image of ['1', '2', '3']) failing.breakers.answered(HOST, 500, of('a', image));
    assert.equal(failing.isOpen(), false);
  });

  test('that has opened for want of answers is closed by any, also a 500', () => {
    const { breakers, isOpen, open } = setUp();
    open();
    breakers.answered(HOST, 503, of('a'));
    assert.equal(isOpen(), false);
  });

  test('lets a probe out each second, however long it has been open, and others only when that has succeeded', () => {
    const { breakers, clock, isOpen, open } = setUp();
    open();
    for (let second = 0; second < 100; second++) {
      clock.advance(999);
      assert.equal(isOpen(), true);
      clock.advance(1);
      assert.deepEqual([isOpen(), isOpen()], [false, true]);
      breakers.unreachable(HOST, second % 2 ? TIMEOUT : REFUSED);
    }
    breakers.answered(HOST, 401, of('a'));
    assert.deepEqual([isOpen(), isOpen()], [false, false]);
  });

  test('that is open is not kept open by what was sent before', () => {
    const { breakers, clock, isOpen, open } = setUp();
    open();
    clock.advance(900);
    open();
    clock.advance(100);
    assert.equal(isOpen(), false);
    assert.equal(breakers.check(OTHER), undefined);
  });

  test('says once that its host is down, and once that it is back and how long it was away', () => {
    const { breakers, clock, said, open } = setUp();
    open();
    open();
    clock.set(-3_600_000);
    clock.advance(90_000);
    breakers.unreachable(HOST, TIMEOUT);
    clock.advance(10_000);
    breakers.answered(HOST, 200, of('a'));
    breakers.answered(HOST, 200, of('a'));
    assert.deepEqual(said, ['ghcr.io down: connection refused', 'ghcr.io up after 100000']);
    open();
    assert.equal(said.length, 3);
  });
});
