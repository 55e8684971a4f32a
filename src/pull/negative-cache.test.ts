import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { NegativeCache } from './negative-cache.ts';

function setUp(...outcomes: (Error | string)[]) {
  const clock = new TestClock();
  const missing = new NegativeCache(clock);
  let asked = 0;
  const ask = (key = 'image') =>
    missing.unlessKnown(key, async () => {
      const outcome = outcomes[asked++] ?? assert.fail('asked once too often');
      if (outcome instanceof Error) throw outcome;
      return outcome;
    });
  return { clock, missing, ask, asked: () => asked };
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

  test('is remembered again each time that it is not found', async () => {
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

describe('what is forgotten to be missing', () => {
  const error = new RegistryError('BLOB_UNKNOWN', 'not there');

  test('is looked for at once', async () => {
    const { missing, ask, asked } = setUp(error, 'found');
    await assert.rejects(ask(), error);
    missing.forget('image');
    assert.equal(await ask(), 'found');
    assert.equal(asked(), 2);
  });

  test('is remembered again when it is missed again', async () => {
    const { clock, missing, ask, asked } = setUp(error, error, 'found');
    await assert.rejects(ask());
    missing.forget('image');
    await assert.rejects(ask());
    clock.advance(9_999);
    await assert.rejects(ask(), error);
    assert.equal(asked(), 2);
  });

  test('leaves what is missing under another key alone, and may be nothing', async () => {
    const { missing, ask, asked } = setUp(error);
    missing.forget('image');
    await assert.rejects(ask());
    missing.forget('other');
    await assert.rejects(ask(), error);
    assert.equal(asked(), 1);
  });

  test('while it is looked for is not remembered: it may have come since the answer was given', async () => {
    const missing = new NegativeCache(new TestClock());
    for (const look of [missing.unlessKnown.bind(missing), missing.noting.bind(missing)]) {
      const answer = Promise.withResolvers<string>();
      const looking = look('image', () => answer.promise);
      missing.forget('image');
      answer.reject(error);
      await assert.rejects(looking, error);
      assert.equal(await missing.unlessKnown('image', async () => 'found'), 'found');
    }
  });
});

describe('what is looked for in any case', () => {
  const error = new RegistryError('MANIFEST_UNKNOWN', 'not there');

  test('is looked for though it is known to be missing, and remembered when it is', async () => {
    const { clock, missing, ask } = setUp(error);
    await assert.rejects(ask(), error);
    let looked = 0;
    const look = () =>
      missing.noting('image', async () => {
        looked++;
        throw error;
      });
    clock.advance(9_999);
    await assert.rejects(look(), error);
    assert.equal(looked, 1);
    clock.advance(9_999);
    await assert.rejects(ask(), error);
    assert.equal(await missing.noting('image', async () => 'found'), 'found');
  });

  test('is not remembered when it fails otherwise', async () => {
    const { missing, ask } = setUp('found');
    const away = new RegistryError('UPSTREAM_UNAVAILABLE', 'away');
    await assert.rejects(
      missing.noting('image', () => Promise.reject(away)),
      away,
    );
    assert.equal(await ask(), 'found');
  });
});
