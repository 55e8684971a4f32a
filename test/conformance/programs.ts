// The suites as programs: built from Go modules, or taken from a directory where they were built before, each under the
// suite's name.
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { ensureGoProgram, Unobtainable } from '../support/go-programs.ts';
import type { Suite } from './suites.ts';

const DIRECTORY_VARIABLE = 'OCI_CONFORMANCE_PROGRAMS';

/** The program of a suite; undefined, with a message, when it is not available. Throws on any other failure. */
export function findProgram(suite: Suite, directory = process.env[DIRECTORY_VARIABLE]): string | undefined {
  if (directory) return programIn(directory, suite);
  try {
    return ensureGoProgram({ name: `conformance-${suite.name}`, isTest: suite.isTest });
  } catch (error) {
    if (!(error instanceof Unobtainable)) throw error;
    console.error(
      `${error.message}\nIf you have it built already, pass its directory with --programs or ${DIRECTORY_VARIABLE}.`,
    );
    return undefined;
  }
}

function programIn(directory: string, { name }: Suite): string {
  const path = join(directory, name);
  try {
    accessSync(path, constants.X_OK);
  } catch {
    throw new Error(`the conformance suite ${name} is not an executable at ${path}`);
  }
  return path;
}
