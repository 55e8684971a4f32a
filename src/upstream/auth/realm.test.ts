import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { trustedRealm } from './challenge.ts';

const SECURE = new URL('https://ghcr.io');
const PLAIN = new URL('http://127.0.0.1:5001');

describe('a realm is trusted', () => {
  const table: [what: string, realm: string, upstream: URL, realms: string[]][] = [
    ['on the host of the upstream', 'https://ghcr.io/token', SECURE, []],
    ['on that host with its port written out', 'https://ghcr.io:443/token', SECURE, []],
    ['over TLS, for an upstream on plain HTTP', 'https://auth.example/token', PLAIN, ['auth.example']],
    ['on plain HTTP, like the upstream itself', 'http://127.0.0.1:5001/token', PLAIN, []],
    ['on a host of the config', 'https://auth.example/token', SECURE, ['auth.example']],
    ['on any port of a host of the config', 'https://auth.example:8443/token', SECURE, ['auth.example']],
    ['on a host and port of the config', 'https://auth.example:8443/t?a=b', SECURE, ['auth.example:8443']],
  ];
  for (const [what, realm, upstream, realms] of table) {
    test(what, () => assert.equal(trustedRealm(realm, upstream, realms).href, new URL(realm).href));
  }
});

describe('a realm is not trusted', () => {
  const table: [what: string, realm: string, upstream: URL, realms: string[]][] = [
    ['on another host', 'https://evil.example/token', SECURE, []],
    ['on a host that only looks like it', 'https://ghcr.io.evil.example/token', SECURE, []],
    ['on another port', 'https://ghcr.io:8443/token', SECURE, []],
    ['on another port than the config says', 'https://auth.example/t', SECURE, ['auth.example:8443']],
    ['on plain HTTP where the upstream uses TLS', 'http://ghcr.io/token', SECURE, ['ghcr.io']],
    ['with a user in its address', 'https://user@ghcr.io/token', SECURE, []],
    ['in a file', 'file:///etc/passwd', PLAIN, []],
    ['that is a path', '/token', SECURE, []],
    ['that is nothing', '', SECURE, []],
  ];
  for (const [what, realm, upstream, realms] of table) {
    test(what, () => {
      assert.throws(() => trustedRealm(realm, upstream, realms), {
        code: 'UPSTREAM_INVALID',
        message: /not trusted with our credentials.*realms of this upstream/,
      });
    });
  }

  test('and is named without what is secret in its address', () => {
    assert.throws(() => trustedRealm('https://user:pass@evil.example/token?key=x', SECURE, []), {
      message: /^ghcr\.io sends us to https:\/\/evil\.example for a token/,
    });
  });
});
