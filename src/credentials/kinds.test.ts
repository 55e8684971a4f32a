import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adviceOn, kindOf } from './kinds.ts';

test('the kind of a token is known by its prefix', () => {
  const kinds: [prefix: string, name: string | undefined, isUsable?: boolean][] = [
    ['ghp_', 'classic personal access token'],
    ['github_pat_', 'fine-grained personal access token', false],
    ['gho_', 'OAuth token, as of gh'],
    ['ghu_', 'token of a GitHub App for a user'],
    ['ghs_', 'installation token (GITHUB_TOKEN, or of a GitHub App)'],
    ['ghr_', 'refresh token', false],
    ['0123456789abcdef', undefined],
    ['GHP_', undefined],
    ['xghp_', undefined],
  ];
  for (const [prefix, name, isUsable = true] of kinds) {
    const kind = kindOf(`${prefix}abc`);
    assert.equal(kind?.name, name);
    assert.equal(kind?.unusable === undefined, isUsable, prefix);
    if (!isUsable)
      assert.match(kind?.unusable ?? '', /https:\/\/github\.com\/settings\/tokens\/new\?scopes=write:packages$/);
  }
});

test('what a token may do follows from its scopes, and what is missing or too much is said', () => {
  const cases: [scopes: string[], may: string | undefined, ...cautions: RegExp[]][] = [
    [[], undefined, /has not the scope read:packages/],
    [['repo', 'gist'], undefined, /has not the scope read:packages/],
    [['delete:packages'], undefined, /has not the scope read:packages/],
    [['read:packages'], 'pull'],
    [['write:packages'], 'pull and push'],
    [['read:packages', 'delete:packages'], 'pull and delete'],
    [['write:packages', 'delete:packages', 'read:org'], 'pull, push and delete'],
    [['write:packages', 'repo'], 'pull and push', /its scope repo lets it change code too/],
    [['read:packages', 'admin:org', 'workflow', 'user'], 'pull', /no use here: admin:org, workflow, user$/],
  ];
  for (const [scopes, may, ...cautions] of cases) {
    const advice = adviceOn(scopes);
    assert.equal(advice.may, may, scopes.join());
    assert.equal(advice.cautions.length, cautions.length, scopes.join());
    for (const [i, caution] of cautions.entries()) assert.match(advice.cautions[i] ?? '', caution);
  }
});
