// The delay of the event loop while 64 clients pull a blob of 1 GiB and 16 others request manifests.
import type { Bench } from '../bench.ts';
import { load, wrk } from '../load.ts';
import { startCache, startFakeGhcr } from '../programs.ts';
import { ACCEPT, registry } from '../subjects.ts';

const GIB = 1024 ** 3;
const SECONDS = 5;

export async function loop(bench: Bench): Promise<void> {
  await using upstream = await startFakeGhcr(['--big', 'owner/big:v1=1GiB']);
  const digest = upstream.images[0]?.blobs.find(({ size }) => size === GIB)?.digest ?? '';
  await using cache = await startCache(bench.directory(), upstream.url, {
    config: { tags: [{ match: '*', fresh: '1h' }] },
    nodeArgs: ['--import', new URL('../loop-probe.js', import.meta.url).href],
  });
  const ours = registry('ghcr-cache', cache);
  const blob = ours.blobUrl('owner/big', digest);
  await load([ours.manifestUrl('owner/big', 'v1'), blob], { headers: ACCEPT });
  await bench.compare(
    '64 clients of 1 GiB, and 16 of a manifest',
    [
      { name: 'delay p50', unit: 'ms', better: 'less' },
      { name: 'delay p99', unit: 'ms', better: 'less' },
      { name: 'delay max', unit: 'ms', better: 'less' },
      { name: 'manifests', unit: '1/s', better: 'more' },
      { name: 'manifest p99', unit: 'ms', better: 'less' },
    ],
    [ours],
    async () => {
      await delays(cache);
      // More than can be sent in the time, so that the load never ends early.
      const blobs = load([blob], { clients: 64 });
      const manifests = await wrk(ours.manifestUrl('owner/big', 'v1'), {
        ...{ connections: 16, threads: 1, seconds: SECONDS },
        headers: ACCEPT,
      });
      const { p50, p99, max } = await delays(cache);
      await blobs;
      return { values: [p50, p99, max, manifests.requestsPerSecond, manifests.latencyMs.p99] };
    },
  );
}

async function delays(cache: Awaited<ReturnType<typeof startCache>>) {
  cache.signal('SIGUSR2');
  return JSON.parse(await cache.nextLine()) as { p50: number; p99: number; max: number };
}
