import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRejected, load } from '../../../test/support/config.ts';

test('the level is one of those that pino has', () => {
  assert.equal(load('log: { level: silent }').log.level, 'silent');
  assertRejected([
    ['log: { level: verbose }', '1: log.level: "verbose" is not one of trace, debug, info, warn, error, fatal, silent'],
  ]);
});
