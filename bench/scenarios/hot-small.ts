// Cached blobs of 64 KiB, requested at random by 64 clients.
import type { Bench } from '../bench.ts';
import { wrk } from '../load.ts';
import { startFakeGhcr } from '../programs.ts';
import { startRegistries } from '../subjects.ts';
import { RATE_METRICS } from './rate-metrics.ts';

const BLOBS = 200;
const SMALL_BYTES = 64 * 1024;

export async function hotSmall(bench: Bench): Promise<void> {
  const layers = Array.from({ length: BLOBS }, () => SMALL_BYTES).join(',');
  await using upstream = await startFakeGhcr(['--image', `owner/small:v1=${layers}`]);
  const digests = (upstream.images[0]?.blobs ?? [])
    .filter(({ size }) => size === SMALL_BYTES)
    .map(({ digest }) => digest);
  await using registries = await startRegistries(bench, upstream, { buffers: true });
  await registries.warm(bench, 'owner/small', 'v1', digests);
  await registries.addNginx(bench);
  await bench.compare('64 clients', RATE_METRICS, registries.all, async each => {
    const urls = digests.map(digest => each.blobUrl('owner/small', digest));
    const { requestsPerSecond, latencyMs } = await wrk(urls, { connections: 64, threads: 1, seconds: 5 });
    return { values: [requestsPerSecond, latencyMs.p50, latencyMs.p99] };
  });
}
