import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RegistryError, reasonOf } from './errors.ts';

test('a RegistryError is an Error that carries its code, detail, cause, wait and headers', () => {
  const cause = new Error('inner');
  const headers = { allow: 'GET' };
  const error = new RegistryError('DENIED', 'no', { detail: { a: 1 }, cause, retryAfterMs: 5, headers });
  assert.ok(error instanceof Error);
  assert.equal(error.name, 'RegistryError');
  assert.deepEqual(
    [error.code, error.message, error.detail, error.cause, error.retryAfterMs, error.headers],
    ['DENIED', 'no', { a: 1 }, cause, 5, headers],
  );
  const bare = new RegistryError('DENIED', 'no');
  assert.deepEqual([bare.detail, bare.cause, bare.retryAfterMs, bare.headers], Array(4).fill(undefined));
});

describe('reasonOf', () => {
  const refused = new Error('connect ECONNREFUSED 127.0.0.1:1');
  const table: [what: string, error: unknown, reason: string][] = [
    ['says the message', new Error('broken'), 'broken'],
    ['says the name where there is no message', new TypeError(''), 'TypeError'],
    ['adds the cause', new Error('fetch failed', { cause: refused }), `fetch failed (${refused.message})`],
    [
      'does not repeat a cause that is in the message',
      new Error(`no: ${refused.message}`, { cause: refused }),
      `no: ${refused.message}`,
    ],
    ['follows causes down', new Error('a', { cause: new Error('b', { cause: new Error('c') }) }), 'a (b (c))'],
    ['says the cause alone where there is no message', new Error('', { cause: refused }), refused.message],
    ['leaves causes out that are no errors', new Error('a', { cause: 'b' }), 'a'],
    ['takes the first of several', new AggregateError([refused, new Error('other')]), refused.message],
    ['says the message of several that are none', new AggregateError([], 'all of none'), 'all of none'],
    ['says a text that was thrown', 'text', 'text'],
    ['says that nothing was thrown', undefined, 'undefined'],
  ];
  for (const [what, error, reason] of table) test(what, () => assert.equal(reasonOf(error), reason));
});
