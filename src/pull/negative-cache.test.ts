import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { NegativeCache } from './negative-cache.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };
const IMAGE = { tag: 'image' };

function setUp(...outcomes: (Error | string)[]) {
  const clock = new TestClock();
  const login = { identity: 'ours' };
  const missing = new NegativeCache({ clock, upstream: () => ({ identity: async () => login.identity }) });
  let asked = 0;
  const ask = (tag = 'image') =>
    missing.unlessKnown(APP, { tag }, async () => {
      const outcome = outcomes[asked++] ?? assert.fail('asked once too often');
      if (outcome instanceof Error) throw outcome;
      return outcome;
    });
  return { clock, login, missing, ask, asked: () => asked };
}

describe('what is missing', () => {
  for (const code of ['MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'NAME_UNKNOWN', 'DENIED'] as const) {
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

describe('what is denied', () => {
  const denied = new RegistryError('DENIED', 'not for you');

  test('is asked for again at once with another login, and not again with the one that was denied', async () => {
    const { login, ask, asked } = setUp(denied, denied, 'found');
    await assert.rejects(ask(), denied);
    login.identity = 'new';
    await assert.rejects(ask(), denied);
    await assert.rejects(ask(), denied);
    assert.equal(asked(), 2);
    login.identity = 'newer';
    assert.equal(await ask(), 'found');
  });

  test('says nothing of the rest of the repository', async () => {
    const { missing, ask } = setUp(denied);
    await assert.rejects(ask(), denied);
    assert.equal(await missing.unlessKnown(APP, { tag: 'other' }, async () => 'found'), 'found');
    assert.equal(await missing.unlessKnown(APP, undefined, async () => 'found'), 'found');
  });
});

describe('what is forgotten to be missing', () => {
  const error = new RegistryError('BLOB_UNKNOWN', 'not there');

  test('is looked for at once', async () => {
    const { missing, ask, asked } = setUp(error, 'found');
    await assert.rejects(ask(), error);
    missing.forget(APP, IMAGE);
    assert.equal(await ask(), 'found');
    assert.equal(asked(), 2);
  });

  test('is remembered again when it is missed again', async () => {
    const { clock, missing, ask, asked } = setUp(error, error, 'found');
    await assert.rejects(ask());
    missing.forget(APP, IMAGE);
    await assert.rejects(ask());
    clock.advance(9_999);
    await assert.rejects(ask(), error);
    assert.equal(asked(), 2);
  });

  test('leaves what is missing under another key alone, and may be nothing', async () => {
    const { missing, ask, asked } = setUp(error);
    missing.forget(APP, IMAGE);
    await assert.rejects(ask());
    missing.forget(APP, { tag: 'other' });
    await assert.rejects(ask(), error);
    assert.equal(asked(), 1);
  });

  test('while it is looked for is not remembered: it may have come since the answer was given', async () => {
    const { missing } = setUp();
    const answer = Promise.withResolvers<string>();
    const looking = missing.unlessKnown(APP, IMAGE, () => answer.promise);
    missing.forget(APP, IMAGE);
    answer.reject(error);
    await assert.rejects(looking, error);
    assert.equal(await missing.unlessKnown(APP, IMAGE, async () => 'found'), 'found');
  });
});
