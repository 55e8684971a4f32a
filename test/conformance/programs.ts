// The suites as programs: built from Go modules, or taken from a folder where somebody has built them, each
// under the suite's name.
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { ensureGoProgram, Unobtainable } from '../support/go-programs.ts';
import type { Suite } from './suites.ts';

const FOLDER_VARIABLE = 'OCI_CONFORMANCE_PROGRAMS';

/** The program of a suite; undefined, with a word to the person, when it cannot be had. Throws what else fails. */
export function findProgram(suite: Suite, folder = process.env[FOLDER_VARIABLE]): string | undefined {
  if (folder) return programIn(folder, suite);
  try {
    return ensureGoProgram({ name: `conformance-${suite.name}`, isTest: suite.isTest });
  } catch (error) {
    if (!(error instanceof Unobtainable)) throw error;
    console.error(
      `${error.message}\nWhere it was built elsewhere, name the folder of the programs by --programs or ${FOLDER_VARIABLE}.`,
    );
    return undefined;
  }
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
