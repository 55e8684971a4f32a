// How the benchmarks compare and report. The scenarios themselves need other programs, and time.
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Bench, digitsOf, type Metric } from '../bench/bench.ts';
import { reportOf } from '../bench/report.ts';
import { spreadOf } from '../bench/statistics.ts';

const RATE: Metric = { name: 'rate', unit: '1/s', better: 'more' };
const TIME: Metric = { name: 'time', unit: 's', better: 'less' };

function benchOf(t: TestContext, runs: number): Bench {
  t.mock.method(console, 'log', () => {});
  const bench = new Bench('scenario', mkdtempSync(join(tmpdir(), 'ghcr-cache-bench-test-')), runs);
  t.after(() => bench.close());
  return bench;
}

test('subjects are measured in turn, each run starting with another one', async t => {
  const order: string[] = [];
  const subjects = ['ours', 'a', 'b'].map(name => ({ name }));
  await benchOf(t, 3).compare('order', [RATE], subjects, async ({ name }, run) => {
    order.push(`${run}${name}`);
    return { values: [1] };
  });
  assert.deepEqual(order, ['0ours', '0a', '0b', '1a', '1b', '1ours', '2b', '2ours', '2a']);
});

test('a ratio says how many times as good ours is, whether more or less is better', async t => {
  const values: Record<string, number[]> = { ours: [10, 2], slow: [5, 4], fast: [40, 1] };
  const subjects = Object.keys(values).map(name => ({ name }));
  const { series } = await benchOf(t, 1).compare('ratios', [RATE, TIME], subjects, async ({ name }) => ({
    values: values[name] ?? [],
  }));
  assert.deepEqual(
    series.map(({ name, ratios }) => [name, ...ratios]),
    [
      ['ours', 1, 1],
      ['slow', 2, 2],
      ['fast', 0.25, 0.5],
    ],
  );
});

test('another subject that fails is left out with a note; if ours fails, that is an error', async t => {
  const bench = benchOf(t, 2);
  const subjects = [{ name: 'ours' }, { name: 'theirs' }];
  const failing = (name: string) => async (each: { name: string }) => {
    if (each.name === name) throw new Error('is broken');
    return { values: [1], saturated: true };
  };
  const { series, notes } = await bench.compare('failing', [RATE], subjects, failing('theirs'));
  assert.deepEqual(
    series.map(({ name, saturatedRuns }) => [name, saturatedRuns]),
    [['ours', 2]],
  );
  assert.match(notes.join('\n'), /theirs failed: is broken/);
  assert.match(notes.join('\n'), /the client, not the server, was the limit for ours/);
  await assert.rejects(bench.compare('failing', [RATE], subjects, failing('ours')), /is broken/);
});

test('the report has every result, with markup escaped', async t => {
  const bench = benchOf(t, 3);
  const subjects = [{ name: 'ours' }, { name: '<theirs>', version: '1.2.3+build' }];
  let value = 0;
  bench.note('a & b');
  await bench.compare('title', [RATE], subjects, async () => ({ values: [++value * 100] }));
  const page = reportOf({ cpu: '2 × "any"' }, bench.comparisons);
  for (const part of [
    'scenario',
    'title',
    '&#60;theirs&#62; (1.2.3)',
    'a &#38; b',
    '2 × &#34;any&#34;',
    '>400<',
    '1.33 ×',
  ]) {
    assert(page.includes(part), `${part} is missing`);
  }
  assert(!page.includes('<theirs>'));
});

test('a spread has the minimum, the median and the maximum', () => {
  assert.deepEqual(spreadOf([3, 1, 2]), { min: 1, median: 2, max: 3 });
  assert.deepEqual(spreadOf([5]), { min: 5, median: 5, max: 5 });
  assert(Number.isNaN(spreadOf([]).median));
});

test('numbers have three significant digits', () => {
  assert.deepEqual([0.1234, 1.234, 12.34, 123.4, 12345, 0].map(digitsOf), [3, 2, 1, 0, 0, 0]);
});
