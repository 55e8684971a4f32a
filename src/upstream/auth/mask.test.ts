import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Mask } from './mask.ts';

test('every secret that was added is hidden, wherever and however often it occurs', () => {
  const mask = new Mask();
  mask.add('ghp_one', 'Z2hwX29uZQ==');
  mask.add('$&');
  assert.equal(mask.hide('ghp_one, Z2hwX29uZQ== and ghp_one are $&'), '***, *** and *** are ***');
  assert.equal(mask.hide('ghp_two'), 'ghp_two');
});

test('so is the token of the Authorization that was sent, of any scheme', () => {
  const mask = new Mask();
  assert.equal(mask.hide('you sent abc.def', 'Bearer abc.def'), 'you sent ***');
  assert.equal(mask.hide('you sent abc.def', 'Basic abc.def'), 'you sent ***');
  assert.equal(mask.hide('you sent abc.def'), 'you sent abc.def');
});
