// The suites are programs of their own, which somebody has built: a folder holds each under the suite's name. None is
// fetched or built here.
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import type { Suite } from './suites.ts';

const FOLDER_VARIABLE = 'OCI_CONFORMANCE_PROGRAMS';

/** The program of each suite. Throws a sentence for a person when one is not there. */
export function findPrograms(
  suites: readonly Suite[],
  folder = process.env[FOLDER_VARIABLE],
): Map<Suite, string> {
  const names = suites.map(suite => suite.name).join(' and ');
  if (!folder) {
    throw new Error(
      `these tests need the conformance suites of the OCI distribution spec as programs, named ${names}, ` +
        `in a folder that --programs or ${FOLDER_VARIABLE} names`,
    );
  }
  return new Map(suites.map(suite => [suite, programIn(folder, suite)]));
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
