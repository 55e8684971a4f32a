import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import type { Answer } from './dial.ts';
import { goDurationMs, readRefusal, refusalError, retryAfterMs } from './refusal.ts';

const NOW_MS = Date.parse('2026-01-01T00:00:00Z');
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

function answerOf(
  status: number,
  body: string | Uint8Array | Error,
  headers: Record<string, string> = {},
): Answer {
  return {
    url: new URL('https://ghcr.io/v2/'),
    status,
    header: name => headers[name],
    body: {
      read: async take => {
        if (body instanceof Error) return body;
        await take(Buffer.from(body));
        return undefined;
      },
      abandon: () => {},
    },
  };
}

const unmasked = (text: string) => text;
const ociBody = (...errors: object[]) => JSON.stringify({ errors });
const messageOf = async (body: string | Uint8Array | Error, type?: string) =>
  (
    await readRefusal(
      answerOf(400, body, type === undefined ? {} : { 'content-type': type }),
      NOW_MS,
      unmasked,
    )
  ).message;

describe('the words of a refusal', () => {
  const table: [what: string, body: string | Error, type: string | undefined, message: string][] = [
    [
      'are the code and message of an OCI error',
      ociBody({ code: 'DENIED', message: 'no access' }),
      undefined,
      'DENIED: no access',
    ],
    [
      'are those of all errors',
      ociBody({ code: 'A', message: 'a' }, { code: 'B', message: 'b' }),
      undefined,
      'A: a; B: b',
    ],
    ['are the code alone where there is no message', ociBody({ code: 'DENIED' }), undefined, 'DENIED'],
    ['are the message alone where there is no code', ociBody({ message: 'no' }), undefined, 'no'],
    [
      'are the type of a page',
      '<html><body>Unicorn!</body></html>',
      'text/html; charset=utf-8',
      '(text/html; charset=utf-8)',
    ],
    ['are the type of a document', '<?xml version="1.0"?><Error/>', 'application/xml', '(application/xml)'],
    ['say that a page has no type', '<html>', undefined, '(a body of no type)'],
    ['are a short text', 'denied\n', 'text/plain', 'denied'],
    ['are other JSON as it is', '{"message":"no"}', 'application/json', '{"message":"no"}'],
    ['are none where there is no body', '', undefined, ''],
    ['are none where there are no errors in the body', ociBody(), undefined, ''],
    ['are none when the body breaks', new Error('reset'), undefined, ''],
    [
      'have no control characters',
      ociBody({ message: 'a\u0000\u001b[31mb\r\n\tc\u007f\u009fd' }),
      undefined,
      'a [31mb c d',
    ],
  ];
  for (const [what, body, type, message] of table) {
    test(what, async () => assert.equal(await messageOf(body, type), message));
  }

  test('are short, of however long a body', async () => {
    assert.equal(await messageOf('x'.repeat(1000)), 'x'.repeat(300));
    assert.equal(await messageOf(ociBody({ message: 'y'.repeat(10_000) })), 'y'.repeat(300));
    assert.equal(await messageOf('z'.repeat(10_000_000)), '');
  });

  test('are masked before they are cut, so that no part of a secret is left', async () => {
    const mask = (text: string) => text.replaceAll('ghp_secret', '***');
    const cases: [body: string, message: string][] = [
      [ociBody({ code: 'DENIED', message: 'ghp_secret, that is ghp_secret' }), 'DENIED: ***, that is ***'],
      [ociBody({ message: 'ghp_\u0073ecret' }), '***'],
      ['you sent ghp_secret', 'you sent ***'],
      [`${'x'.repeat(295)}ghp_secret`, `${'x'.repeat(295)}***`],
    ];
    for (const [body, message] of cases) {
      assert.equal((await readRefusal(answerOf(401, body), NOW_MS, mask)).message, message);
    }
  });

  test('can be printed, whatever the body is', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 500 }), async body => {
        const message = await messageOf(body);
        assert.ok(message.length <= 300);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: that there are none is the point
        assert.doesNotMatch(message, /[\u0000-\u001f\u007f-\u009f]/);
      }),
    );
  });
});

describe('how long an upstream wants to be left alone', () => {
  const limit = 'retry-after: 880.092µs, allowed: 44000/minute';
  const table: [
    what: string,
    status: number,
    message: string,
    header: string | undefined,
    ms: number | undefined,
  ][] = [
    ['is in the words of a 429', 429, limit, undefined, 0.880092],
    [
      'is in the words of a 429, in minutes',
      429,
      'retry-after: 1m30s, allowed: 2000/minute',
      undefined,
      90_000,
    ],
    ['is in its header first', 429, limit, '5', 5_000],
    ['may be a date', 429, '', 'Thu, 01 Jan 2026 00:00:30 GMT', 30_000],
    ['is a minute where it is not named', 429, 'slow down', undefined, MINUTE_MS],
    ['is a minute where it cannot be read', 429, 'retry-after: later', 'soon', MINUTE_MS],
    [
      'is a minute after a secondary rate limit',
      403,
      'You have exceeded a secondary rate limit',
      undefined,
      MINUTE_MS,
    ],
    [
      'is in the header of a secondary rate limit',
      403,
      'You have exceeded a Secondary Rate Limit.',
      '7',
      7_000,
    ],
    ['is an hour at most', 429, 'retry-after: 300h', undefined, HOUR_MS],
    ['is an hour at most, by header', 429, '', '999999999', HOUR_MS],
    ['is not said by a 403 of rights', 403, 'denied', '5', undefined],
    ['is not said by a 401', 401, 'secondary rate limit', '5', undefined],
    ['is not said by a 503', 503, 'retry-after: 5s', '5', undefined],
  ];
  for (const [what, status, message, header, ms] of table) {
    test(what, async () => {
      const headers: Record<string, string> = header === undefined ? {} : { 'retry-after': header };
      const body = ociBody({ code: 'X', message });
      const refusal = await readRefusal(answerOf(status, body, headers), NOW_MS, unmasked);
      assert.equal(refusal.status, status);
      if (ms === undefined) assert.equal(refusal.retryAfterMs, undefined);
      else assert.ok(Math.abs((refusal.retryAfterMs ?? -1) - ms) < 1e-6, `${refusal.retryAfterMs}`);
    });
  }

  test('retryAfterMs reads seconds and dates, and nothing else', () => {
    const cases: [string | undefined, number | undefined][] = [
      [undefined, undefined],
      ['0', 0],
      ['120', 120_000],
      [' 120 ', 120_000],
      ['Thu, 01 Jan 2026 00:01:00 GMT', 60_000],
      ['Wed, 31 Dec 2025 23:59:00 GMT', 0],
      ['', undefined],
      ['soon', undefined],
      ['1.5', undefined],
      ['-5', undefined],
      ['in 5 minutes', undefined],
      ['1e3', undefined],
    ];
    for (const [header, ms] of cases) assert.equal(retryAfterMs(header, NOW_MS), ms, `${header}`);
  });

  test('goDurationMs reads what Go prints', () => {
    const cases: [string | undefined, number | undefined][] = [
      ['0s', 0],
      ['1s', 1000],
      ['1.5s', 1500],
      ['100ms', 100],
      ['250us', 0.25],
      ['250\u00b5s', 0.25],
      ['250\u03bcs', 0.25],
      ['5ns', 0.000005],
      ['1m30s', 90_000],
      ['2h45m0.5s', 9_900_500],
      [undefined, undefined],
      ['', undefined],
      ['5', undefined],
      ['s', undefined],
      ['5 s', undefined],
      ['-5s', undefined],
      ['5d', undefined],
      ['1s5', undefined],
      ['1..5s', undefined],
      ['1e3s', undefined],
      [`${'9'.repeat(13)}s`, undefined],
    ];
    for (const [text, ms] of cases) {
      const found = goDurationMs(text);
      if (ms === undefined || found === undefined) assert.equal(found, ms, text);
      else assert.ok(Math.abs(found - ms) < 1e-9, `${text}: ${found}`);
    }
  });

  test('goDurationMs adds up hours, minutes, seconds and parts of them', () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.nat(59), fc.nat(59), fc.nat(999), (h, m, s, ms) => {
        const text = `${h}h${m}m${s}.${String(ms).padStart(3, '0')}s`;
        const expected = ((h * 60 + m) * 60 + s) * 1000 + ms;
        assert.ok(Math.abs((goDurationMs(text) ?? -1) - expected) < 1e-3, text);
      }),
    );
  });
});

describe('the error of a refusal', () => {
  const IMAGE = 'ghcr.io/owner/app:v1';
  const table: [status: number, code: ErrorCode, said: RegExp][] = [
    [401, 'UNAUTHORIZED', /^ghcr\.io refuses ghcr\.io\/owner\/app:v1: 401 "why"$/],
    [403, 'DENIED', /^ghcr\.io refuses/],
    [404, 'BLOB_UNKNOWN', /^ghcr\.io\/owner\/app:v1 is not there, says ghcr\.io: 404 "why"$/],
    [408, 'UPSTREAM_UNAVAILABLE', /^ghcr\.io cannot serve/],
    [500, 'UPSTREAM_UNAVAILABLE', /^ghcr\.io cannot serve/],
    [502, 'UPSTREAM_UNAVAILABLE', /^ghcr\.io cannot serve/],
    [503, 'UPSTREAM_UNAVAILABLE', /^ghcr\.io cannot serve/],
    [504, 'UPSTREAM_UNAVAILABLE', /^ghcr\.io cannot serve/],
    [400, 'UPSTREAM_INVALID', /^ghcr\.io answers a request for ghcr\.io\/owner\/app:v1 with 400 "why"$/],
    [405, 'UPSTREAM_INVALID', /^ghcr\.io answers/],
    [418, 'UPSTREAM_INVALID', /^ghcr\.io answers/],
    [302, 'UPSTREAM_INVALID', /^ghcr\.io answers/],
  ];
  for (const [status, code, said] of table) {
    test(`of a ${status} is ${code}`, () => {
      const refusal = {
        status,
        message: 'why',
        code: undefined,
        challenge: undefined,
        retryAfterMs: undefined,
      };
      const error = refusalError(refusal, IMAGE, 'BLOB_UNKNOWN');
      assert.ok(error instanceof RegistryError);
      assert.equal(error.code, code);
      assert.match(error.message, said);
      assert.equal(error.retryAfterMs, undefined);
    });
  }

  test('that limits us says for how long, whatever its status', () => {
    for (const status of [429, 403]) {
      const error = refusalError(
        { status, message: '', code: undefined, challenge: undefined, retryAfterMs: 1 },
        IMAGE,
        'BLOB_UNKNOWN',
      );
      assert.deepEqual([error.code, error.retryAfterMs], ['TOOMANYREQUESTS', 1]);
      assert.equal(error.message, `ghcr.io limits our requests: ${status}`);
    }
  });

  test('keeps the challenge that came with it', async () => {
    const refusal = await readRefusal(answerOf(401, '', { 'www-authenticate': 'Basic' }), NOW_MS, unmasked);
    assert.equal(refusal.challenge, 'Basic');
    assert.equal((await readRefusal(answerOf(401, ''), NOW_MS, unmasked)).challenge, undefined);
  });
});
