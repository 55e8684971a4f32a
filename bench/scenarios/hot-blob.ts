// A cached blob of 1 GiB, to 1, 4 and 64 clients that start together.
import type { Bench } from '../bench.ts';
import { load } from '../load.ts';
import { startFakeGhcr } from '../programs.ts';
import { startRegistries } from '../subjects.ts';

const GIB = 1024 ** 3;
const LOADS = [
  { title: '1 client', clients: 1, rounds: 1 },
  // A single pull takes 0.3 s, much of it for the start of the connection.
  { title: '1 client, four times in a row', clients: 1, rounds: 4 },
  { title: '4 clients', clients: 4, rounds: 1 },
  { title: '64 clients', clients: 64, rounds: 1 },
];

export async function hotBlob(bench: Bench): Promise<void> {
  await using upstream = await startFakeGhcr(['--big', 'owner/big:v1=1GiB']);
  const digest = upstream.images[0]?.blobs.find(({ size }) => size === GIB)?.digest ?? '';
  await using registries = await startRegistries(bench, upstream, { buffers: true });
  await registries.warm(bench, 'owner/big', 'v1', [digest]);
  await registries.addNginx(bench);
  for (const { title, ...options } of LOADS) {
    await bench.compare(title, [{ name: 'throughput', unit: 'GB/s', better: 'more' }], registries.all, async each => {
      const { bytes, wallMs, saturated } = await load([each.blobUrl('owner/big', digest)], options);
      if (bytes !== options.clients * options.rounds * GIB) throw new Error(`received ${bytes} bytes`);
      return { values: [bytes / 1e6 / wallMs], saturated };
    });
  }
}
