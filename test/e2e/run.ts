// Runs the end-to-end tests: real clients against the cache in front of a real registry, all on loopback.
// `npm run test:e2e` runs all of them; arguments after `--` select files (`npm run test:e2e -- crash outage`).
// Needs root, as container engines do. However it ends, every process that it started is stopped and its directory
// removed.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureGoProgram } from '../support/go-programs.ts';
import { CACHE_DIRECTORY, CACHE_LOG } from './support/cache.ts';
import { CRANE } from './support/clients/crane.ts';
import { ORAS } from './support/clients/oras.ts';
import { makeImages } from './support/images.ts';
import { ensurePrograms, staticBusybox } from './support/prerequisites.ts';
import { until } from './support/until.ts';
import { WORKSPACE_VARIABLE } from './support/workspace.ts';

const STOP_LIMIT_MS = 20_000;
const LOG_LINES = 15;
/** Longer when more rounds of kills are requested. */
const TEST_LIMIT_MS = (10 + Number(process.env.KILL_ROUNDS ?? 0) / 4) * 60_000;

const workspace = mkdtempSync(join(tmpdir(), 'ghcr-e2e-'));
process.env[WORKSPACE_VARIABLE] = workspace;
let tests: ChildProcess | undefined;
let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted = true;
    if (tests?.pid) signalGroup(tests.pid, 'SIGTERM');
  });
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  await endLeftovers();
  unmountLeftovers();
  rmSync(workspace, { recursive: true, force: true });
}

async function main(selected: readonly string[]): Promise<number> {
  if (process.getuid?.() !== 0) throw new Error('these tests start container engines, which requires root');
  const files = testFiles(selected);
  ensurePrograms();
  for (const program of [CRANE, ORAS]) ensureGoProgram(program);
  const started = performance.now();
  await makeImages(staticBusybox());
  console.log(`images made in ${Math.round(performance.now() - started)} ms`);
  if (interrupted) return 1;
  const code = await runTests(files);
  if (code !== 0 && !interrupted) printCacheLogs();
  return code;
}

function testFiles(selected: readonly string[]): string[] {
  const names = readdirSync(import.meta.dirname).filter(name => name.endsWith('.e2e.ts'));
  const files = names.filter(name => selected.length === 0 || selected.some(part => name.startsWith(part)));
  if (files.length === 0) throw new Error(`no such test file; there are ${names.join(', ')}`);
  return files.sort().map(name => join(import.meta.dirname, name));
}

/**
 * The exit code of Node's test runner, which leads a process group, so that one signal reaches all of its processes.
 */
function runTests(files: readonly string[]): Promise<number> {
  const options = ['--test', '--test-concurrency=1', `--test-timeout=${TEST_LIMIT_MS}`];
  const child = spawn(process.execPath, [...options, ...files], { stdio: 'inherit', detached: true });
  tests = child;
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', code => resolve(code ?? 1));
  });
}

/** The last warnings and errors of each cache of the run, to show why a test failed. */
function printCacheLogs(): void {
  for (const directory of readdirSync(workspace).filter(name => name.startsWith(`${CACHE_DIRECTORY}-`))) {
    const path = join(workspace, directory, CACHE_LOG);
    const lines = existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : [];
    const problems = lines.filter(line => !line.includes('"level":"info"')).slice(-LOG_LINES);
    if (problems.length > 0) console.log(`\n${directory} logged:\n${problems.join('\n')}`);
  }
}

function signalGroup(leader: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-leader, signal);
  } catch {
    // The group is gone already.
  }
}

/** Ends every process with our directory in its command line; no other process has that name. */
async function endLeftovers(): Promise<void> {
  if (tests?.pid) signalGroup(tests.pid, 'SIGTERM');
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const pid of leftovers()) {
      try {
        process.kill(pid, signal);
      } catch {
        // It has ended in the meantime.
      }
    }
    await until('all processes have ended', STOP_LIMIT_MS, () => leftovers().length === 0).catch(() => {});
  }
}

function leftovers(): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter(pid => pid > 0 && pid !== process.pid && commandLine(pid).includes(workspace));
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** Killed engines leave mounts, which cannot be removed. Innermost first. */
function unmountLeftovers(): void {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  for (const path of mounts.map(line => line.split(' ')[1] ?? '').reverse()) {
    if (path.startsWith(workspace)) execFileSync('umount', ['--lazy', path]);
  }
}
