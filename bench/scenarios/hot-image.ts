// A cached image of 40 layers, pulled as a whole by 16 clients at once.
import type { Bench } from '../bench.ts';
import { load } from '../load.ts';
import { startFakeGhcr } from '../programs.ts';
import { ACCEPT, startRegistries } from '../subjects.ts';

const CLIENTS = 16;
const LAYERS = [64, 256, 1024, 4096, 8192].flatMap(kib => Array.from({ length: 8 }, () => `${kib}KiB`));

export async function hotImage(bench: Bench): Promise<void> {
  await using upstream = await startFakeGhcr(['--image', `owner/layers:v1=${LAYERS.join(',')}`]);
  const digests = upstream.images[0]?.blobs.map(({ digest }) => digest) ?? [];
  await using registries = await startRegistries(bench, upstream, {
    config: { tags: [{ match: '*', fresh: '1h' }] },
  });
  await registries.warm(bench, 'owner/layers', 'v1', digests);
  await bench.compare(
    `${CLIENTS} pulls of ${LAYERS.length} layers`,
    [{ name: 'time', unit: 's', better: 'less' }],
    registries.all,
    async each => {
      const urls = digests.map(digest => each.blobUrl('owner/layers', digest));
      const { wallMs, saturated } = await load([each.manifestUrl('owner/layers', 'v1'), ...urls], {
        clients: CLIENTS,
        headers: ACCEPT,
      });
      return { values: [wallMs / 1000], saturated };
    },
  );
}
