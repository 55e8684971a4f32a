// Runs the conformance suites of the OCI distribution spec against the cache, once in front of each upstream
// of upstreams.ts, all on loopback: `npm run test:conformance`. Words after `--` pick upstreams and suites, as in
// `distribution main`; `--direct` leaves the cache out, which shows what the upstream itself is like;
// `--programs FOLDER` takes suites that are built already (programs.ts). It fails on a failure or a skip that
// excuses.ts does not know, and on a suite that ran nothing; with exit code 3 when all is well but for a suite that
// cannot be had. Whatever happens, nothing that was started stays, and the one folder that all of it lives in is removed.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensurePrograms } from '../e2e/support/prerequisites.ts';
import { WORKSPACE_VARIABLE } from '../e2e/support/workspace.ts';
import { startCache } from './cache.ts';
import { excuseOf } from './known-failures.ts';
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
  process.on(signal, () => interrupt.abort(new Error(`ended by ${signal}`)));
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
    throw new Error(`nothing is named ${unknown}; there are ${[...named].join(', ')}`);
  const suites = picked(SUITES);
  const programs = new Map(suites.map(suite => [suite, findProgram(suite, values.programs)]));
  ensurePrograms();

  const reports: Report[] = [];
  for (const upstream of picked(UPSTREAMS)) {
    for (const [suite, program] of programs) {
      if (program === undefined) continue;
      const report = await test(upstream, suite, program);
      console.log(`${reportLines(report).join('\n')}\n`);
      reports.push(report);
    }
  }
  const { passed, failed, skipped } = count(reports.flatMap(report => report.tests));
  const excused = count(reports.flatMap(({ tests, excuse }) => tests.filter(excuse))).failed;
  console.log(`${excused} of the failures are excused, and count as skipped:`);
  console.log(`${passed} passed, ${failed - excused} failed, ${skipped + excused} skipped`);
  const missing = suites.filter(suite => programs.get(suite) === undefined);
  for (const { name } of missing) console.log(`NOT RUN, since it cannot be had here: the suite ${name}`);
  if (!reports.every(isGood)) return 1;
  return missing.length > 0 ? 3 : 0;
}

/** Those that were named, or all when none was. */
function picked<T extends { readonly name: string }>(all: readonly T[]): readonly T[] {
  const some = all.filter(({ name }) => positionals.includes(name));
  return some.length > 0 ? some : all;
}

/** One suite against one upstream, which it has for itself. */
async function test(upstream: Upstream, suite: Suite, program: string): Promise<Report> {
  interrupt.signal.throwIfAborted();
  // The cache can log in; not every suite can where blobs are on another port.
  await using running = await upstream.start(values.direct);
  await using cache = values.direct ? undefined : await startCache(running);
  const tests = await suite.run(program, cache ?? running, interrupt.signal);
  return {
    title: `suite ${suite.name} against ${cache ? 'the cache before ' : ''}${upstream.name}`,
    tests,
    excuse: test => excuseOf(test, suite, upstream),
  };
}
