import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Challenge, parseChallenge } from './challenge.ts';

const bearer = (realm: string, service?: string): Challenge => ({ scheme: 'bearer', realm, service });
const BASIC: Challenge = { scheme: 'basic' };

describe('parseChallenge', () => {
  const table: [what: string, header: string | undefined, challenge: Challenge | undefined][] = [
    [
      "reads ghcr.io's",
      'Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull"',
      bearer('https://ghcr.io/token', 'ghcr.io'),
    ],
    [
      "reads Docker Hub's",
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull",error="insufficient_scope"',
      bearer('https://auth.docker.io/token', 'registry.docker.io'),
    ],
    [
      "reads quay.io's",
      'Bearer realm="https://quay.io/v2/auth",service="quay.io",scope="repository:owner/app:pull"',
      bearer('https://quay.io/v2/auth', 'quay.io'),
    ],
    ['reads Basic', 'Basic realm="Registry"', BASIC],
    ['reads Basic without a realm', 'Basic', BASIC],
    ['prefers Bearer, be it first', 'Bearer realm="https://a/t", Basic realm="b"', bearer('https://a/t')],
    ['prefers Bearer, be it last', 'Basic realm="b", Bearer realm="https://a/t"', bearer('https://a/t')],
    ['falls back to Basic beside schemes that it does not know', 'Negotiate, NTLM abc==, Basic realm="b"', BASIC],
    [
      'takes no service from another challenge before it',
      'Digest service="x", Bearer realm="https://a/t"',
      bearer('https://a/t'),
    ],
    ['reads a scheme and names in capitals', 'BEARER REALM="https://a/t",Service="s"', bearer('https://a/t', 's')],
    ['reads values without quotes', 'Bearer realm=https://a/t, service=s', bearer('https://a/t', 's')],
    ['reads space around signs', 'Bearer  realm = "https://a/t" , service = "s"', bearer('https://a/t', 's')],
    ['reads parameters in any order', 'Bearer scope="x",service="s",realm="https://a/t"', bearer('https://a/t', 's')],
    [
      'reads commas in quotes',
      'Bearer realm="https://a/t?x=1,service=evil",service="s"',
      bearer('https://a/t?x=1,service=evil', 's'),
    ],
    ['reads escapes in quotes', 'Bearer realm="https://a/\\"t\\\\",service="a\\,b"', bearer('https://a/"t\\', 'a,b')],
    ['takes the first of two of a name', 'Bearer realm="https://a/t",realm="https://evil/t"', bearer('https://a/t')],
    ['keeps an empty service', 'Bearer realm="https://a/t",service=""', bearer('https://a/t', '')],
    ['finds no Bearer inside quotes', 'Basic realm="x, Bearer realm=https://evil/t"', BASIC],
    ['finds nothing in no header', undefined, undefined],
    ['finds nothing in an empty header', '', undefined],
    ['finds nothing in a Bearer without a realm', 'Bearer service="s"', undefined],
    ['finds nothing in a Bearer alone', 'Bearer', undefined],
    ['finds nothing in another scheme', 'Negotiate', undefined],
    ['finds nothing in a scheme that only ends so', 'XBearer realm="https://a/t", Basically', undefined],
    ['finds nothing in quotes that do not end', 'Bearer realm="https://a/t', undefined],
    ['finds nothing in a header that is far too long', `Bearer realm="https://a/t",x="${'y'.repeat(8192)}"`, undefined],
  ];
  for (const [what, header, challenge] of table) {
    test(what, () => assert.deepEqual(parseChallenge(header), challenge));
  }

  test('gives back whatever realm and service a server quotes', () => {
    const quote = (text: string) => `"${text.replace(/[\\"]/g, '\\$&')}"`;
    const values = fc.string({ maxLength: 30 });
    fc.assert(
      fc.property(values, values, values, (realm, service, scope) => {
        const header = `Bearer scope=${quote(scope)},realm=${quote(realm)},service=${quote(service)}`;
        assert.deepEqual(parseChallenge(header), bearer(realm, service));
      }),
    );
  });

  test('reads the longest headers in time that grows no faster than they do', () => {
    const started = performance.now();
    for (const piece of [' ', ', ', 'a', 'a ', 'a=', '"', '\\"', ',bearer ', 'Bearer x=" ']) {
      for (const start of ['', 'Bearer ', 'Bearer realm="']) {
        parseChallenge(start + piece.repeat(8000 / piece.length));
      }
    }
    assert.ok(performance.now() - started < 10_000);
  });
});
