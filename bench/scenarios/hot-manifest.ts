// A manifest that is cached, asked for by 64 clients: by digest, and by a tag that counts as fresh.
import type { Bench } from '../bench.ts';
import { wrk } from '../load.ts';
import { startStandIn } from '../programs.ts';
import { ACCEPT, startRegistries } from '../subjects.ts';
import { ANSWERS } from './answers.ts';

export async function hotManifest(bench: Bench): Promise<void> {
  await using upstream = await startStandIn(['--image', 'owner/app:v1=64KiB,64KiB,64KiB,64KiB,64KiB']);
  const [image] = upstream.images;
  if (image === undefined) throw new Error('the stand-in has no image');
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
    await bench.compare(how, ANSWERS, registries.all, async each => {
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
