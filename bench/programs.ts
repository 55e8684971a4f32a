// The programs that a benchmark measures, each a process of its own, and what they used.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface Program {
  /** The line in which it said that it is ready. */
  readonly ready: string;
  /** Its largest resident memory since the start or the last resetPeak(), in bytes; Linux only, else NaN. */
  peakBytes(): number;
  resetPeak(): void;
  stop(): Promise<void>;
}

/** Starts a TypeScript or JavaScript file of this checkout; resolves when it has printed its first line. */
export async function startProgram(file: string, args: readonly string[]): Promise<Program> {
  const path = new URL(`../${file}`, import.meta.url).pathname;
  // With the flag of `npm start` and of the installed program.
  const child = spawn(process.execPath, ['--max-semi-space-size=2', path, ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()));
  const first = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  if (first.done) throw new Error(`${file} ended before it was ready`);
  return {
    ready: first.value,
    peakBytes: () => peakOf(child),
    resetPeak: () => {
      // 5: forget the peak (proc(5), clear_refs).
      if (process.platform === 'linux') writeFileSync(`/proc/${child.pid}/clear_refs`, '5');
    },
    stop: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** A cache with an empty data directory in `folder`, in front of one upstream. */
export async function startCache(folder: string, upstreamUrl: string): Promise<Program & { url: string }> {
  const config = join(folder, 'config.yaml');
  writeFileSync(
    config,
    JSON.stringify({
      listen: { port: 0 },
      data: join(folder, 'data'),
      cache: { maxSize: 'none', minFree: '0' },
      upstreams: { 'ghcr.io': { url: upstreamUrl, credentials: [] } },
      log: { level: 'warn' },
    }),
  );
  const program = await startProgram('bin/ghcr-cache.js', ['serve', '--config', config]);
  const url = /http:\/\/[^ ,]+/.exec(program.ready)?.[0];
  if (url === undefined) throw new Error(`no address in ${JSON.stringify(program.ready)}`);
  return { ...program, url };
}

export interface StandInBlob {
  readonly digest: string;
  readonly size: number;
}

/** The stand-in for ghcr.io, holding the images that `args` describe; their blobs by name and tag. */
export async function startStandIn(
  args: readonly string[],
): Promise<Program & { url: string; blobs: Map<string, StandInBlob[]> }> {
  const program = await startProgram('test/support/ghcr-main.ts', args);
  const { url, images } = JSON.parse(program.ready) as {
    url: string;
    images: { name: string; tag: string; blobs: StandInBlob[] }[];
  };
  return { ...program, url, blobs: new Map(images.map(({ name, tag, blobs }) => [`${name}:${tag}`, blobs])) };
}

function peakOf(child: ChildProcess): number {
  if (process.platform !== 'linux') return Number.NaN;
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1];
  return Number(kib) * 1024;
}
