// The siege: node test/siege/run.ts [--seconds 600] [--more] [--only PATTERN]. Everything that one client, one image or one
// bad hour can do to a cache happens at once, while honest clients pull and push images of other repositories. Every request
// of theirs must be right and memory bounded, or it fails; with --more there are so many attackers that memory is merely
// printed. How long the honest ones waited is printed beside what is aimed at: a machine that does other work as well says
// little by it. Everything is on loopback, in processes of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { HonestClient } from './honest.ts';
import { CACHE_BYTES, CREDENTIAL, HONEST_CLIENTS } from './scene.ts';

const AIMS = { smallP99Ms: 100, healthLateMs: 50, memoryMib: 250 };
/** What is above this is no matter of the machine. */
const MEMORY_LIMIT_MIB = 350;
const SAMPLE_MS = 1_000;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    only: { type: 'string' },
    more: { type: 'boolean', default: false },
  },
});
const seconds = Number(values.seconds);
const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-siege-'));
const children: ChildProcess[] = [];

try {
  const { url, api } = JSON.parse(await firstLine(start('upstream.ts', [])));
  const cache = startCache(url, api);
  const line = await firstLine(cache);
  const address = /http:\/\/(127\.0\.0\.1:\d+)/.exec(line)?.[1] ?? '';
  const attackers = start('attackers.ts', [address, values.only ?? '.', ...(values.more ? ['more'] : [])]);
  const answers = lastLine(attackers);
  const health = new Worker(new URL('./health.ts', import.meta.url), { workerData: { url: `http://${address}` } });

  const over = AbortSignal.timeout(seconds * 1_000);
  const clients = Array.from({ length: HONEST_CLIENTS }, (_, i) => new HonestClient(`http://${address}`, i));
  const watching = watch(cache.pid ?? 0, over);
  await Promise.all(clients.map(client => client.run(over)));
  health.postMessage('end');
  const [{ tookMs, failures }] = await once(health, 'message');
  const peak = await watching;
  attackers.kill('SIGTERM');
  process.exitCode = report(clients, tookMs, failures, peak, JSON.parse(await answers));
} finally {
  for (const child of children) child.kill('SIGKILL');
  if (process.exitCode === 0) rmSync(directory, { recursive: true, force: true });
  else console.log(`the log of the cache is in ${directory}`);
}

/** Prints the figures; returns the exit code. */
function report(
  clients: readonly HonestClient[],
  healthMs: number[],
  failures: string[],
  peak: Peak,
  answers: Record<string, Record<string, number>>,
): number {
  const small = clients.flatMap(({ record }) => record.smallMs);
  const large = clients.flatMap(({ record }) => record.largeMs);
  const wrong = [...clients.flatMap(({ record }) => record.wrong), ...failures.map(failure => `/healthz: ${failure}`)];
  for (const [kind, statuses] of Object.entries(answers)) console.log(`${kind}: ${JSON.stringify(statuses)}`);
  const ms = (value: number) => `${value.toFixed(1)} ms`;
  console.log(`
after ${seconds} s
honest requests    ${small.length + large.length}, of which wrong ${wrong.length}
small, p50 / p99   ${ms(quantile(small, 0.5))} / ${ms(quantile(small, 0.99))} (aim ${AIMS.smallP99Ms}), longest ${ms(quantile(small, 1))}
large, p50 / p99   ${ms(quantile(large, 0.5))} / ${ms(quantile(large, 0.99))}
/healthz, p99      ${ms(quantile(healthMs, 0.99))}, longest ${ms(quantile(healthMs, 1))} (aim ${AIMS.healthLateMs}), ${healthMs.length} asked
memory, peak       ${peak.memoryMib} MiB (aim ${AIMS.memoryMib}, limit ${MEMORY_LIMIT_MIB})
descriptors, peak  ${peak.descriptors}`);
  for (const each of wrong.slice(0, 20)) console.log(`wrong: ${each}`);
  const isLight = values.more || peak.memoryMib <= MEMORY_LIMIT_MIB;
  return wrong.length === 0 && small.length > 0 && isLight ? 0 : 1;
}

interface Peak {
  memoryMib: number;
  descriptors: number;
}

async function watch(pid: number, over: AbortSignal): Promise<Peak> {
  const peak = { memoryMib: 0, descriptors: 0 };
  while (!over.aborted) {
    const kilobytes = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
    peak.memoryMib = Math.round(kilobytes / 1024);
    peak.descriptors = Math.max(peak.descriptors, readdirSync(`/proc/${pid}/fd`).length);
    await sleep(SAMPLE_MS);
  }
  return peak;
}

function startCache(url: string, api: string): ChildProcess {
  const config = {
    listen: { port: 0 },
    data: join(directory, 'data'),
    cache: { maxSize: CACHE_BYTES, minFree: '1MiB' },
    upstreams: { 'ghcr.io': { url, api, credentials: [{ name: 'siege', ...CREDENTIAL }] } },
  };
  const file = join(directory, 'config.yaml');
  writeFileSync(file, JSON.stringify(config));
  const program = fileURLToPath(new URL('../../bin/ghcr-cache.js', import.meta.url));
  return run([program, 'serve', '--config', file], 'cache.log');
}

function start(name: string, args: string[]): ChildProcess {
  return run([fileURLToPath(new URL(name, import.meta.url)), ...args], `${name}.log`);
}

function run(args: string[], log: string): ChildProcess {
  // As `npm start` runs it.
  const child = spawn(process.execPath, ['--max-semi-space-size=8', ...args], {
    stdio: ['ignore', 'pipe', openSync(join(directory, log), 'a')],
  });
  children.push(child);
  child.on('exit', code => {
    if (code) console.log(`${args[0]} ended with ${code}: see ${join(directory, log)}`);
  });
  return child;
}

async function firstLine({ stdout }: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: stdout ?? process.stdin })) return line;
  throw new Error(`a program of the siege did not start: see ${directory}`);
}

async function lastLine({ stdout }: ChildProcess): Promise<string> {
  let last = '';
  for await (const line of createInterface({ input: stdout ?? process.stdin })) last = line;
  return last || '{}';
}

function quantile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}
