// What is printed of a run: a table by category, then all that did not pass, with its reason.
import { CATEGORIES, type Test } from './suites.ts';

/** Much of a body that was not the expected one is enough. */
const REASON_LENGTH = 600;

export interface Report {
  readonly title: string;
  readonly tests: readonly Test[];
  /** Why it is no fault of ours that a test did not pass; undefined when it is one. */
  readonly excuse: (test: Test) => string | undefined;
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

/** Whether it ran anything, and all passed but what is excused. */
export function isGood({ tests, excuse }: Report): boolean {
  const isFaultless = (test: Test) => test.outcome === 'passed' || excuse(test) !== undefined;
  return tests.some(test => test.outcome === 'passed') && tests.every(isFaultless);
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
    countRow('in all', tests),
    ...(tests.length === 0 ? ['  it ran no test'] : []),
    ...complaints(report),
  ];
}

function countRow(name: string, tests: readonly Test[]): string {
  const { passed, failed, skipped } = count(tests);
  return row(name, passed, failed, skipped);
}

function row(name: string, ...cells: readonly (string | number)[]): string {
  return `  ${name.padEnd(20)}${cells.map(cell => String(cell).padStart(8)).join('')}`;
}

/** What failed or was skipped, each reason once with all the tests that gave it. */
function complaints({ tests, excuse }: Report): string[] {
  const names = new Map<string, string[]>();
  for (const test of tests.filter(({ outcome }) => outcome !== 'passed')) {
    const known = excuse(test);
    const reason = known === undefined ? brief(test.reason) : `known: ${known}`;
    const said = `  ${test.outcome}: ${reason}`;
    names.set(said, [...(names.get(said) ?? []), test.name]);
  }
  return [...names].flatMap(([said, tests]) => [said, ...repeated(tests).map(name => `      ${name}`)]);
}

/** Digests are random: without them the same reason looks the same. */
function brief(reason: string): string {
  const shortened = reason.replace(/\b(sha\d+:)[\da-f]{64,}/g, '$1…');
  const cut = shortened.length > REASON_LENGTH ? `${shortened.slice(0, REASON_LENGTH)} …` : shortened;
  return cut.replaceAll('\n', '\n    ');
}

/** Each name once, with how often it came. */
function repeated(names: readonly string[]): string[] {
  const times = new Map<string, number>();
  for (const name of names) times.set(name, (times.get(name) ?? 0) + 1);
  return [...times].map(([name, number]) => (number === 1 ? name : `${name} (${number} times)`));
}
