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

test('so is every token that was issued to us, until many others were; one of a few letters is no secret', () => {
  const mask = new Mask();
  mask.addToken('abc.defg');
  mask.addToken('a');
  assert.equal(mask.hide('you sent abc.defg, a token'), 'you sent ***, a token');
  for (let i = 0; i < 100; i++) mask.addToken(`another-${i}`);
  assert.equal(mask.hide('you sent abc.defg'), 'you sent abc.defg');
  assert.equal(mask.hide('another-99'), '***');
});

test('a secret that has lost its case, as in the name of a host, is hidden too', () => {
  const mask = new Mask();
  mask.add('ghp_Secret');
  assert.equal(mask.clean('https://GHP_SECRET.example and ghp_secret'), 'https://***.example and ***');
});

test('of two secrets that overlap nothing is left', () => {
  const mask = new Mask();
  mask.add('secret', 'secret-and-more');
  assert.equal(mask.hide('secret-and-more, secret'), '***, ***');
});

test('what would act on a terminal, hide, reorder or end a line is not left in a text', () => {
  const mask = new Mask();
  const bad = ['\u001b[31m', '\r\n', '\u0000', '\u009b', '\u202e', '\u200b', '\u2028', '\ufeff', '\ud800'];
  for (const each of bad) assert.match(mask.clean(`a${each}b`), /^a (?:\[31m)?b$/, JSON.stringify(each));
  assert.equal(mask.clean('880.092µs, 日本'), '880.092µs, 日本');
  assert.equal(mask.clean('x'.repeat(1000), 100).length, 100);
});

test('an error is cleaned with all that led to it', () => {
  const mask = new Mask();
  mask.add('ghp_secret');
  const error = mask.cleanError(new Error('a\nghp_secret', { cause: new Error('ghp_secret') }));
  assert.equal(error.message, 'a ***');
  assert.equal(error.cause, undefined);
});
