// The suites: how each is configured through its environment, and how its report is read. Each runs everything that it
// has, including what the spec leaves optional.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { environment } from '../e2e/support/processes.ts';
import { newDirectory } from '../e2e/support/workspace.ts';
import { readJunit, type TestCase } from './junit.ts';

const TIME_LIMIT_MS = 5 * 60_000;

export const CATEGORIES = ['pull', 'push', 'content discovery', 'content management'] as const;
export type Category = (typeof CATEGORIES)[number];

export interface Test {
  readonly category: Category;
  readonly name: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** Why it did not pass; empty if it did. */
  readonly reason: string;
}

/** A registry under test, which allows any client everything. */
export interface Registry {
  /** `127.0.0.1:PORT` */
  readonly host: string;
}

export interface Suite {
  readonly name: string;
  /** Whether it is the tests of a Go package, not a program. */
  readonly isTest: boolean;
  /** Throws if it writes no report. */
  run(program: string, registry: Registry, signal: AbortSignal): Promise<Test[]>;
}

/** The suite of release 1.1.1 of the spec, and its state on the main branch in April 2026. */
function released(name: string): Suite {
  return {
    name,
    isTest: true,
    async run(program, { host }, signal) {
      const cases = await runProgram(program, signal, directory => ({
        OCI_ROOT_URL: `http://${host}`,
        OCI_NAMESPACE: 'conformance/release',
        OCI_CROSSMOUNT_NAMESPACE: 'conformance/release-mount',
        OCI_AUTOMATIC_CROSSMOUNT: '1',
        OCI_TEST_PULL: '1',
        OCI_TEST_PUSH: '1',
        OCI_TEST_CONTENT_DISCOVERY: '1',
        OCI_TEST_CONTENT_MANAGEMENT: '1',
        OCI_REPORT_DIR: directory,
      }));
      const titled = /^OCI Distribution Conformance Tests (Pull|Push|Content Discovery|Content Management) (.*)$/s;
      return cases.flatMap(test => {
        const [, title, name] = titled.exec(test.name) ?? [];
        if (!title || !name) return [];
        return [{ ...outcomeOf(test), category: title.toLowerCase() as Category, name }];
      });
    },
  };
}

/** The suite on the main branch since then: rewritten, as a program. */
const main: Suite = {
  name: 'main',
  isTest: false,
  async run(program, { host }, signal) {
    const cases = await runProgram(program, signal, directory => ({
      OCI_REGISTRY: host,
      OCI_TLS: 'disabled',
      OCI_REPO1: 'conformance/main',
      OCI_REPO2: 'conformance/main-mount',
      // Includes what only the next version of the spec has: cancelling uploads, tags in the query of a PUT by digest.
      OCI_VERSION: 'dev',
      OCI_RESULTS_DIR: directory,
    }));
    return cases.map(test => {
      const name = test.name.replace(/^OCI Conformance Test\//, '');
      return { ...outcomeOf(test), category: categoryOf(name), name };
    });
  },
};

export const SUITES: readonly Suite[] = [released('v1.1.1'), released('2026-04'), main];

/** That suite has no categories; the last parts of a test's path tell what it does. */
function categoryOf(name: string): Category {
  if (/(delete|cancel)$/.test(name)) return 'content management';
  if (/(tag.list|referrers)$/.test(name)) return 'content discovery';
  if (/(\bpush\/|-put|blob-(post|patch|mount)[^/]*$)/.test(name)) return 'push';
  return 'pull';
}

function outcomeOf({ status, texts }: TestCase): Pick<Test, 'outcome' | 'reason'> {
  if (status === 'passed') return { outcome: 'passed', reason: '' };
  const message = texts.get('failure') ?? texts.get('skipped') ?? texts.get('system-out');
  const inLog = /skipping test:\s*(.*)/s.exec(texts.get('system-err') ?? '')?.[1];
  const reason = (message || inLog || 'no reason given').trim();
  return { outcome: status === 'skipped' ? 'skipped' : 'failed', reason };
}

/** Runs the program in a directory of its own, with no other settings than these, and reads the report it writes. */
async function runProgram(
  program: string,
  signal: AbortSignal,
  settings: (directory: string) => NodeJS.ProcessEnv,
): Promise<TestCase[]> {
  const directory = newDirectory('results');
  const inherited = Object.entries(environment()).filter(([name]) => !name.startsWith('OCI_'));
  const output = await outputOf(
    program,
    directory,
    { ...Object.fromEntries(inherited), ...settings(directory) },
    signal,
  );
  const report = join(directory, 'junit.xml');
  if (!existsSync(report)) throw new Error(`${program} wrote no report\n${output}`);
  return readJunit(readFileSync(report, 'utf8'));
}

/** The exit code is ignored: the report says more. */
function outputOf(program: string, cwd: string, env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<string> {
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
