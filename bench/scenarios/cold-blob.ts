// A blob that is not cached, and the same asked of the upstream directly: how long a gigabyte takes, and how long it
// takes until the first byte of a megabyte is there; both also behind a line with a round trip of 50 ms.
import type { Bench, Measured } from '../bench.ts';
import { load } from '../load.ts';
import { type Server, type StandIn, startCache, startDelay, startStandIn } from '../programs.ts';
import { ACCEPT, direct, type Registry, registry, startRegistries } from '../subjects.ts';

const MIB = 1024 ** 2;
const PAIRS = 20;
const ROUND_TRIP_MS = 50;

export async function coldBlob(bench: Bench): Promise<void> {
  await large(bench);
  await firstByte(bench);
  await farAway(bench);
}

async function large(bench: Bench): Promise<void> {
  await using upstream = await startStandIn(largeImages(bench, '1GiB'));
  await using registries = await startRegistries(bench, upstream, {});
  const [ours, ...rivals] = registries.all;
  if (ours === undefined) return;
  const asked = await direct(upstream, 'owner/big0');
  await bench.compare(
    '1 GiB',
    [{ name: 'time', unit: 's', better: 'less' }],
    [ours, asked, ...rivals],
    (each, run) => pullLarge(upstream, each, `owner/big${run}`),
  );
}

/** One for each run, so that it is cold. */
function largeImages({ runs }: Bench, size: string): string[] {
  return Array.from({ length: runs }, (_, i) => ['--big', `owner/big${i}:v1=${size}`]).flat();
}

/** As a client pulls: the manifest first, which counts, since there are caches that do all the work then. */
async function pullLarge(upstream: StandIn, each: Registry, image: string): Promise<Measured> {
  const blobs = upstream.images.find(({ name }) => name === image)?.blobs ?? [];
  const digest = blobs.toSorted((a, b) => b.size - a.size)[0]?.digest ?? '';
  // A token is for one image.
  const headers = each.name === 'direct' ? (await direct(upstream, image)).headers : each.headers;
  const urls = [each.manifestUrl(image, 'v1'), each.blobUrl(image, digest)];
  const { wallMs, saturated } = await load(urls, { headers: { ...ACCEPT, ...headers } });
  return { values: [wallMs / 1000], saturated };
}

async function firstByte(bench: Bench): Promise<void> {
  await using upstream = await startSmall(bench);
  await using cache = await startCache(bench.folder(), upstream.url);
  await compareFirstBytes(bench, 'first byte', upstream, cache, upstream);
}

async function farAway(bench: Bench): Promise<void> {
  // Without redirects, since the line leads to one port alone.
  await using upstream = await startSmall(bench, '--spec', '--open');
  await using line = await startDelay(upstream, ROUND_TRIP_MS);
  await using cache = await startCache(bench.folder(), line.url);
  await compareFirstBytes(bench, `first byte, ${ROUND_TRIP_MS} ms away`, upstream, cache, line);
  await using far = await startStandIn(['--spec', '--open', ...largeImages(bench, '256MiB')]);
  await using farLine = await startDelay(far, ROUND_TRIP_MS);
  await using farCache = await startCache(bench.folder(), farLine.url);
  const asked = { ...(await direct(far, 'owner/big0')), blobUrl: registry('', farLine).blobUrl };
  await bench.compare(
    `256 MiB, ${ROUND_TRIP_MS} ms away`,
    [{ name: 'time', unit: 's', better: 'less' }],
    [registry('ghcr-cache', farCache), asked],
    (each, run) => pullLarge(far, each, `owner/big${run}`),
  );
}

/** Blobs of which nobody has asked for any, as many as all runs need. */
function startSmall(bench: Bench, ...args: string[]): Promise<StandIn> {
  const layers = Array.from({ length: bench.runs * 2 * PAIRS + 2 }, () => MIB).join(',');
  return startStandIn([...args, '--image', `owner/app:v1=${layers}`]);
}

async function compareFirstBytes(
  bench: Bench,
  title: string,
  upstream: StandIn,
  cache: Server,
  seenAt: Server,
): Promise<void> {
  const asked = { ...(await direct(upstream, 'owner/app')), blobUrl: registry('', seenAt).blobUrl };
  const ours = registry('ghcr-cache', cache);
  const blobs = upstream.images[0]?.blobs.filter(({ size }) => size === MIB) ?? [];
  const next = () => blobs.pop()?.digest ?? '';
  // With a token and open connections, as in the middle of an image.
  for (const each of [ours, asked]) {
    await load([each.blobUrl('owner/app', next())], { headers: each.headers });
  }
  await bench.compare(
    title,
    [{ name: 'first byte', unit: 'ms', better: 'less' }],
    [ours, asked],
    async each => {
      const urls = Array.from({ length: PAIRS }, () => each.blobUrl('owner/app', next()));
      const { firstByteMs } = await load(urls, { headers: each.headers });
      return { values: [firstByteMs.p50] };
    },
  );
}
