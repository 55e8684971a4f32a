// The printed report of a run: a table by category, then everything that did not pass, with the reason.
import { CATEGORIES, type Test } from './suites.ts';

/** Enough of an unexpected body. */
const REASON_LENGTH = 600;

export interface Report {
  readonly title: string;
  readonly tests: readonly Test[];
  /** Why a test is known not to pass; undefined when it should. */
  readonly known: (test: Test) => string | undefined;
}

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export function count(tests: readonly Test[]): Counts {
  const of = (outcome: Test['outcome']) => tests.filter(test => test.outcome === outcome).length;
  return { passed: of('passed'), failed: of('failed'), skipped: of('skipped') };
}

/** Whether it ran anything, and everything passed except known failures. */
export function isGood({ tests, known }: Report): boolean {
  const isExpected = (test: Test) => test.outcome === 'passed' || known(test) !== undefined;
  return tests.some(test => test.outcome === 'passed') && tests.every(isExpected);
}

export function reportLines(report: Report): string[] {
  const { title, tests } = report;
  return [
    `=== ${title}`,
    row('', 'passed', 'failed', 'skipped'),
    ...CATEGORIES.map(category =>
      countRow(
        category,
        tests.filter(test => test.category === category),
      ),
    ),
    countRow('total', tests),
    ...(tests.length === 0 ? ['  no test ran'] : []),
    ...notPassed(report),
  ];
}

function countRow(name: string, tests: readonly Test[]): string {
  const { passed, failed, skipped } = count(tests);
  return row(name, passed, failed, skipped);
}

function row(name: string, ...cells: readonly (string | number)[]): string {
  return `  ${name.padEnd(20)}${cells.map(cell => String(cell).padStart(8)).join('')}`;
}

/** What failed or was skipped: each reason once, with all of its tests. */
function notPassed({ tests, known }: Report): string[] {
  const names = new Map<string, string[]>();
  for (const test of tests.filter(({ outcome }) => outcome !== 'passed')) {
    const knownReason = known(test);
    const reason = knownReason === undefined ? brief(test.reason) : `known: ${knownReason}`;
    const line = `  ${test.outcome}: ${reason}`;
    names.set(line, [...(names.get(line) ?? []), test.name]);
  }
  return [...names].flatMap(([line, tests]) => [line, ...repeated(tests).map(name => `      ${name}`)]);
}

/** Without digests, which are random, equal reasons look equal. */
function brief(reason: string): string {
  const shortened = reason.replace(/\b(sha\d+:)[\da-f]{64,}/g, '$1…');
  const cut = shortened.length > REASON_LENGTH ? `${shortened.slice(0, REASON_LENGTH)} …` : shortened;
  return cut.replaceAll('\n', '\n    ');
}

/** Each name once, with how often it occurs. */
function repeated(names: readonly string[]): string[] {
  const times = new Map<string, number>();
  for (const name of names) times.set(name, (times.get(name) ?? 0) + 1);
  return [...times].map(([name, number]) => (number === 1 ? name : `${name} (${number} times)`));
}
