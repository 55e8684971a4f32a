import assert from 'node:assert/strict';
import { validateHeaderValue } from 'node:http';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type ErrorCode, RegistryError } from '../../oci/errors.ts';
import { errorAnswer, printable } from './errors.ts';

/** Every code, as a record so that the compiler finds one that is left out. */
const STATUSES: Record<ErrorCode, number> = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 400,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  SIZE_INVALID: 400,
  UNAUTHORIZED: 401,
  DENIED: 403,
  UNSUPPORTED: 405,
  TOOMANYREQUESTS: 429,
  PAGINATION_NUMBER_INVALID: 400,
  RANGE_INVALID: 416,
  TAG_INVALID: 400,
  TOO_LARGE: 413,
  UPSTREAM_UNAVAILABLE: 502,
  UPSTREAM_TIMEOUT: 504,
  UPSTREAM_INVALID: 502,
  UNAVAILABLE: 503,
};

const bodyOf = (error: unknown) => JSON.parse(errorAnswer(error).body);

describe('errorAnswer', () => {
  for (const [code, status] of Object.entries(STATUSES) as [ErrorCode, number][]) {
    test(`answers ${code} with ${status}, and in the body with the code and the sentence`, () => {
      const error = new RegistryError(code, 'what happened', { cause: new Error('inner') });
      const answer = errorAnswer(error);
      assert.equal(answer.status, status);
      assert.deepEqual(bodyOf(error), { errors: [{ code, message: 'what happened', detail: null }] });
      assert.deepEqual(answer.headers, {});
      assert.equal(answer.phrase, status >= 500 ? 'what happened' : undefined);
    });
  }

  test('puts the detail into the body, and never the cause', () => {
    const error = new RegistryError('DENIED', 'no', {
      detail: { credential: 'ci' },
      cause: new Error('ghp_secret'),
    });
    assert.deepEqual(bodyOf(error).errors[0].detail, { credential: 'ci' });
    assert.ok(!JSON.stringify(errorAnswer(error)).includes('ghp_secret'));
  });

  const unknown = [
    new Error('ghp_secret'),
    new TypeError('ghp_secret'),
    'ghp_secret',
    { code: 'DENIED', message: 'ghp_secret' },
    null,
    undefined,
  ];
  for (const error of unknown) {
    test(`answers what is no RegistryError (${typeof error}) with a bare 500 that says nothing of it`, () => {
      const answer = errorAnswer(error);
      assert.equal(answer.status, 500);
      assert.equal(answer.phrase, undefined);
      assert.deepEqual(answer.headers, {});
      assert.ok(!JSON.stringify(answer).includes('ghp_secret'));
      assert.equal(bodyOf(error).errors[0].code, 'UNKNOWN');
    });
  }

  test('tells to try again after whole seconds, rounded up, and one at least', () => {
    const cases: [ms: number, seconds: string][] = [
      [0, '1'],
      [0.001, '1'],
      [999, '1'],
      [1000, '1'],
      [1001, '2'],
      [59_500, '60'],
      [3_600_000, '3600'],
    ];
    for (const [retryAfterMs, seconds] of cases) {
      const { headers } = errorAnswer(new RegistryError('TOOMANYREQUESTS', 'wait', { retryAfterMs }));
      assert.deepEqual(headers, { 'retry-after': seconds });
    }
  });

  test('gives a reason phrase that may stand in a status line, whatever the sentence', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 1000 }), message => {
        const { phrase = '' } = errorAnswer(new RegistryError('UPSTREAM_INVALID', message));
        assert.match(phrase, /^[\x20-\x7e]{0,500}$/);
        validateHeaderValue('x-phrase', phrase);
      }),
    );
    assert.equal(printable('a\r\nSet-Cookie: x\u00e9\u{1f600}b'), 'a Set-Cookie: x b');
    assert.equal(printable('x'.repeat(600)).length, 500);
  });
});
