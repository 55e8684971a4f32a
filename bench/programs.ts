// The programs that a benchmark measures, each a process of its own, and the resources that they use.
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { ensureGoProgram } from '../test/support/go-programs.ts';

const START_MS = 30_000;
const STOP_MS = 10_000;
/** How much of a server's output is kept, for the error if it does not start. */
const OUTPUT_LIMIT = 8 * 1024;
/** Linux reports CPU time in hundredths of a second (proc(5), USER_HZ). */
const TICK_MS = 10;

/** Resource use is that of the process and its descendants; on Linux only, NaN elsewhere. */
export interface Program extends AsyncDisposable {
  /** The line that it printed when it was ready, or its address. */
  readonly ready: string;
  /** Its largest resident memory since the start or the last resetPeak(), in bytes. */
  peakBytes(): number;
  resetPeak(): void;
  /** Its resident memory now. Memory that processes share is counted for each. */
  residentBytes(): number;
  /** User and system CPU time since the start, in steps of 10 ms. */
  cpuMs(): number;
  signal(name: NodeJS.Signals): void;
  stop(): Promise<void>;
}

/** A program that answers HTTP. */
export interface Server extends Program {
  readonly url: string;
  /** The data directory of a cache of ours. */
  readonly dataDirectory?: string;
}

export interface Printing {
  /** The next line that it prints to stdout. */
  nextLine(): Promise<string>;
}

/** Starts a TypeScript or JavaScript file of this checkout; resolves when it has printed its first line. */
export async function startProgram(
  file: string,
  args: readonly string[],
  options: {
    nodeArgs?: readonly string[];
    env?: Readonly<Record<string, string>>;
    /** Another checkout in place of this one. */
    checkout?: string | undefined;
  } = {},
): Promise<Program & Printing> {
  const path = join(options.checkout ?? join(import.meta.dirname, '..'), file);
  // The flag of `npm start` and of the installed program.
  const nodeArgs = ['--max-semi-space-size=8', ...(options.nodeArgs ?? [])];
  const child = spawn(process.execPath, [...nodeArgs, path, ...args], {
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const nextLine = async () => {
    const line = await lines.next();
    if (line.done) throw new Error(`${file} exited before it printed a line`);
    return line.value;
  };
  return { ...programOf(child), nextLine, ready: await nextLine() };
}

export interface ServerCommand {
  readonly command: string;
  readonly args: readonly string[];
  readonly port: number;
  /** Its working directory. */
  readonly directory: string;
  readonly env?: Readonly<Record<string, string>>;
  /** The path to request to see whether it is ready. Default: `/v2/`. */
  readonly path?: string;
}

/** Starts a third-party program on a port of 127.0.0.1; resolves when it responds there with anything but a 5xx. */
export async function startServer(server: ServerCommand): Promise<Server> {
  const { command, args, port, directory, env = {}, path = '/v2/' } = server;
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(command, args, {
    cwd: directory,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => {
      output = (output + text).slice(-OUTPUT_LIMIT);
    });
  }
  let ended: string | undefined;
  child.once('error', error => {
    ended = `cannot be run: ${error.message}`;
  });
  child.once('exit', (code, signal) => {
    ended = `exited with ${signal ?? `status ${code}`} before it responded`;
  });
  const program = programOf(child);
  const giveUpMs = performance.now() + START_MS;
  while (ended === undefined) {
    const ready = await responds(url + path);
    // Once it has exited, another process responds there.
    if (ready && ended === undefined) return { ...program, ready: url, url };
    if (performance.now() > giveUpMs) {
      await program.stop();
      ended = `does not respond at ${url}${path} after ${START_MS / 1000} s`;
    } else if (ended === undefined) await sleep(20);
  }
  throw new Error(`${[command, ...args].join(' ')} ${ended}\n${output.trim()}`.trim());
}

/** A port of 127.0.0.1 that was free just now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

export interface CacheOptions {
  /** Merged into the config that every cache of a benchmark has. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly nodeArgs?: readonly string[];
  /** A file with the certificate of the upstream. */
  readonly ca?: string;
  /** Another checkout, whose cache is started. */
  readonly checkout?: string | undefined;
}

/** A cache that keeps its data in `directory`, in front of one upstream. */
export async function startCache(
  directory: string,
  upstreamUrl: string,
  { config, ca, ...options }: CacheOptions = {},
): Promise<Server & Printing> {
  const file = join(directory, 'config.yaml');
  const dataDirectory = join(directory, 'data');
  writeFileSync(
    file,
    JSON.stringify({
      listen: { port: 0 },
      data: dataDirectory,
      cache: { maxSize: 'none', minFree: '0' },
      upstreams: { 'ghcr.io': { url: upstreamUrl, credentials: [], ...(ca && { ca }) } },
      log: { level: 'warn' },
      ...config,
    }),
  );
  const program = await startProgram('bin/ghcr-cache.js', ['serve', '--config', file], options);
  const url = /http:\/\/[^ ,]+/.exec(program.ready)?.[0];
  if (url === undefined) throw new Error(`no address in ${JSON.stringify(program.ready)}`);
  return { ...program, url, dataDirectory };
}

export interface FakeBlob {
  readonly digest: string;
  readonly size: number;
}

export interface FakeImage {
  readonly name: string;
  readonly tag: string;
  /** The digest of its manifest. */
  readonly digest: string;
  readonly blobs: readonly FakeBlob[];
}

/** Requests to the fake, and bytes that it sent and received, by endpoint. */
export type Counters = Record<string, { requests: number; bytes: number; received: number }>;

export interface FakeGhcr extends Server, Printing {
  readonly blobUrl: string;
  readonly images: readonly FakeImage[];
  counters(): Promise<Counters>;
}

/** The fake ghcr.io, with the images that `args` describe. */
export async function startFakeGhcr(args: readonly string[]): Promise<FakeGhcr> {
  const program = await startProgram('test/support/ghcr/main.ts', args);
  const holds = JSON.parse(program.ready) as Pick<FakeGhcr, 'url' | 'blobUrl' | 'images'>;
  return {
    ...program,
    ...holds,
    counters: async () => {
      program.signal('SIGUSR2');
      return JSON.parse(await program.nextLine()) as Counters;
    },
  };
}

export interface LineOptions {
  readonly roundTripMs: number;
  /** The most that the server sends on one connection, and on all together, in bytes per second. Default: no limit. */
  readonly rate?: number;
  readonly total?: number;
  /** The share of connections that are reset in each 64 MiB that they pass on, the same ones for the same seed. */
  readonly cut?: number;
  readonly seed?: number;
  /** Default: any free port. */
  readonly port?: number;
}

/** The line to a distant server, which is reached at this one's URL. */
export async function startLine({ url }: { readonly url: string }, options: LineOptions): Promise<Server> {
  const { roundTripMs, rate = 0, total = 0, cut = 0, seed = 0, port = 0 } = options;
  const to = ['-to', new URL(url).host, '-port', port, '-round-trip', `${roundTripMs}ms`];
  const args = [...to, '-rate', rate, '-total', total, '-cut', cut, '-seed', seed].map(String);
  const child = spawn(ensureGoProgram({ name: 'line' }), args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const address = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  if (address.done) throw new Error('the line exited before it printed its address');
  return { ...programOf(child), ready: address.value, url: `http://${address.value}` };
}

function programOf(child: ChildProcess): Omit<Program, 'ready'> {
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()).once('error', () => resolve()));
  const stop = async () => {
    child.kill('SIGTERM');
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await ended;
    clearTimeout(late);
  };
  return {
    peakBytes: () => sumOf(child, pid => statusBytes(pid, 'VmHWM')),
    resetPeak: () => {
      // 5: reset the peak (proc(5), clear_refs).
      if (process.platform === 'linux') for (const pid of treeOf(child)) writeFileSync(`/proc/${pid}/clear_refs`, '5');
    },
    residentBytes: () => sumOf(child, pid => statusBytes(pid, 'VmRSS')),
    cpuMs: () => sumOf(child, pid => ticksOf(pid) * TICK_MS),
    signal: name => void child.kill(name),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function responds(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(1000) });
    await answer.body?.cancel();
    return answer.status < 500;
  } catch {
    return false;
  }
}

function sumOf(child: ChildProcess, read: (pid: number) => number): number {
  if (process.platform !== 'linux') return Number.NaN;
  return treeOf(child).reduce((sum, pid) => sum + read(pid), 0);
}

/** The process and all its descendants. */
function treeOf({ pid = 0 }: ChildProcess): number[] {
  const children = Map.groupBy(readdirSync('/proc').map(Number).filter(Boolean), each => statOf(each)[PARENT] ?? 0);
  const tree = [pid];
  for (const each of tree) tree.push(...(children.get(each) ?? []));
  return tree;
}

// Positions in what `statOf` returns (proc(5)).
const PARENT = 1;
const USER_TICKS = 11;

/** User and system time, its own and that of children that it has waited for. */
function ticksOf(pid: number): number {
  return statOf(pid)
    .slice(USER_TICKS, USER_TICKS + 4)
    .reduce((sum, ticks) => sum + ticks, 0);
}

/** The fields of /proc/PID/stat from the third one on, the state, which is not a number; none if it has exited. */
function statOf(pid: number): number[] {
  const text = readProc(pid, 'stat');
  // The second field is the command in parentheses, which may contain anything.
  return text === ''
    ? []
    : text
        .slice(text.lastIndexOf(')') + 2)
        .split(' ')
        .map(Number);
}

function statusBytes(pid: number, field: string): number {
  const [, kib = 0] = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readProc(pid, 'status')) ?? [];
  return Number(kib) * 1024;
}

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}
