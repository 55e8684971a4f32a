import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRejected, load } from '../../../test/support/config.ts';

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
