import assert from 'node:assert/strict';
import { validateHeaderValue } from 'node:http';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type ErrorCode, RegistryError } from '../../oci/errors.ts';
import { errorResponse, printable } from './errors.ts';

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
  REQUEST_INVALID: 400,
  REQUEST_TIMEOUT: 408,
  MISDIRECTED: 421,
  UPSTREAM_UNAVAILABLE: 502,
  UPSTREAM_TIMEOUT: 504,
  UPSTREAM_INVALID: 502,
  UNAVAILABLE: 503,
};

const CHALLENGE = { 'www-authenticate': 'Basic realm="ghcr-cache"' };
const bodyOf = (error: unknown) => JSON.parse(errorResponse(error).body);

describe('errorResponse', () => {
  for (const [code, status] of Object.entries(STATUSES) as [ErrorCode, number][]) {
    test(`maps ${code} to ${status}, with code and message in the body and no detail`, () => {
      const headers = code === 'UNAUTHORIZED' ? CHALLENGE : undefined;
      const error = new RegistryError(code, 'what happened', {
        cause: new Error('inner'),
        ...(headers && { headers }),
      });
      const response = errorResponse(error);
      assert.equal(response.status, status);
      assert.equal(response.body, `{"errors":[{"code":"${code}","message":"what happened"}]}\n`);
      assert.deepEqual(response.headers, headers ?? {});
      assert.equal(response.phrase, status >= 500 ? 'what happened' : undefined);
    });
  }

  test('puts the detail into the body, never the cause', () => {
    const error = new RegistryError('DENIED', 'no', {
      detail: { credential: 'ci' },
      cause: new Error('ghp_secret'),
    });
    assert.deepEqual(bodyOf(error).errors[0].detail, { credential: 'ci' });
    assert.ok(!JSON.stringify(errorResponse(error)).includes('ghp_secret'));
  });

  test('leaves out what is undefined in the detail', () => {
    const error = new RegistryError('DENIED', 'no', { detail: { credential: undefined, tags: ['a'] } });
    assert.deepEqual(bodyOf(error).errors[0].detail, { tags: ['a'] });
  });

  test('never sends a 401 without a challenge, which would ask the client for a login of its own', () => {
    for (const headers of [undefined, {}, { allow: 'GET' }]) {
      const error = new RegistryError('UNAUTHORIZED', 'the upstream said no', {
        ...(headers && { headers }),
      });
      const { status, body } = errorResponse(error);
      assert.deepEqual([status, JSON.parse(body).errors[0].code], [403, 'DENIED']);
      assert.equal(bodyOf(error).errors[0].message, 'the upstream said no');
    }
  });

  test('sends the headers of the error, and Retry-After beside them', () => {
    const headers = { allow: 'GET, HEAD', 'content-range': 'bytes */5' };
    const error = new RegistryError('RANGE_INVALID', 'no', { headers, retryAfterMs: 2000 });
    assert.deepEqual(errorResponse(error).headers, { ...headers, 'retry-after': '2' });
    assert.deepEqual(error.headers, { allow: 'GET, HEAD', 'content-range': 'bytes */5' });
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
    test(`maps what is not a RegistryError (${typeof error}) to a bare 500 that says nothing about it`, () => {
      const response = errorResponse(error);
      assert.equal(response.status, 500);
      assert.equal(response.phrase, undefined);
      assert.deepEqual(response.headers, {});
      assert.ok(!JSON.stringify(response).includes('ghp_secret'));
      assert.deepEqual(Object.keys(bodyOf(error).errors[0]), ['code', 'message']);
      assert.equal(bodyOf(error).errors[0].code, 'UNKNOWN');
    });
  }

  test('sends Retry-After in whole seconds, rounded up, and at least one', () => {
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
      const { headers } = errorResponse(new RegistryError('TOOMANYREQUESTS', 'wait', { retryAfterMs }));
      assert.deepEqual(headers, { 'retry-after': seconds });
    }
  });

  test('makes a reason phrase that may be part of a status line, whatever the message', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 1000 }), message => {
        const { phrase = '' } = errorResponse(new RegistryError('UPSTREAM_INVALID', message));
        assert.match(phrase, /^[\x20-\x7e]{0,500}$/);
        validateHeaderValue('x-phrase', phrase);
      }),
    );
    assert.equal(printable('a\r\nSet-Cookie: x\u00e9\u{1f600}b'), 'a Set-Cookie: x b');
    assert.equal(printable('x'.repeat(600)).length, 500);
  });
});
