// A cached manifest, requested by 64 clients: by digest, and by a fresh tag.
import type { Bench } from '../bench.ts';
import { wrk } from '../load.ts';
import { startFakeGhcr } from '../programs.ts';
import { ACCEPT, startRegistries } from '../subjects.ts';
import { RATE_METRICS } from './rate-metrics.ts';

export async function hotManifest(bench: Bench): Promise<void> {
  await using upstream = await startFakeGhcr(['--image', 'owner/app:v1=64KiB,64KiB,64KiB,64KiB,64KiB']);
  const [image] = upstream.images;
  if (image === undefined) throw new Error('the fake ghcr.io has no image');
  const config = { tags: [{ match: '*', fresh: '1h' }] };
  await using registries = await startRegistries(bench, upstream, { config });
  await registries.warm(
    bench,
    image.name,
    image.tag,
    image.blobs.map(({ digest }) => digest),
  );
  for (const [how, reference] of [
    ['by digest', image.digest],
    ['by tag', image.tag],
  ] as const) {
    await bench.compare(how, RATE_METRICS, registries.all, async each => {
      const { requestsPerSecond, latencyMs } = await wrk(each.manifestUrl(image.name, reference), {
        connections: 64,
        threads: 1,
        seconds: 5,
        headers: ACCEPT,
      });
      return { values: [requestsPerSecond, latencyMs.p50, latencyMs.p99] };
    });
  }
}
