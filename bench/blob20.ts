// One blob of 1 GiB and 20 clients that start together: cold, then hot. Memory is the server's alone.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startCache, startStandIn } from './programs.ts';
import { spreadOf, spreadText } from './statistics.ts';

const RUNS = 3;
const CLIENTS = 20;
const GIB = 1024 ** 3;
const run = promisify(execFile);

export async function blob20(folder: string): Promise<Record<string, unknown>> {
  const images = Array.from({ length: RUNS }, (_, i) => ['--big', `owner/big:v${i}=1GiB`]).flat();
  const upstream = await startStandIn(images);
  const rates = { cold: [] as number[], hot: [] as number[] };
  const peaks = { cold: [] as number[], hot: [] as number[] };
  try {
    const cache = await startCache(join(folder), upstream.url);
    for (let i = 0; i < RUNS; i++) {
      const blob = upstream.blobs.get(`owner/big:v${i}`)?.find(({ size }) => size === GIB);
      if (blob === undefined) throw new Error('the stand-in has no blob of 1 GiB');
      for (const state of ['cold', 'hot'] as const) {
        cache.resetPeak();
        const client = new URL('herd-client.ts', import.meta.url).pathname;
        const url = `${cache.url}/v2/owner/big/blobs/${blob.digest}`;
        const { stdout } = await run(process.execPath, [client, url, String(CLIENTS)]);
        const { totalMs, bytes } = JSON.parse(stdout) as { totalMs: number; bytes: number };
        if (bytes !== CLIENTS * GIB) throw new Error(`${bytes} bytes came`);
        rates[state].push(bytes / 1e6 / totalMs);
        peaks[state].push(cache.peakBytes() / 1e6);
      }
    }
    await cache.stop();
  } finally {
    await upstream.stop();
  }
  const result: Record<string, unknown> = {};
  for (const state of ['cold', 'hot'] as const) {
    const [rate, peak] = [spreadOf(rates[state]), spreadOf(peaks[state])];
    console.log(
      `  ${state.padEnd(5)} ${spreadText(rate, 2)} GB/s to all clients, peak memory ${spreadText(peak, 0)} MB`,
    );
    result[state] = { gigabytesPerSecond: rate, peakMegabytes: peak };
  }
  return result;
}
