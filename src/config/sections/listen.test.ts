import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRejected, load } from '../../../test/support/config.ts';

test('an address and a port are read', () => {
  assert.deepEqual(load('listen: { host: "[::1]", port: 0 }').listen, { host: '::1', port: 0 });
  assert.deepEqual(load('listen: { host: LocalHost, port: "80" }').listen, { host: 'localhost', port: 80 });
});

test('what is no host or no port is rejected', () => {
  const host = 'is not a host name or an IP address; the port has a key of its own';
  const port = 'is not a whole number from 0 to 65535';
  assertRejected([
    ['listen:\n  port: 65536', `2: listen.port: 65536 ${port}`],
    ['listen:\n  port: http', `2: listen.port: "http" ${port}`],
    ['listen:\n  port: 50.5', `2: listen.port: 50.5 ${port}`],
    ['listen:\n  host: localhost:5000', `2: listen.host: "localhost:5000" ${host}`],
    ['listen:\n  host: ""', `2: listen.host: "" ${host}`],
  ]);
});
