// The suites: what they are told through their environment, and what is read from their reports. Each asks for all
// that it can ask, the parts that the spec leaves to the registry's choice included.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { environment } from '../e2e/support/processes.ts';
import { newFolder } from '../e2e/support/workspace.ts';
import { readJunit, type TestCase } from './junit.ts';

const TIME_LIMIT_MS = 5 * 60_000;

export const CATEGORIES = ['pull', 'push', 'content discovery', 'content management'] as const;
export type Category = (typeof CATEGORIES)[number];

export interface Test {
  readonly category: Category;
  readonly name: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** Why it did not pass. */
  readonly reason: string;
}

/** A registry to test, which lets everybody do everything. */
export interface Registry {
  /** `127.0.0.1:PORT` */
  readonly host: string;
}

export interface Suite {
  readonly name: string;
  /** Whether it is a package's tests, and not a program of its own. */
  readonly isTest: boolean;
  /** Throws when it wrote no report. */
  run(program: string, registry: Registry, signal: AbortSignal): Promise<Test[]>;
}

/** The suite of release 1.1.1 of the spec, and what had become of it on the main branch by April 2026. */
function released(name: string): Suite {
  return {
    name,
    isTest: true,
    async run(program, { host }, signal) {
      const cases = await runProgram(program, signal, folder => ({
        OCI_ROOT_URL: `http://${host}`,
        OCI_NAMESPACE: 'conformance/release',
        OCI_CROSSMOUNT_NAMESPACE: 'conformance/release-mount',
        OCI_AUTOMATIC_CROSSMOUNT: '1',
        OCI_TEST_PULL: '1',
        OCI_TEST_PUSH: '1',
        OCI_TEST_CONTENT_DISCOVERY: '1',
        OCI_TEST_CONTENT_MANAGEMENT: '1',
        OCI_REPORT_DIR: folder,
      }));
      const titled =
        /^OCI Distribution Conformance Tests (Pull|Push|Content Discovery|Content Management) (.*)$/s;
      return cases.flatMap(test => {
        const [, title, name] = titled.exec(test.name) ?? [];
        if (!title || !name) return [];
        return [{ ...outcomeOf(test), category: title.toLowerCase() as Category, name }];
      });
    },
  };
}

/** The one that the main branch has had since then: written anew, and a program. */
const main: Suite = {
  name: 'main',
  isTest: false,
  async run(program, { host }, signal) {
    const cases = await runProgram(program, signal, folder => ({
      OCI_REGISTRY: host,
      OCI_TLS: 'disabled',
      OCI_REPO1: 'conformance/main',
      OCI_REPO2: 'conformance/main-mount',
      // Also what only the next version of the spec has: cancelled uploads, tags in the query of a PUT by digest.
      OCI_VERSION: 'dev',
      OCI_RESULTS_DIR: folder,
    }));
    return cases.map(test => {
      const name = test.name.replace(/^OCI Conformance Test\//, '');
      return { ...outcomeOf(test), category: categoryOf(name), name };
    });
  },
};

export const SUITES: readonly Suite[] = [released('v1.1.1'), released('2026-04'), main];

/** Main knows no categories: the last parts of a test's path say what it did. */
function categoryOf(name: string): Category {
  if (/(delete|cancel)$/.test(name)) return 'content management';
  if (/(tag.list|referrers)$/.test(name)) return 'content discovery';
  if (/(\bpush\/|-put|blob-(post|patch|mount)[^/]*$)/.test(name)) return 'push';
  return 'pull';
}

function outcomeOf({ status, texts }: TestCase): Pick<Test, 'outcome' | 'reason'> {
  if (status === 'passed') return { outcome: 'passed', reason: '' };
  const said = texts.get('failure') ?? texts.get('skipped') ?? texts.get('system-out');
  const inLog = /skipping test:\s*(.*)/s.exec(texts.get('system-err') ?? '')?.[1];
  const reason = (said || inLog || 'it does not say why').trim();
  return { outcome: status === 'skipped' ? 'skipped' : 'failed', reason };
}

/** Runs it in a folder of its own, where it finds no settings but these, and reads what it wrote there. */
async function runProgram(
  program: string,
  signal: AbortSignal,
  settings: (folder: string) => NodeJS.ProcessEnv,
): Promise<TestCase[]> {
  const folder = newFolder('results');
  const inherited = Object.entries(environment()).filter(([name]) => !name.startsWith('OCI_'));
  const output = await outputOf(
    program,
    folder,
    { ...Object.fromEntries(inherited), ...settings(folder) },
    signal,
  );
  const report = join(folder, 'junit.xml');
  if (!existsSync(report)) throw new Error(`${program} wrote no report\n${output}`);
  return readJunit(readFileSync(report, 'utf8'));
}

/** Its exit code says only whether all is well, which the report says better. */
function outputOf(
  program: string,
  cwd: string,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(TIME_LIMIT_MS)]);
    const child = spawn(program, { cwd, env, signal: limited, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    let failure: Error | undefined;
    child.once('error', error => {
      failure = error;
      if (child.pid === undefined) reject(error);
    });
    child.once('close', () => (failure ? reject(failure) : resolve(output)));
  });
}
