// The directory of a run, with everything in it: images, storage of registries and clients, data of caches, sockets.
// run.ts creates it, passes it to the test files in the environment, and removes it.
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';

export const WORKSPACE_VARIABLE = 'GHCR_CACHE_E2E_DIR';

function workspace(): string {
  const directory = process.env[WORKSPACE_VARIABLE];
  if (!directory) throw new Error('start these tests with `npm run test:e2e [-- FILE…]`');
  return directory;
}

/** A path that is the same in every test file of the run. */
export function workPath(name: string): string {
  return join(workspace(), name);
}

/** A new, empty directory. Its path is short, because those of Unix sockets are limited to 107 characters. */
export function newDirectory(name: string): string {
  return mkdtempSync(join(workspace(), `${name}-`));
}
