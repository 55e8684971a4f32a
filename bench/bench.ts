// How a scenario measures, A/B: the subjects in turn, run after run, so that noise of the machine affects all of them;
// medians, their spread, and the ratio of ours to each of the others.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Program } from './programs.ts';
import { type Spread, spreadOf, spreadText } from './statistics.ts';

/** A quantity to measure. */
export interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
}

/** A program or setup to measure. The first one is ours, with which the others are compared. */
export interface Subject {
  readonly name: string;
  readonly version?: string;
  /** The process to report memory and CPU time of; absent if none should be. */
  readonly program?: Program | undefined;
}

/** The result of one run: a value for each metric, in their order, and whether the client was the limit. */
export interface Measured {
  readonly values: readonly number[];
  readonly saturated?: boolean;
}

export interface Series extends Subject {
  /** The runs, for each metric. */
  readonly spreads: readonly Spread[];
  /** How many times as good ours is, for each metric, by medians; 1 for ours. */
  readonly ratios: readonly number[];
  /** In how many of its runs the client was the limit. */
  readonly saturatedRuns: number;
}

/** The result of one comparison. */
export interface Comparison {
  readonly scenario: string;
  readonly title: string;
  readonly metrics: readonly Metric[];
  readonly series: readonly Series[];
  readonly notes: readonly string[];
}

const CPU: Metric = { name: 'CPU', unit: 's', better: 'less' };
const PEAK: Metric = { name: 'peak memory', unit: 'MB', better: 'less' };

/** A program is idle that uses so little CPU time in so long; it is given some half a minute. */
const IDLE_CPU_MS = 20;
const SETTLE_MS = 250;
const SETTLE_LOOKS = 120;

export class Bench {
  readonly runs: number;
  /** Another checkout, with its packages installed, whose cache ours is compared with in place of the competitors. */
  readonly before: string | undefined;
  readonly comparisons: Comparison[] = [];
  readonly #scenario: string;
  readonly #root: string;
  #notes: string[] = [];

  /** `root` is the directory for everything that the scenario writes. */
  constructor(scenario: string, root: string, runs: number, before?: string) {
    this.#scenario = scenario;
    this.#root = root;
    this.runs = runs;
    this.before = before;
  }

  /** A new, empty directory. */
  directory(): string {
    return mkdtempSync(join(this.#root, 'scratch-'));
  }

  /** Removes all directories so far, whose programs have ended: what they hold may be many gigabytes. */
  clear(): void {
    for (const name of readdirSync(this.#root)) rmSync(join(this.#root, name), { recursive: true, force: true });
  }

  /** A note to print below the next comparison. */
  note(text: string): void {
    this.#notes.push(text);
  }

  /**
   * Measures every subject once per run, in another order each time. If ours fails, that is an error; another
   * one that fails is left out, with a note.
   */
  async compare<C extends Subject>(
    title: string,
    metrics: readonly Metric[],
    subjects: readonly C[],
    measure: (subject: C, run: number) => Promise<Measured>,
  ): Promise<Comparison> {
    const values = new Map<C, number[][]>(subjects.map(subject => [subject, []]));
    const saturated = new Map<C, number>();
    const [ours] = subjects;
    for (let run = 0; run < this.runs; run++) {
      for (const subject of inTurn(subjects, run)) {
        const rows = values.get(subject);
        if (rows === undefined) continue;
        try {
          const measured = await this.#once(subject, () => measure(subject, run));
          await settle(subject);
          rows.push(measured.values as number[]);
          if (measured.saturated) saturated.set(subject, (saturated.get(subject) ?? 0) + 1);
        } catch (error) {
          if (subject === ours) throw error;
          this.note(`${subject.name} failed: ${(error as Error).message.slice(0, 300)}`);
          values.delete(subject);
        }
      }
    }
    const all = [...metrics, ...(subjects.some(({ program }) => program) ? [CPU, PEAK] : [])];
    const series: Series[] = [];
    for (const [{ name, version }, rows] of values) {
      const spreads = all.map((_, i) => spreadOf(rows.map(row => row[i] ?? Number.NaN)));
      const ratios = all.map((metric, i) => ratioOf(metric, series[0]?.spreads[i] ?? spreads[i], spreads[i]));
      const saturatedRuns = saturated.get([...values.keys()][series.length] as C) ?? 0;
      series.push({ name, ...(version && { version }), spreads, ratios, saturatedRuns });
    }
    const busy = series.filter(({ saturatedRuns }) => saturatedRuns > 0).map(({ name }) => name);
    if (busy.length > 0) this.note(`the client, not the server, was the limit for ${busy.join(', ')}`);
    const comparison = { scenario: this.#scenario, title, metrics: all, series, notes: this.#notes };
    this.#notes = [];
    this.comparisons.push(comparison);
    print(comparison);
    return comparison;
  }

  async #once({ program }: Subject, measure: () => Promise<Measured>): Promise<Measured> {
    if (program === undefined) return measure();
    program.resetPeak();
    const cpuMs = program.cpuMs();
    const { values, ...others } = await measure();
    return { ...others, values: [...values, (program.cpuMs() - cpuMs) / 1000, program.peakBytes() / 1e6] };
  }

  close(): void {
    rmSync(this.#root, { recursive: true, force: true });
  }
}

/** How many times as good ours is. */
/** In another order each time, in which none always follows the same one: a Latin square, after E. J. Williams. */
function inTurn<C>(subjects: readonly C[], run: number): C[] {
  const count = subjects.length;
  return subjects.flatMap((_, i) => {
    const step = i % 2 === 0 ? count - i / 2 : (i + 1) / 2;
    return subjects[(run + step) % count] ?? [];
  });
}

/** Waits until what a program does after its last response is done, and on the disk: another one would be slower meanwhile. */
async function settle({ program }: Subject): Promise<void> {
  for (let looks = 0; looks < SETTLE_LOOKS; looks++) {
    const cpuMs = program?.cpuMs() ?? 0;
    await sleep(SETTLE_MS);
    if ((program?.cpuMs() ?? 0) - cpuMs <= IDLE_CPU_MS) break;
  }
  spawnSync('sync');
}

function ratioOf({ better }: Metric, ours: Spread | undefined, theirs: Spread | undefined): number {
  const ratio = (ours?.median ?? Number.NaN) / (theirs?.median ?? Number.NaN);
  return better === 'more' ? ratio : 1 / ratio;
}

function print({ title, metrics, series, notes }: Comparison): void {
  const [ours, ...others] = series;
  if (ours === undefined) return;
  console.log(`\n  ${title}`);
  const head = ['', ...metrics.flatMap(({ name, unit }) => [`${name}, ${unit}`, 'ours is'])];
  const rows = [ours, ...others].map(({ name, spreads, ratios }) => [
    name,
    ...spreads.flatMap((spread, i) => [
      Number.isNaN(spread.median) ? '' : spreadText(spread, digitsOf(spread.median)),
      name === ours.name || !Number.isFinite(ratios[i]) ? '' : `${(ratios[i] ?? 0).toPrecision(3)} ×`,
    ]),
  ]);
  const widths = head.map((text, i) => Math.max(text.length, ...rows.map(row => row[i]?.length ?? 0)));
  for (const row of [head, ...rows]) {
    console.log(`    ${row.map((text, i) => text.padEnd(widths[i] ?? 0)).join('  ')}`.trimEnd());
  }
  for (const note of notes) console.log(`    (${note})`);
}

/** The decimal places that make three significant digits; none for zero. */
export function digitsOf(value: number): number {
  if (value === 0) return 0;
  return Math.max(0, 2 - Math.floor(Math.log10(Math.max(Math.abs(value), 0.001))));
}
