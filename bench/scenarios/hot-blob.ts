// A blob of 1 GiB that is cached, to 1, 4 and 64 clients that start together.
import type { Bench } from '../bench.ts';
import { load } from '../load.ts';
import { startStandIn } from '../programs.ts';
import { startRegistries } from '../subjects.ts';

const GIB = 1024 ** 3;
const LOADS = [
  { title: '1 client', clients: 1, rounds: 1 },
  // One pull takes 0.3 s, much of which is the beginning of a connection.
  { title: '1 client, four times in a row', clients: 1, rounds: 4 },
  { title: '4 clients', clients: 4, rounds: 1 },
  { title: '64 clients', clients: 64, rounds: 1 },
];

export async function hotBlob(bench: Bench): Promise<void> {
  await using upstream = await startStandIn(['--big', 'owner/big:v1=1GiB']);
  const digest = upstream.images[0]?.blobs.find(({ size }) => size === GIB)?.digest ?? '';
  await using registries = await startRegistries(bench, upstream, { buffers: true });
  await registries.warm(bench, 'owner/big', 'v1', [digest]);
  await registries.addNginx(bench);
  for (const { title, ...asked } of LOADS) {
    await bench.compare(
      title,
      [{ name: 'throughput', unit: 'GB/s', better: 'more' }],
      registries.all,
      async each => {
        const { bytes, wallMs, saturated } = await load([each.blobUrl('owner/big', digest)], asked);
        if (bytes !== asked.clients * asked.rounds * GIB) throw new Error(`${bytes} bytes came`);
        return { values: [bytes / 1e6 / wallMs], saturated };
      },
    );
  }
}
