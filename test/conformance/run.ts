// Runs the conformance suites of the OCI distribution spec against the cache in front of each upstream of upstreams.ts,
// all on loopback: `npm run test:conformance`. Arguments after `--` select upstreams and suites, as in `distribution
// main`; `--direct` leaves out the cache and tests the upstream itself; `--programs DIRECTORY` uses suites that are
// built already (programs.ts). It fails on a failure or a skip that known-failures.ts does not list and on a suite that
// ran nothing; exit code 3 means that all passed, but a suite is not available. However it ends, every process that it
// started is stopped and its directory removed.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensurePrograms } from '../e2e/support/prerequisites.ts';
import { WORKSPACE_VARIABLE } from '../e2e/support/workspace.ts';
import { startCache } from './cache.ts';
import { knownFailure } from './known-failures.ts';
import { findProgram } from './programs.ts';
import { count, isGood, type Report, reportLines } from './report.ts';
import { SUITES, type Suite } from './suites.ts';
import { UPSTREAMS, type Upstream } from './upstreams.ts';

const { values, positionals } = parseArgs({
  options: { direct: { type: 'boolean', default: false }, programs: { type: 'string' } },
  allowPositionals: true,
});

const workspace = mkdtempSync(join(tmpdir(), 'ghcr-conformance-'));
process.env[WORKSPACE_VARIABLE] = workspace;
const interrupt = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => interrupt.abort(new Error(`stopped by ${signal}`)));
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  rmSync(workspace, { recursive: true, force: true });
}

async function main(): Promise<number> {
  const named = new Set([...UPSTREAMS, ...SUITES].map(({ name }) => name));
  const unknown = positionals.find(word => !named.has(word));
  if (unknown !== undefined)
    throw new Error(`unknown upstream or suite ${unknown}; there are ${[...named].join(', ')}`);
  const suites = selected(SUITES);
  const programs = new Map(suites.map(suite => [suite, findProgram(suite, values.programs)]));
  ensurePrograms();

  const reports: Report[] = [];
  for (const upstream of selected(UPSTREAMS)) {
    for (const [suite, program] of programs) {
      if (program === undefined) continue;
      const report = await test(upstream, suite, program);
      console.log(`${reportLines(report).join('\n')}\n`);
      reports.push(report);
    }
  }
  const { passed, failed, skipped } = count(reports.flatMap(report => report.tests));
  const known = count(reports.flatMap(({ tests, known }) => tests.filter(known))).failed;
  console.log(`${passed} passed, ${failed - known} failed, ${skipped + known} skipped`);
  if (known > 0) console.log(`(${known} known failures count as skipped)`);
  const missing = suites.filter(suite => programs.get(suite) === undefined);
  for (const { name } of missing) console.log(`NOT RUN, because it is not available here: the suite ${name}`);
  if (!reports.every(isGood)) return 1;
  return missing.length > 0 ? 3 : 0;
}

/** Those named on the command line, or all if none is. */
function selected<T extends { readonly name: string }>(all: readonly T[]): readonly T[] {
  const some = all.filter(({ name }) => positionals.includes(name));
  return some.length > 0 ? some : all;
}

/** One suite against one upstream of its own. */
async function test(upstream: Upstream, suite: Suite, program: string): Promise<Report> {
  interrupt.signal.throwIfAborted();
  // Only the cache has to log in: not every suite can when blobs are on another port.
  await using running = await upstream.start(values.direct);
  await using cache = values.direct ? undefined : await startCache(running);
  const tests = await suite.run(program, cache ?? running, interrupt.signal);
  return {
    title: `suite ${suite.name} against ${cache ? 'the cache in front of ' : ''}${upstream.name}`,
    tests,
    known: test => knownFailure(test, suite, upstream),
  };
}
