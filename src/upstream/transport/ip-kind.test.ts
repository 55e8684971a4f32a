import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type IpKind, ipKindOf } from './ip-kind.ts';

const KINDS: Record<IpKind, readonly string[]> = {
  public: [
    '1.1.1.1',
    '140.82.112.33',
    '172.32.0.1',
    '2606:4700::1',
    '::ffff:1.1.1.1',
    '64:ff9b::1.1.1.1',
    '2002:101:101::',
  ],
  private: [
    ...['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '100.64.0.1', '198.18.0.1', 'fd12::1', 'fec0::1'],
    ...[
      '::ffff:10.0.0.1',
      '::ffff:c0a8:101',
      '64:ff9b::10.0.0.1',
      '64:ff9b:1::1',
      '2002:a00:1::',
      '::10.0.0.1',
      '2001::1',
    ],
  ],
  loopback: [
    '127.0.0.1',
    '127.255.255.254',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '64:ff9b::127.0.0.1',
    '::127.0.0.1',
  ],
  never: [
    ...['0.0.0.0', '0.1.2.3', '::', '::ffff:0.0.0.0', '169.254.169.254', '::ffff:169.254.169.254', '::ffff:a9fe:a9fe'],
    ...[
      '64:ff9b::169.254.169.254',
      '64:ff9b::a9fe:a9fe',
      '2002:a9fe:a9fe::',
      '::169.254.169.254',
      'fe80::1',
      'fe80::1%eth0',
    ],
    ...['fd00:ec2::254', '100.100.100.200', '168.63.129.16', '192.0.0.192', '224.0.0.1', '255.255.255.255', 'ff02::1'],
    ...['localhost', ''],
  ],
};

for (const [kind, addresses] of Object.entries(KINDS)) {
  for (const address of addresses) {
    test(`${address || 'nothing'} is ${kind}`, () => assert.equal(ipKindOf(address), kind));
  }
}
