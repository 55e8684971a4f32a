// A blob of 1 GiB that is cached, to 1, 4 and 64 clients that start together.
import type { Bench } from '../bench.ts';
import { startRegistries } from '../contestants.ts';
import { load } from '../load.ts';
import { startStandIn } from '../programs.ts';

const GIB = 1024 ** 3;

export async function hotBlob(bench: Bench): Promise<void> {
  await using upstream = await startStandIn(['--big', 'owner/big:v1=1GiB']);
  const digest = upstream.images[0]?.blobs.find(({ size }) => size === GIB)?.digest ?? '';
  await using registries = await startRegistries(bench, upstream, { buffers: true });
  await registries.warm(bench, 'owner/big', 'v1', [digest]);
  await registries.addNginx(bench);
  for (const clients of [1, 4, 64]) {
    await bench.compare(
      `${clients} client${clients > 1 ? 's' : ''}`,
      [{ name: 'throughput', unit: 'GB/s', better: 'more' }],
      registries.all,
      async each => {
        const { bytes, wallMs, saturated } = await load([each.blobUrl('owner/big', digest)], { clients });
        if (bytes !== clients * GIB) throw new Error(`${bytes} bytes came`);
        return { values: [bytes / 1e6 / wallMs], saturated };
      },
    );
  }
}
