import assert from 'node:assert/strict';
import { test } from 'node:test';
import { schemaKeys } from '../../test/support/config.ts';
import { schema } from './load.ts';
import { plannedKey, unknownKey } from './suggest.ts';

test('the key that was probably meant is suggested, and the known ones where none is near', () => {
  const known = ['host', 'port'];
  for (const key of ['pot', 'ports', 'Port', 'PORT']) {
    assert.equal(unknownKey(key, known), 'unknown key; did you mean port?', key);
  }
  for (const key of ['address', 'p', '']) {
    assert.equal(unknownKey(key, known), 'unknown key; known here are host, port', key);
  }
});

test('planned keys are told from others, and belong to their section', () => {
  for (const keys of [['mirror'], ['cache', 'unusedFor'], ['upstreams', 'quay.io', 'users']]) {
    assert.match(plannedKey(keys) ?? '', /does not support it yet/, keys.join('.'));
  }
  for (const keys of [['unusedFor'], ['cache', 'mirror'], ['listen', 'workers'], ['constructor'], []]) {
    assert.equal(plannedKey(keys), undefined, keys.join('.'));
  }
});

test('no planned key is one that the schema has', () => {
  const paths = schemaKeys(schema).map(key => key.replaceAll('[]', '.0').split('.'));
  for (const path of paths) {
    for (const [i] of path.entries()) assert.equal(plannedKey(path.slice(0, i + 1)), undefined, path.join('.'));
  }
});
