// An image of 256 MiB that is not cached, and 100 clients that pull it at once: the time until all have it, relative to
// the time for one client, and the upstream requests.
import type { Bench } from '../bench.ts';
import { load } from '../load.ts';
import { type FakeGhcr, startFakeGhcr } from '../programs.ts';
import { ACCEPT, type Registry, startRegistries } from '../subjects.ts';

const CLIENTS = 100;
const LAYERS = Array.from({ length: 8 }, () => '32MiB').join(',');
const BYTES = 256 * 1024 * 1024;

export async function herd(bench: Bench): Promise<void> {
  const images = Array.from({ length: bench.runs }, (_, i) =>
    ['alone', 'herd'].flatMap(kind => ['--image', `owner/${kind}${i}:v1=${LAYERS}`]),
  ).flat();
  await using upstream = await startFakeGhcr(images);
  await using registries = await startRegistries(bench, upstream, {});
  await bench.compare(
    `${CLIENTS} clients, an image of 256 MiB`,
    [
      { name: 'time', unit: 's', better: 'less' },
      { name: 'of one client', unit: '×', better: 'less' },
      { name: 'GETs of blobs upstream, per blob', unit: '', better: 'less' },
      { name: 'bytes upstream, of the image', unit: '×', better: 'less' },
    ],
    registries.all,
    async (each, run) => {
      const alone = await pull(upstream, each, `owner/alone${run}`, 1);
      const before = await upstream.counters();
      const all = await pull(upstream, each, `owner/herd${run}`, CLIENTS);
      const after = await upstream.counters();
      const grown = (endpoint: string, what: 'requests' | 'bytes') =>
        (after[endpoint]?.[what] ?? 0) - (before[endpoint]?.[what] ?? 0);
      return {
        values: [
          all.wallMs / 1000,
          all.wallMs / alone.wallMs,
          // The fake redirects to another host for the bytes, as ghcr.io does.
          grown('blobhost', 'requests') / all.blobs,
          grown('blobhost', 'bytes') / BYTES,
        ],
        saturated: all.saturated,
      };
    },
  );
}

async function pull(upstream: FakeGhcr, each: Registry, image: string, clients: number) {
  const blobs = upstream.images.find(({ name }) => name === image)?.blobs ?? [];
  const urls = blobs.map(({ digest }) => each.blobUrl(image, digest));
  const result = await load([each.manifestUrl(image, 'v1'), ...urls], {
    clients,
    headers: { ...ACCEPT, ...each.headers },
  });
  return { ...result, blobs: blobs.length };
}
