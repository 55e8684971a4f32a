// The suites as programs: built from their Go module, each at one commit, and kept for the next run; or taken
// from a folder where somebody has built them, each under the suite's name.
import { execFileSync } from 'node:child_process';
import { accessSync, constants, cpSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { newFolder } from '../e2e/support/workspace.ts';
import type { Suite } from './suites.ts';

const MODULE = 'github.com/opencontainers/distribution-spec/conformance';
const FOLDER_VARIABLE = 'OCI_CONFORMANCE_PROGRAMS';

/** No Go module proxy that is asked here has the suite. */
export class Unobtainable extends Error {}

/** The program of each suite. Throws a sentence for a person when one cannot be had. */
export function findPrograms(
  suites: readonly Suite[],
  folder = process.env[FOLDER_VARIABLE],
): Map<Suite, string> {
  return new Map(suites.map(suite => [suite, folder ? programIn(folder, suite) : built(suite)]));
}

function programIn(folder: string, { name }: Suite): string {
  const path = join(folder, name);
  try {
    accessSync(path, constants.X_OK);
  } catch {
    throw new Error(`the conformance suite ${name} is no program at ${path}`);
  }
  return path;
}

function built(suite: Suite): string {
  const kept = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'ghcr-cache', 'conformance');
  const program = join(kept, `${suite.name}-${suite.commit.slice(0, 12)}`);
  if (existsSync(program)) return program;
  console.log(`building the conformance suite ${suite.name}`);
  const work = newFolder('conformance-build');
  const source = join(work, 'source');
  // Go's own copy is read-only, and a build may want to write beside it.
  cpSync(download(suite, work), source, { recursive: true });
  execFileSync('chmod', ['-R', 'u+w', source]);
  mkdirSync(kept, { recursive: true });
  go([...suite.build, '-o', join(work, 'program')], source);
  renameSync(join(work, 'program'), `${program}.new`);
  renameSync(`${program}.new`, program);
  rmSync(work, { recursive: true, force: true });
  return program;
}

/** Where Go keeps the module, whose checksum it has checked. */
function download({ name, commit }: Suite, cwd: string): string {
  let said: string;
  try {
    said = go(['mod', 'download', '-json', `${MODULE}@${commit}`], cwd);
  } catch (error) {
    // What went wrong is in the answer, too.
    said = String((error as { stdout?: unknown }).stdout ?? '');
    if (said === '') throw error;
  }
  const { Dir: folder, Error: why } = JSON.parse(said) as { Dir?: string; Error?: string };
  if (folder) return folder;
  throw new Unobtainable(
    `the conformance suite ${name} cannot be had as a Go module: ${why}\n` +
      `Where it was built elsewhere, name the folder of the programs by --programs or ${FOLDER_VARIABLE}.`,
  );
}

function go(args: readonly string[], cwd: string): string {
  return execFileSync('go', args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, GOFLAGS: '-mod=mod' },
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}
