// Load from programs that cost the machine as little as can be, so that it is the server that is measured:
// our own in test/go/load for bodies of any size, and wrk for many small answers.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureGoProgram } from '../test/support/go-programs.ts';

/** The share of the time that it may run at which a client is taken to be what limits. */
const BUSY = 0.9;
/** Paths that `wrk` asks for before it measures. */
const LOOKED_AT = 1000;

export interface LoadOptions {
  /** How many ask at once, each on connections of its own; 1 unless told. */
  readonly clients?: number;
  /** How often each walks the URLs; once unless told. */
  readonly rounds?: number;
  /** How many GETs each makes, walking the URLs again and again; in place of rounds. */
  readonly requests?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Reads the bodies and compares them with the sha256 at the ends of their URLs. That is not for measuring. */
  readonly verify?: boolean;
}

export interface Quantiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

export interface LoadResult {
  readonly wallMs: number;
  /** Of the bodies that were asked for. */
  readonly bytes: number;
  readonly requests: number;
  /** From a request to the first byte of its body, behind redirects if there are any. */
  readonly firstByteMs: Quantiles & { readonly max: number };
  readonly totalMs: Quantiles & { readonly max: number };
  /** User and system CPU time of the client. */
  readonly cpuMs: number;
  readonly gomaxprocs: number;
  /** Bodies whose digest was compared. */
  readonly verified: number;
  /**
   * Whether the client was busy all the time with all the cores that it could use: one for each connection, as long
   * as there are so many. Then it is the client that was measured.
   */
  readonly saturated: boolean;
}

/** Pulls the URLs with so many clients at once, following redirects. Throws if any answer is not a whole 200. */
export async function load(urls: readonly string[], options: LoadOptions = {}): Promise<LoadResult> {
  const { clients = 1, rounds = 1, requests = 0, headers = {}, verify = false } = options;
  const args = [
    '-clients',
    clients,
    '-rounds',
    rounds,
    '-requests',
    requests,
    ...(verify ? ['-verify'] : []),
  ];
  const sent = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const output = await run(ensureGoProgram({ name: 'load' }), [...args.map(String), ...sent, ...urls]);
  const { errors, ...result } = JSON.parse(output) as Omit<LoadResult, 'saturated'> & { errors: number };
  if (errors > 0) throw new Error(`${errors} clients gave up`);
  const cores = Math.min(result.gomaxprocs, clients);
  return { ...result, saturated: result.cpuMs >= BUSY * result.wallMs * cores };
}

export interface WrkOptions {
  readonly connections: number;
  readonly threads: number;
  readonly seconds: number;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface WrkResult {
  readonly requestsPerSecond: number;
  readonly latencyMs: Quantiles & { readonly max: number };
  readonly requests: number;
  readonly bytes: number;
}

/**
 * Asks for URLs of one server over and over, picking one at random each time. Each is asked for once before, up to a
 * thousand, since wrk takes a redirect for a success. Throws if any answer is not a 200, or a connection fails.
 */
export async function wrk(urls: string | readonly string[], options: WrkOptions): Promise<WrkResult> {
  const { connections, threads, seconds, headers = {} } = options;
  const all = [urls].flat().map(url => new URL(url));
  const [first] = all;
  if (first === undefined) throw new Error('there is no URL to ask for');
  if (all.some(({ origin }) => origin !== first.origin)) throw new Error('wrk asks one server at a time');
  for (const url of all.slice(0, LOOKED_AT)) {
    await assertFound(url, headers);
  }
  const folder = mkdtempSync(join(tmpdir(), 'ghcr-cache-wrk-'));
  try {
    const paths = join(folder, 'paths');
    writeFileSync(paths, all.map(({ pathname, search }) => `${pathname}${search}\n`).join(''));
    const sent = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
    const script = new URL('wrk.lua', import.meta.url).pathname;
    const ask = (forSeconds: number) => {
      const times = ['-c', connections, '-t', Math.min(threads, connections), '-d', `${forSeconds}s`];
      return run('wrk', [...times.map(String), ...sent, '-s', script, first.href, '--', paths]);
    };
    // What is compiled while it runs is measured when it has been.
    await ask(1);
    const output = await ask(seconds);
    const line = output.trim().split('\n').at(-1) ?? '';
    const { errors, ...result } = JSON.parse(line) as WrkResult & { errors: Record<string, number> };
    const failed = Object.entries(errors).filter(([, count]) => count > 0);
    if (failed.length > 0) {
      throw new Error(`wrk had failures: ${failed.map(([kind, count]) => `${count} of ${kind}`).join(', ')}`);
    }
    if (result.requests === 0) throw new Error(`${first.origin} answered nothing in ${seconds} s`);
    return result;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function assertFound(url: URL, headers: Readonly<Record<string, string>>): Promise<void> {
  const answer = await fetch(url, { headers, redirect: 'manual' }).catch((error: Error) => {
    throw new Error(
      `${url} does not answer: ${(error.cause as Error | undefined)?.message ?? error.message}`,
    );
  });
  await answer.arrayBuffer();
  if (answer.status !== 200) throw new Error(`${url} answered ${answer.status}`);
}

/** What it prints. If it fails, what it says of that is the error, without the command: headers may be secret. */
function run(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { maxBuffer: 16 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (error.code === 'ENOENT') reject(new Error(`${command} is not installed`));
      else
        reject(new Error(stderr.trim() || `${command} ended with ${error.signal ?? `status ${error.code}`}`));
    });
  });
}
