import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isGlob, matcherOf } from './glob.ts';

test('a star matches any run of characters, also across a slash', () => {
  const cases: [string, string, boolean][] = [
    ['*', '', true],
    ['*', 'a/b', true],
    ['v1', 'v1', true],
    ['v1', 'v10', false],
    ['v*', 'v', true],
    ['v*', 'v1.2', true],
    ['v*', 'dev', false],
    ['*-rc', 'v1-rc', true],
    ['*-rc', 'v1-rc2', false],
    ['team/*', 'team/a/b', true],
    ['team/*', 'team', false],
    ['*/app', 'team/app', true],
    ['a*a', 'a', false],
    ['a*a', 'aa', true],
    ['ab*ba', 'aba', false],
    ['a*b*c', 'a-b-b-c', true],
    ['a*b*c', 'acb', false],
    ['**', 'x', true],
    ['a.c', 'abc', false],
    ['', '', true],
    ['', 'a', false],
    ['App', 'app', false],
  ];
  for (const [glob, text, matches] of cases) {
    assert.equal(matcherOf(glob)(text), matches, `${glob} ${text}`);
  }
});

test('it agrees with a regular expression', () => {
  const over = (letters: string) => fc.string({ unit: fc.constantFrom(...letters), maxLength: 10 });
  fc.assert(
    fc.property(over('ab*'), over('ab'), (glob, text) => {
      assert.equal(matcherOf(glob)(text), new RegExp(`^${glob.replaceAll('*', '.*')}$`).test(text));
    }),
    { numRuns: 2000 },
  );
});

test('nothing backtracks', () => {
  const start = performance.now();
  assert.equal(matcherOf(`${'a*'.repeat(200)}b`)('a'.repeat(100_000)), false);
  assert.equal(matcherOf(`${'*a'.repeat(200)}*b*`)('a'.repeat(100_000)), false);
  assert.ok(performance.now() - start < 1000);
});

test('wildcards of other tools are not globs', () => {
  for (const glob of ['*', 'v1.*', 'team/*', 'Octo-Cat_1']) assert.equal(isGlob(glob), true, glob);
  for (const glob of ['', 'v?', '[a-z]*', '{a,b}', '!x', 'a b', '^v', 'v1\n']) {
    assert.equal(isGlob(glob), false, glob);
  }
});
