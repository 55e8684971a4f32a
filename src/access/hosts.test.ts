import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostCheck } from './hosts.ts';

const isAccepted = hostCheck(['Box.Corp.Example', 'cache.lab.example.', '2001:db8::1']);

test('addresses, names that nobody can register, and the given ones are accepted, with any port', () => {
  for (const name of [
    ...['127.0.0.1', '192.168.1.2', '203.0.113.9', '[::1]', '[2001:db8::1]', '[::ffff:10.0.0.1]'],
    ...['localhost', 'LOCALHOST', 'localhost.', 'app.localhost', 'registry', 'ghcr_cache', 'k3d-registry'],
    ...['nas.local', 'cache.corp.internal', 'cache.lan', 'cache.home.arpa'],
    ...['cache.default.svc', 'cache.default.svc.cluster.local', 'cache.default.svc.'],
    ...['box.corp.example', 'BOX.corp.EXAMPLE.', 'cache.lab.example'],
  ]) {
    for (const host of [name, `${name}:5000`, `${name}:80`]) assert.equal(isAccepted(host), true, host);
  }
});

test('any other name is not, nor what is not a name', () => {
  for (const host of [
    ...['evil.example', 'evil.example:5000', 'cache.lab.example.evil.example', 'evilbox.corp.example', 'corp.example'],
    ...['localhost.evil.example', '127.0.0.1.nip.io', 'xlocal.com', 'svc.evil.example', 'x.alocal', '127.1', '0x7f.1'],
    ...[
      '',
      '.',
      ':5000',
      '::1',
      '[::1',
      '[127.0.0.1]',
      '[evil.example]',
      'localhost:',
      'localhost:x',
      'localhost:999999',
    ],
    ...['user@localhost', 'localhost/x', 'localhost evil', 'localhost,evil.example', 'lo\u0000calhost', 'ärger'],
  ]) {
    assert.equal(isAccepted(host), false, JSON.stringify(host));
  }
});

test('a verdict is the same when it is asked for again, and after many others', () => {
  for (let n = 0; n < 2_000; n++) {
    assert.equal(isAccepted(`n${n}.evil.example`), false);
    assert.equal(isAccepted(`n${n}`), true);
  }
  assert.equal(isAccepted('evil.example'), false);
  assert.equal(isAccepted('cache.lab.example:5000'), true);
  assert.equal(isAccepted(`${'a'.repeat(10_000)}`), false);
});
