// The one folder of a run: images, registries' storage, caches' data, clients' storage, sockets. run.ts
// makes it, tells the test files of it through the environment, and removes it with all that is in it.
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';

export const WORKSPACE_VARIABLE = 'GHCR_CACHE_E2E_DIR';

function workspace(): string {
  const directory = process.env[WORKSPACE_VARIABLE];
  if (!directory) throw new Error('these tests are started by `npm run test:e2e [-- FILE…]`');
  return directory;
}

/** A path that is the same in every test file of the run. */
export function workPath(name: string): string {
  return join(workspace(), name);
}

/** A new, empty folder that nobody else has. Short, since Unix sockets have only 107 characters. */
export function newFolder(name: string): string {
  return mkdtempSync(join(workspace(), `${name}-`));
}
