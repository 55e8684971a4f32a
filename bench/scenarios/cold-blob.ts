// A blob that is not cached, compared with pulling it from the upstream directly: the time for a gigabyte, also of eight
// blobs at once, and the time to the first byte of a megabyte; both also with a round trip of 50 ms to the upstream.
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LOOPBACK_TLS } from '../../test/support/tls.ts';
import type { Bench, Measured } from '../bench.ts';
import { load } from '../load.ts';
import { type FakeGhcr, type Server, startCache, startFakeGhcr, startLine } from '../programs.ts';
import { ACCEPT, direct, type Registries, type Registry, registry, startRegistries } from '../subjects.ts';

const MIB = 1024 ** 2;
const PAIRS = 20;
const EIGHT = 8;
const ROUND_TRIP_MS = 50;

export async function coldBlob(bench: Bench): Promise<void> {
  await largeOverTls(bench);
  await large(bench);
  await firstByte(bench);
  await farAway(bench);
}

/** As from ghcr.io. */
async function largeOverTls(bench: Bench): Promise<void> {
  await using upstream = await startFakeGhcr(['--tls', '--open', ...largeImages(bench, '1GiB'), ...eightImages(bench)]);
  const ca = join(bench.directory(), 'ca.pem');
  writeFileSync(ca, LOOPBACK_TLS.cert);
  // The competitors, which are written in Go, take it from the environment.
  process.env.SSL_CERT_FILE = ca;
  await using registries = await startRegistries(bench, upstream, { ca });
  delete process.env.SSL_CERT_FILE;
  const [ours, ...others] = registries.all;
  if (ours === undefined) return;
  const upstreamAlone: Registry = { ...registry('direct', upstream), program: undefined };
  await bench.compare(
    '1 GiB over TLS',
    [{ name: 'time', unit: 's', better: 'less' }],
    [ours, upstreamAlone, ...others],
    (each, run) => {
      const image = `owner/big${run}`;
      if (each.name !== 'direct') return pullLarge(upstream, each, image);
      return pullByCurl(each.blobUrl(image, largestOf(upstream, image)), ca);
    },
  );
  await eightOverTls(bench, registries, upstream);
}

async function eightOverTls(bench: Bench, { all }: Registries, upstream: FakeGhcr): Promise<void> {
  await bench.compare(
    `${EIGHT} blobs of 256 MiB at once over TLS`,
    [{ name: 'time', unit: 's', better: 'less' }],
    all,
    async (each, run) => {
      const image = `owner/eight${run}`;
      const digests = upstream.images.find(({ name }) => name === image)?.blobs.filter(({ size }) => size > MIB) ?? [];
      const urls = [each.manifestUrl(image, 'v1'), ...digests.map(({ digest }) => each.blobUrl(image, digest))];
      const { wallMs, saturated } = await load(urls, {
        clients: EIGHT,
        shared: true,
        headers: { ...ACCEPT, ...each.headers },
      });
      return { values: [wallMs / 1000], saturated };
    },
  );
}

/** The load client speaks plain HTTP alone. */
async function pullByCurl(url: string, ca: string): Promise<Measured> {
  const startedMs = performance.now();
  await promisify(execFile)('curl', ['--cacert', ca, '-fsSL', '-o', '/dev/null', url]);
  return { values: [(performance.now() - startedMs) / 1000] };
}

async function large(bench: Bench): Promise<void> {
  await using upstream = await startFakeGhcr(largeImages(bench, '1GiB'));
  await using registries = await startRegistries(bench, upstream, {});
  const [ours, ...competitors] = registries.all;
  if (ours === undefined) return;
  const upstreamAlone = await direct(upstream, 'owner/big0');
  await bench.compare(
    '1 GiB',
    [{ name: 'time', unit: 's', better: 'less' }],
    [ours, upstreamAlone, ...competitors],
    (each, run) => pullLarge(upstream, each, `owner/big${run}`),
  );
}

function eightImages({ runs }: Bench): string[] {
  const layers = Array(EIGHT).fill('256MiB').join();
  return Array.from({ length: runs }, (_, i) => ['--image', `owner/eight${i}:v1=${layers}`]).flat();
}

/** One for each run, so that each pull is cold. */
function largeImages({ runs }: Bench, size: string): string[] {
  return Array.from({ length: runs }, (_, i) => ['--big', `owner/big${i}:v1=${size}`]).flat();
}

/** As a client pulls: the manifest first, which is included in the time, because some caches do all the work then. */
async function pullLarge(upstream: FakeGhcr, each: Registry, image: string): Promise<Measured> {
  const digest = largestOf(upstream, image);
  // A token is for one image.
  const headers = each.name === 'direct' ? (await direct(upstream, image)).headers : each.headers;
  const urls = [each.manifestUrl(image, 'v1'), each.blobUrl(image, digest)];
  const { wallMs, saturated } = await load(urls, { headers: { ...ACCEPT, ...headers } });
  return { values: [wallMs / 1000], saturated };
}

function largestOf(upstream: FakeGhcr, image: string): string {
  const blobs = upstream.images.find(({ name }) => name === image)?.blobs ?? [];
  return blobs.toSorted((a, b) => b.size - a.size)[0]?.digest ?? '';
}

async function firstByte(bench: Bench): Promise<void> {
  await using upstream = await startSmall(bench);
  await using cache = await startCache(bench.directory(), upstream.url);
  await compareFirstBytes(bench, 'first byte', upstream, cache, upstream);
}

async function farAway(bench: Bench): Promise<void> {
  // Without redirects, because the line leads to one port only.
  await using upstream = await startSmall(bench, '--spec', '--open');
  await using line = await startLine(upstream, { roundTripMs: ROUND_TRIP_MS });
  await using cache = await startCache(bench.directory(), line.url);
  await compareFirstBytes(bench, `first byte, ${ROUND_TRIP_MS} ms away`, upstream, cache, line);
  await using far = await startFakeGhcr(['--spec', '--open', ...largeImages(bench, '256MiB')]);
  await using farLine = await startLine(far, { roundTripMs: ROUND_TRIP_MS });
  await using farCache = await startCache(bench.directory(), farLine.url);
  const asked = { ...(await direct(far, 'owner/big0')), blobUrl: registry('', farLine).blobUrl };
  await bench.compare(
    `256 MiB, ${ROUND_TRIP_MS} ms away`,
    [{ name: 'time', unit: 's', better: 'less' }],
    [registry('ghcr-cache', farCache), asked],
    (each, run) => pullLarge(far, each, `owner/big${run}`),
  );
}

/** An upstream with enough blobs that each pull of all runs is cold. */
function startSmall(bench: Bench, ...args: string[]): Promise<FakeGhcr> {
  const layers = Array.from({ length: bench.runs * 2 * PAIRS + 2 }, () => MIB).join(',');
  return startFakeGhcr([...args, '--image', `owner/app:v1=${layers}`]);
}

async function compareFirstBytes(
  bench: Bench,
  title: string,
  upstream: FakeGhcr,
  cache: Server,
  seenAt: Server,
): Promise<void> {
  const asked = { ...(await direct(upstream, 'owner/app')), blobUrl: registry('', seenAt).blobUrl };
  const ours = registry('ghcr-cache', cache);
  const blobs = upstream.images[0]?.blobs.filter(({ size }) => size === MIB) ?? [];
  const next = () => blobs.pop()?.digest ?? '';
  // First a pull of each, to have a token and open connections as in the middle of an image.
  for (const each of [ours, asked]) {
    await load([each.blobUrl('owner/app', next())], { headers: each.headers });
  }
  await bench.compare(title, [{ name: 'first byte', unit: 'ms', better: 'less' }], [ours, asked], async each => {
    const urls = Array.from({ length: PAIRS }, () => each.blobUrl('owner/app', next()));
    const { firstByteMs } = await load(urls, { headers: each.headers });
    return { values: [firstByteMs.p50] };
  });
}
