import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRejected, load } from '../../../test/support/config.ts';

test('an address and a port are read', () => {
  assert.deepEqual(load('listen: { host: "[::1]", port: 0 }').listen, { host: '::1', port: 0, hosts: [] });
  const other = load('listen: { host: LocalHost, port: "80", hosts: [Cache.Lab.Example., nas] }').listen;
  assert.deepEqual(other, { host: 'localhost', port: 80, hosts: ['cache.lab.example', 'nas'] });
});

test('what is no host or no port is rejected', () => {
  const host = 'is not a host name or an IP address; the port has a key of its own';
  const name = 'is not a host name; write it without https:// and without a port, as in cache.lab.example';
  const port = 'is not a whole number from 0 to 65535';
  assertRejected([
    ['listen:\n  port: 65536', `2: listen.port: 65536 ${port}`],
    ['listen:\n  port: http', `2: listen.port: "http" ${port}`],
    ['listen:\n  port: 50.5', `2: listen.port: 50.5 ${port}`],
    ['listen:\n  host: localhost:5000', `2: listen.host: "localhost:5000" ${host}`],
    ['listen:\n  hosts:\n    - a.example\n    - cache.example:80', `4: listen.hosts[1]: "cache.example:80" ${name}`],
    ['listen:\n  hosts: [https://cache.example]', `2: listen.hosts[0]: "https://cache.example" ${name}`],
    ['listen:\n  hosts: cache.example', '2: listen.hosts: "cache.example" is not a list'],
    ['listen:\n  host: ""', `2: listen.host: "" ${host}`],
  ]);
});

test('the network is let in only when that was asked for', () => {
  for (const host of ['0.0.0.0', '"::"', '192.168.1.2', 'cache.lan']) {
    assert.throws(() => load(`listen: { host: ${host} }`), { key: 'listen.host' }, host);
    load(`{ listen: { host: ${host} }, access: { mode: open, network: true } }`);
  }
  for (const host of ['localhost', '127.0.0.2', '"::1"', '"[::1]"']) load(`listen: { host: ${host} }`);
  assertRejected([
    [
      'listen:\n  host: 0.0.0.0',
      '2: listen.host: 0.0.0.0 is not loopback, and in open mode any client that reaches it can use your credentials; write "access: { network: true }" if they all may',
    ],
  ]);
});

test('a mode that would have to keep clients out is rejected', () => {
  const problem = 'is not supported by this version, which has only open';
  assertRejected([
    ['access: { mode: basic }', `1: access.mode: "basic" ${problem}`],
    ['access:\n  mode: upstream', `2: access.mode: "upstream" ${problem}`],
    ['access: { mode: closed }', `1: access.mode: "closed" ${problem}`],
    ['access: { network: yes }', '1: access.network: "yes" is not true or false'],
  ]);
});
