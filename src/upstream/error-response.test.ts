import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import type { Repository } from '../oci/reference.ts';
import { type Access, DELETE, PULL, PUSH } from './auth/access.ts';
import { Mask } from './auth/mask.ts';
import { goDurationMs, isDenial, readErrorResponse, retryAfterMs, toDeniedError, toError } from './error-response.ts';
import type { UpstreamResponse } from './transport/response.ts';

const NOW_MS = Date.parse('2026-01-01T00:00:00Z');
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

function responseOf(
  status: number,
  body: string | Uint8Array | Error,
  headers: Record<string, string> = {},
): UpstreamResponse {
  return {
    url: new URL('https://ghcr.io/v2/'),
    status,
    header: name => headers[name],
    body: {
      read: async onChunk => {
        if (body instanceof Error) return body;
        await onChunk(Buffer.from(body));
        return undefined;
      },
      abandon: () => {},
    },
  };
}

const unmasked = new Mask();
const ociBody = (...errors: object[]) => JSON.stringify({ errors });
const messageOf = async (body: string | Uint8Array | Error, type?: string) =>
  (await readErrorResponse(responseOf(400, body, type === undefined ? {} : { 'content-type': type }), NOW_MS, unmasked))
    .message;

describe('the words of an error response', () => {
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
    const mask = new Mask();
    mask.add('ghp_secret');
    const cases: [body: string, message: string][] = [
      [ociBody({ code: 'DENIED', message: 'ghp_secret, that is ghp_secret' }), 'DENIED: ***, that is ***'],
      [ociBody({ message: 'ghp_\u0073ecret' }), '***'],
      ['you sent ghp_secret', 'you sent ***'],
      [`${'x'.repeat(295)}ghp_secret`, `${'x'.repeat(295)}***`],
    ];
    for (const [body, message] of cases) {
      assert.equal((await readErrorResponse(responseOf(401, body), NOW_MS, mask)).message, message);
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

describe('the code of an error response', () => {
  const table: [body: string | Error, code: string | undefined][] = [
    [ociBody({ code: 'DENIED', message: 'no' }), 'DENIED'],
    [ociBody({ code: 'A' }, { code: 'B' }), 'A'],
    [ociBody({ message: 'no' }, { code: 'B' }), undefined],
    [ociBody(), undefined],
    [ociBody({ code: 7 }), undefined],
    [ociBody({ code: ['A'] }), undefined],
    ['{"errors":[null]}', undefined],
    ['{"errors":null}', undefined],
    ['{"errors":"A"}', undefined],
    ['{"code":"A"}', undefined],
    ['[]', undefined],
    ['null', undefined],
    ['A', undefined],
    ['', undefined],
    [new Error('reset'), undefined],
  ];
  for (const [body, code] of table) {
    test(`of ${body instanceof Error ? 'a body that breaks' : body} is ${code}`, async () => {
      assert.equal((await readErrorResponse(responseOf(400, body), NOW_MS, unmasked)).code, code);
    });
  }
});

describe('the particulars of an error response', () => {
  const digest = `sha256:${'a'.repeat(64)}`;
  const table: [what: string, detail: unknown, isNamed: boolean][] = [
    ['a digest', digest, true],
    ['an object with a digest', { digest }, true],
    ['an object as Go writes it', { Digest: digest }, true],
    ['anything else', { sha: digest }, false],
    ['a text around a digest', `blob ${digest}`, false],
    ['a digest that is none', `${digest}\n`, false],
    ['a digest in a list', [digest], false],
    ['a digest that is an object', { digest: { digest } }, false],
    ['null', null, false],
    ['a number', 7, false],
  ];
  for (const [what, detail, isNamed] of table) {
    test(`are told if they are a digest: ${what}`, async () => {
      const message = await messageOf(ociBody({ code: 'BLOB_UNKNOWN', message: 'why', detail }));
      assert.equal(message, isNamed ? `BLOB_UNKNOWN: why ${digest}` : 'BLOB_UNKNOWN: why');
    });
  }
});

describe('how long an upstream limits our rate', () => {
  const limit = 'retry-after: 880.092µs, allowed: 44000/minute';
  const table: [what: string, status: number, message: string, header: string | undefined, ms: number | undefined][] = [
    ['is in the words of a 429', 429, limit, undefined, 0.880092],
    ['is in the words of a 429, in minutes', 429, 'retry-after: 1m30s, allowed: 2000/minute', undefined, 90_000],
    ['is in its header first', 429, limit, '5', 5_000],
    ['may be a date', 429, '', 'Thu, 01 Jan 2026 00:00:30 GMT', 30_000],
    ['is a minute where it is not named', 429, 'slow down', undefined, MINUTE_MS],
    ['is a minute where it cannot be read', 429, 'retry-after: later', 'soon', MINUTE_MS],
    ['is a minute after a secondary rate limit', 403, 'You have exceeded a secondary rate limit', undefined, MINUTE_MS],
    ['is in the header of a secondary rate limit', 403, 'You have exceeded a Secondary Rate Limit.', '7', 7_000],
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
      const response = await readErrorResponse(responseOf(status, body, headers), NOW_MS, unmasked);
      assert.equal(response.status, status);
      if (ms === undefined) assert.equal(response.retryAfterMs, undefined);
      else assert.ok(Math.abs((response.retryAfterMs ?? -1) - ms) < 1e-6, `${response.retryAfterMs}`);
    });
  }

  test('is not told to HEAD, whose response has no body, but in its header', async () => {
    const wait = async (headers: Record<string, string>, isHead: boolean, body = '') =>
      (await readErrorResponse(responseOf(429, body, headers), NOW_MS, unmasked, isHead)).retryAfterMs;
    assert.equal(await wait({}, false), MINUTE_MS);
    const short = (await wait({}, true)) ?? assert.fail();
    assert.ok(short > 0 && short <= 5_000, 'the next question with a body is to find out');
    assert.equal(await wait({ 'retry-after': '90' }, true), 90_000);
    assert.equal(await wait({ 'retry-after': '999999999' }, true), HOUR_MS);
  });

  test('retryAfterMs reads seconds and dates, and nothing else', () => {
    const cases: [string | undefined, number | undefined][] = [
      [undefined, undefined],
      ['0', 0],
      ['120', 120_000],
      [' 120 ', 120_000],
      ['Thu, 01 Jan 2026 00:01:00 GMT', 60_000],
      ['Thursday, 01-Jan-26 00:01:00 GMT', 60_000],
      ['Thu Jan  1 00:01:00 2026', 60_000],
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

describe('the error of an error response', () => {
  const IMAGE = 'ghcr.io/owner/app:v1';
  const table: [status: number, code: ErrorCode, said: RegExp][] = [
    [401, 'DENIED', /^ghcr\.io denies access to ghcr\.io\/owner\/app:v1: 401 "why"$/],
    [403, 'DENIED', /^ghcr\.io denies/],
    [404, 'BLOB_UNKNOWN', /^ghcr\.io\/owner\/app:v1 is not found at ghcr\.io: 404 "why"$/],
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
      const response = {
        status,
        message: 'why',
        code: undefined,
        challenge: undefined,
        retryAfterMs: undefined,
      };
      const error = toError(response, IMAGE, 'BLOB_UNKNOWN');
      assert.ok(error instanceof RegistryError);
      assert.equal(error.code, code);
      assert.match(error.message, said);
      assert.equal(error.retryAfterMs, undefined);
    });
  }

  const errorResponseOf = (status: number, code?: string) => {
    return { status, message: 'why', code, challenge: undefined, retryAfterMs: undefined };
  };

  const ofWrites: [status: number, said: string | undefined, code: ErrorCode][] = [
    [400, 'MANIFEST_BLOB_UNKNOWN', 'MANIFEST_BLOB_UNKNOWN'],
    [400, 'MANIFEST_INVALID', 'MANIFEST_INVALID'],
    [400, 'MANIFEST_UNVERIFIED', 'MANIFEST_INVALID'],
    [404, 'MANIFEST_BLOB_UNKNOWN', 'MANIFEST_BLOB_UNKNOWN'],
    [404, 'BLOB_UPLOAD_UNKNOWN', 'BLOB_UPLOAD_UNKNOWN'],
    [404, 'BLOB_UPLOAD_INVALID', 'BLOB_UPLOAD_INVALID'],
    [416, 'BLOB_UPLOAD_INVALID', 'BLOB_UPLOAD_INVALID'],
    [400, 'DIGEST_INVALID', 'DIGEST_INVALID'],
    [400, 'SIZE_INVALID', 'SIZE_INVALID'],
    [400, 'TAG_INVALID', 'TAG_INVALID'],
    [400, 'NAME_INVALID', 'NAME_INVALID'],
    [405, 'UNSUPPORTED', 'UNSUPPORTED'],
    [405, undefined, 'UNSUPPORTED'],
    [405, 'DIGEST_INVALID', 'UNSUPPORTED'],
    [413, 'SIZE_INVALID', 'TOO_LARGE'],
    [413, undefined, 'TOO_LARGE'],
    [404, 'BLOB_UNKNOWN', 'BLOB_UPLOAD_UNKNOWN'],
    [404, undefined, 'BLOB_UPLOAD_UNKNOWN'],
    [400, undefined, 'UPSTREAM_INVALID'],
    [400, 'UNAVAILABLE', 'UPSTREAM_INVALID'],
    [400, 'digest_invalid', 'UPSTREAM_INVALID'],
    [403, 'DIGEST_INVALID', 'DENIED'],
    [401, 'MANIFEST_INVALID', 'DENIED'],
    [500, 'MANIFEST_INVALID', 'UPSTREAM_UNAVAILABLE'],
    [302, 'MANIFEST_INVALID', 'UPSTREAM_INVALID'],
    ...['__proto__', 'constructor', 'toString', 'hasOwnProperty', ''].map((name): [number, string, ErrorCode] => [
      400,
      name,
      'UPSTREAM_INVALID',
    ]),
  ];
  for (const [status, said, code] of ofWrites) {
    test(`of a ${status} ${said ?? ''} to a write is ${code}`, () => {
      const error = toError(errorResponseOf(status, said), IMAGE, 'BLOB_UPLOAD_UNKNOWN', true);
      assert.equal(error.code, code);
      assert.match(error.message, /ghcr\.io.*owner\/app:v1.*"why"|ghcr\.io.*"why".*owner\/app:v1/);
    });
  }

  test('to a read is nothing that only a writer could know', () => {
    for (const [status, said, code] of [
      [400, 'DIGEST_INVALID', 'UPSTREAM_INVALID'],
      [404, 'MANIFEST_INVALID', 'BLOB_UNKNOWN'],
      [405, 'UNSUPPORTED', 'UPSTREAM_INVALID'],
      [413, undefined, 'UPSTREAM_INVALID'],
    ] as const) {
      assert.equal(toError(errorResponseOf(status, said), IMAGE, 'BLOB_UNKNOWN').code, code);
      assert.equal(toError(errorResponseOf(status, said), IMAGE, 'BLOB_UNKNOWN', false).code, code);
    }
  });

  test('of a write that limits us is what it is of a read', () => {
    const response = { ...errorResponseOf(429, 'DIGEST_INVALID'), retryAfterMs: 5 };
    const error = toError(response, IMAGE, 'BLOB_UNKNOWN', true);
    assert.deepEqual([error.code, error.retryAfterMs], ['TOOMANYREQUESTS', 5]);
  });

  test('that limits us says for how long, whatever its status', () => {
    for (const status of [429, 403]) {
      const error = toError(
        { status, message: '', code: undefined, challenge: undefined, retryAfterMs: 1 },
        IMAGE,
        'BLOB_UNKNOWN',
      );
      assert.deepEqual([error.code, error.retryAfterMs], ['TOOMANYREQUESTS', 1]);
      assert.equal(error.message, `ghcr.io limits our requests: ${status}`);
    }
  });

  test('keeps the challenge that came with it', async () => {
    const response = await readErrorResponse(responseOf(401, '', { 'www-authenticate': 'Basic' }), NOW_MS, unmasked);
    assert.equal(response.challenge, 'Basic');
    assert.equal((await readErrorResponse(responseOf(401, ''), NOW_MS, unmasked)).challenge, undefined);
  });
});

describe('the error of a denial', () => {
  const REPOSITORY: Repository = { upstream: 'ghcr.io', name: 'owner/app' };
  const responseWith = (status: number, retryAfterMs?: number) => {
    return { status, message: 'why', code: undefined, challenge: undefined, retryAfterMs };
  };

  const table: [access: Access, credential: string | undefined, said: RegExp][] = [
    [PULL, 'ci', /Credential "ci" was denied, and it cannot be pulled anonymously: .*\(read:packages\)$/],
    [PUSH, 'ci', /Credential "ci" was denied: check that it has not expired.*\(write:packages\)$/],
    [DELETE, 'ci', /Credential "ci" was denied: check that it has not expired.*\(delete:packages\)$/],
    [PULL, undefined, /It is private or does not exist, and no credential .* for owner "owner": add one, by .*$/],
    [PUSH, undefined, /This takes a credential, and no credential .* for owner "owner": add one, by .*$/],
  ];
  for (const status of [401, 403]) {
    for (const [access, credential, said] of table) {
      test(`of ${access.actions} by ${credential ?? 'no credential'} with ${status} is DENIED, with what to do`, () => {
        const error = toDeniedError(responseWith(status), REPOSITORY, credential, access);
        assert.equal(error.code, 'DENIED');
        assert.match(error.message, said);
        assert.match(error.message, new RegExp(`^ghcr\\.io denies access to ghcr\\.io/owner/app: ${status} "why"`));
        assert.deepEqual(error.detail, credential && { credential });
      });
    }
  }

  test('where there is no credential says how to add one, by key and, for ghcr.io alone, by environment', () => {
    const messageFor = (upstream: string) =>
      toDeniedError(responseWith(403), { ...REPOSITORY, upstream }, undefined, PULL).message;
    const byKey = (upstream: string) =>
      `: add one, by the key upstreams: { ${upstream}: { credentials: [{ owner: owner, username: …, token: … }] } }`;
    const byEnvironment = ', or, with no credentials there, by the environment: CR_PAT=… GHCR_USERNAME=…';
    assert.ok(messageFor('ghcr.io').endsWith(byKey('ghcr.io') + byEnvironment));
    assert.ok(messageFor('quay.io').endsWith(byKey('quay.io')));
  });

  test('is that of any other response where it is none', () => {
    const ofLimit = toDeniedError(responseWith(403, 5), REPOSITORY, 'ci', PULL);
    assert.deepEqual([ofLimit.code, ofLimit.retryAfterMs], ['TOOMANYREQUESTS', 5]);
    assert.equal(toDeniedError(responseWith(503), REPOSITORY, 'ci', PULL).code, 'UPSTREAM_UNAVAILABLE');
    assert.equal(toDeniedError(responseWith(404), REPOSITORY, 'ci', PULL).code, 'NAME_UNKNOWN');
    assert.deepEqual(
      [401, 403, 404, 429].map(status => isDenial(responseWith(status))),
      [true, true, false, false],
    );
    assert.equal(isDenial(responseWith(403, 5)), false);
  });
});
