// A flag of Node that holds before the first line of the program has to be written wherever it is started.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const STARTS = ['package.json', 'bin/ghcr-cache.js', 'Dockerfile', 'bench/programs.ts', 'test/siege/run.ts'];

test('the program is started, shipped and measured with the same room for young objects', () => {
  const [here = '', ...others] = STARTS.map(file => {
    const text = readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
    const flags = new Set(text.match(/--max-semi-space-size=\d+/g));
    return `${[...flags]}`;
  });
  assert.match(here, /^--max-semi-space-size=\d+$/);
  for (const [i, there] of others.entries()) assert.equal(there, here, `${STARTS[i + 1]} differs from ${STARTS[0]}`);
});
