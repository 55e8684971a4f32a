// Load from clients that use as little of the machine as possible, so that the server is what is measured: our own in
// test/go/load for bodies of any size, and wrk for many small responses.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureGoProgram } from '../test/support/go-programs.ts';

/** A client that uses this share of its CPU time counts as the limit. */
const BUSY = 0.9;
/** How many URLs `wrk` requests before it measures. */
const CHECKED = 1000;

export interface LoadOptions {
  /** How many clients, each with connections of its own. Default: 1. */
  readonly clients?: number;
  /** How often each client requests all URLs. Default: once. */
  readonly rounds?: number;
  /** How many GETs each client makes, cycling through the URLs; in place of rounds. */
  readonly requests?: number;
  /** The clients pull an image as one program does: the first URL, its manifest, alone; then each takes the next one. */
  readonly shared?: boolean;
  /** How often what is missing of a body is requested again when a response fails. Default: never. */
  readonly retries?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Compares the bodies with the sha256 digests at the ends of their URLs. Not for measuring. */
  readonly verify?: boolean;
}

export interface Quantiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

export interface LoadResult {
  readonly wallMs: number;
  /** Of the requested bodies. */
  readonly bytes: number;
  readonly requests: number;
  /** From a request to the first byte of its body, including redirects. */
  readonly firstByteMs: Quantiles & { readonly max: number };
  readonly totalMs: Quantiles & { readonly max: number };
  /** User and system CPU time of the client. */
  readonly cpuMs: number;
  readonly gomaxprocs: number;
  /** How many digests were compared. */
  readonly verified: number;
  /** How many requests were made because one before had failed. */
  readonly retried: number;
  /**
   * Whether the client was busy all the time on all the cores that it could use, at most one per connection. If so, the
   * client was measured, not the server.
   */
  readonly saturated: boolean;
}

/** Pulls the URLs with several clients at once, following redirects. Throws if any body is not complete in the end. */
export async function load(urls: readonly string[], options: LoadOptions = {}): Promise<LoadResult> {
  const { clients = 1, rounds = 1, requests = 0, retries = 0, headers = {} } = options;
  const args = ['-clients', clients, '-rounds', rounds, '-requests', requests, '-retries', retries];
  if (options.shared) args.push('-shared');
  if (options.verify) args.push('-verify');
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
 * Requests URLs of one server over and over, a random one each time. Up to a thousand of them are requested once
 * before, because wrk counts a redirect as a success. Throws if any response is not a 200, or a connection fails.
 */
export async function wrk(urls: string | readonly string[], options: WrkOptions): Promise<WrkResult> {
  const { connections, threads, seconds, headers = {} } = options;
  const all = [urls].flat().map(url => new URL(url));
  const [first] = all;
  if (first === undefined) throw new Error('wrk needs a URL');
  if (all.some(({ origin }) => origin !== first.origin)) throw new Error('wrk tests one server at a time');
  for (const url of all.slice(0, CHECKED)) {
    await assertFound(url, headers);
  }
  const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-wrk-'));
  try {
    const paths = join(directory, 'paths');
    writeFileSync(paths, all.map(({ pathname, search }) => `${pathname}${search}\n`).join(''));
    const sent = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
    const script = new URL('wrk.lua', import.meta.url).pathname;
    const runFor = (forSeconds: number) => {
      const times = ['-c', connections, '-t', Math.min(threads, connections), '-d', `${forSeconds}s`];
      return run('wrk', [...times.map(String), ...sent, '-s', script, first.href, '--', paths]);
    };
    // Warms up the server's JIT.
    await runFor(1);
    const output = await runFor(seconds);
    const line = output.trim().split('\n').at(-1) ?? '';
    const { errors, ...result } = JSON.parse(line) as WrkResult & { errors: Record<string, number> };
    const failed = Object.entries(errors).filter(([, count]) => count > 0);
    if (failed.length > 0) {
      throw new Error(`wrk had failures: ${failed.map(([kind, count]) => `${count} of ${kind}`).join(', ')}`);
    }
    if (result.requests === 0) throw new Error(`${first.origin} sent no response in ${seconds} s`);
    return result;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function assertFound(url: URL, headers: Readonly<Record<string, string>>): Promise<void> {
  const answer = await fetch(url, { headers, redirect: 'manual' }).catch((error: Error) => {
    throw new Error(`${url} does not respond: ${(error.cause as Error | undefined)?.message ?? error.message}`);
  });
  await answer.arrayBuffer();
  if (answer.status !== 200) throw new Error(`${url}: ${answer.status}`);
}

/** Its stdout. If it fails, the error is its stderr, without the command line, which may contain secret headers. */
function run(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { maxBuffer: 16 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (error.code === 'ENOENT') reject(new Error(`${command} is not installed`));
      else reject(new Error(stderr.trim() || `${command} ended with ${error.signal ?? `status ${error.code}`}`));
    });
  });
}
