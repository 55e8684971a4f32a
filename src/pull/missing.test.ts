import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/cache.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { Missing } from './missing.ts';

function setUp(...outcomes: (Error | string)[]) {
  const clock = new TestClock();
  const missing = new Missing(clock);
  let asked = 0;
  const ask = (key = 'image') =>
    missing.unlessKnown(key, async () => {
      const outcome = outcomes[asked++] ?? assert.fail('asked once too often');
      if (outcome instanceof Error) throw outcome;
      return outcome;
    });
  return { clock, ask, asked: () => asked };
}

describe('what is missing', () => {
  for (const code of ['MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'NAME_UNKNOWN'] as const) {
    test(`(${code}) is not asked for again for ten seconds, and then is`, async () => {
      const error = new RegistryError(code, 'not there');
      const { clock, ask, asked } = setUp(error, 'found');
      await assert.rejects(ask(), error);
      clock.advance(9_999);
      await assert.rejects(ask(), error);
      assert.equal(asked(), 1);
      clock.advance(1);
      assert.equal(await ask(), 'found');
      assert.equal(await ask('image').catch(() => 'asked'), 'asked', 'what was found is not remembered');
    });
  }

  test('is remembered anew each time that it is missed', async () => {
    const error = new RegistryError('BLOB_UNKNOWN', 'not there');
    const { clock, ask, asked } = setUp(error, error);
    await assert.rejects(ask());
    clock.advance(10_000);
    await assert.rejects(ask());
    clock.advance(9_999);
    await assert.rejects(ask(), error);
    assert.equal(asked(), 2);
  });

  test('under one key says nothing of another', async () => {
    const { ask } = setUp(new RegistryError('BLOB_UNKNOWN', 'not there'), 'found');
    await assert.rejects(ask('a'));
    assert.equal(await ask('b'), 'found');
  });

  const others: (ErrorCode | Error)[] = [
    'DENIED',
    'UNAUTHORIZED',
    'TOOMANYREQUESTS',
    'UPSTREAM_UNAVAILABLE',
    'UPSTREAM_TIMEOUT',
    'UPSTREAM_INVALID',
    new Error('bug'),
  ];
  for (const other of others) {
    const error = other instanceof Error ? other : new RegistryError(other, 'no');
    test(`is not what fails otherwise (${error instanceof RegistryError ? error.code : 'a bug'}): that is tried again`, async () => {
      const { ask } = setUp(error, 'found');
      await assert.rejects(ask(), error);
      assert.equal(await ask(), 'found');
    });
  }
});
