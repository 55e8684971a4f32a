// A layer that is pushed to the upstream, through the cache and directly, in turn, each layer once: how long it
// takes, and how long of that the client waits for the answer after its last byte. Memory is the cache's alone.
// PUSH_GIB sets the size of the layer, which is 1 GiB.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { startCache, startStandIn } from './programs.ts';
import type { PushTimes } from './push-client.ts';
import { spreadOf, spreadText } from './statistics.ts';

const RUNS = 3;
const GIB = 1024 ** 3;

export async function push(folder: string): Promise<Record<string, unknown>> {
  const gib = Number(process.env.PUSH_GIB ?? 1);
  if (!(gib > 0)) throw new Error('PUSH_GIB is the size of the layer in GiB');
  const upstream = await startStandIn(['--open']);
  const client = new Client(gib * GIB);
  const times = { direct: [] as PushTimes[], cache: [] as PushTimes[] };
  const peaks: number[] = [];
  try {
    const cache = await startCache(folder, upstream.url);
    try {
      // The first of all is not counted: what it finds out and compiles is there for all others.
      for (let i = 0; i <= RUNS; i++) {
        cache.resetPeak();
        const through = await client.push(`${cache.url}/v2/owner/cache`, `cache ${i}`);
        const peakBytes = cache.peakBytes();
        const direct = await client.push(`${upstream.url}/v2/owner/direct`, `direct ${i}`);
        if (i === 0) continue;
        times.cache.push(through);
        times.direct.push(direct);
        peaks.push(peakBytes / 1e6);
      }
    } finally {
      await cache.stop();
    }
  } finally {
    client.stop();
    await upstream.stop();
  }

  const result: Record<string, unknown> = { gibibytes: gib };
  for (const way of ['direct', 'cache'] as const) {
    const seconds = spreadOf(times[way].map(({ totalMs }) => totalMs / 1000));
    const finishMs = spreadOf(times[way].map(time => time.finishMs));
    console.log(
      `  ${way.padEnd(6)} ${gib} GiB in ${spreadText(seconds, 2)} s, 201 after the last byte ${spreadText(finishMs, 0)} ms`,
    );
    result[way] = { seconds, finishMs };
  }
  const peak = spreadOf(peaks);
  console.log(`  peak memory of the cache ${spreadText(peak, 0)} MB`);
  return { ...result, peakMegabytes: peak };
}

/** The pushing program. */
class Client {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(sizeBytes: number) {
    const path = new URL('push-client.ts', import.meta.url).pathname;
    const child = spawn(process.execPath, [path, String(sizeBytes)], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  async push(url: string, seed: string): Promise<PushTimes> {
    this.#child.stdin?.write(`${JSON.stringify({ url, seed })}\n`);
    const line = await this.#lines.next();
    if (line.done) throw new Error(`a push to ${url} failed`);
    return JSON.parse(line.value) as PushTimes;
  }

  stop(): void {
    this.#child.kill();
  }
}
