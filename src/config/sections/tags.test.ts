import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRejected, load } from '../../../test/support/config.ts';

const LAST = { match: '*', freshMs: 60_000, keepDeleted: false, writeOnce: false };

test('rules keep their order, with the default one at the end unless one matches everything', () => {
  const rules =
    '{ match: v*, images: Team/*, fresh: immutable, keepDeleted: true }, { match: latest, writeOnce: true }';
  const first = {
    match: 'v*',
    images: 'team/*',
    freshMs: Number.POSITIVE_INFINITY,
    keepDeleted: true,
    writeOnce: false,
  };
  assert.deepEqual(load(`tags: [${rules}]`).tags, [first, { ...LAST, match: 'latest', writeOnce: true }, LAST]);
  assert.deepEqual(load('tags: [{ fresh: 5s }]').tags, [{ ...LAST, freshMs: 5_000 }]);
  assert.deepEqual(load('tags: [{ images: a }]').tags, [{ ...LAST, images: 'a' }, LAST]);
});

test('rules that say nothing, or what is no glob, are rejected', () => {
  const tag = 'is not a glob over tags; its only wildcard is *, which matches anything';
  const name = 'is not a glob over repository names; its only wildcard is *, which matches anything, also across /';
  assertRejected([
    ['tags: []', '1: tags: an empty list has no rule for any tag; remove the key to get the default'],
    ['tags:\n  - match: v?', `2: tags[0].match: "v?" ${tag}`],
    ['tags:\n  - match: a/b', `2: tags[0].match: "a/b" ${tag}`],
    ['tags:\n  - images: "{a,b}"', `2: tags[0].images: "{a,b}" ${name}`],
  ]);
});

test('what is no duration is rejected', () => {
  const problem = 'is not a duration; write a number with a unit, such as 60s, 5m or 30d';
  assertRejected([
    ['staleIfError: 30', `1: staleIfError: 30 ${problem}`],
    ['tags: [{ fresh: always }]', `1: tags[0].fresh: "always" ${problem}, or immutable`],
  ]);
  assert.equal(load('staleIfError: 0').staleIfErrorMs, 0);
  assert.equal(load('staleIfError: 1h30m').staleIfErrorMs, 90 * 60_000);
});
