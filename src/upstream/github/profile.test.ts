import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isGitHub } from './profile.ts';

test('images of ghcr.io are GitHub packages, and others where the config names an API for packages', () => {
  assert.equal(isGitHub('ghcr.io', undefined), true);
  assert.equal(isGitHub('quay.io', undefined), false);
  assert.equal(isGitHub('containers.ghe.example', new URL('https://ghe.example/api/v3')), true);
});
