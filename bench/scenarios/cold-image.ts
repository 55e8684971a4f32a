// Images that are not cached, pulled as a whole over lines as people have them to ghcr.io, compared with pulling them
// from there directly: the time, and what the cache requests for it.
import type { Bench, Measured, Metric } from '../bench.ts';
import { type LoadResult, load } from '../load.ts';
import { type FakeGhcr, freePort, type LineOptions, type Server, startFakeGhcr, startLine } from '../programs.ts';
import { ACCEPT, Registries, type Registry, registry, startCaches, startRegistries } from '../subjects.ts';

type Line = LineOptions & { readonly name: string };

const FIBRE: Line = { name: 'fibre far away', roundTripMs: 20, rate: 25e6 };
const OFFICE: Line = { name: 'office', roundTripMs: 30, total: 50e6 };
/** A connection breaks after 256 MiB on average, a few of them in each pull. */
const BAD_LINK: Line = { name: 'bad link', roundTripMs: 20, rate: 25e6, cut: 0.25 };

/** The sizes of an image's layers, as the fake takes them. */
interface Shape {
  readonly name: string;
  readonly layers: readonly string[];
}

const ONE_LARGE: Shape = { name: 'a layer of 512 MiB and six of 1 MiB', layers: ['512MiB', ...copies(6, '1MiB')] };
const MANY: Shape = { name: '40 layers of 8 MiB', layers: copies(40, '8MiB') };
const LARGE: Shape = { name: '10 layers of 205 MiB', layers: copies(10, '205MiB') };

/** How many blobs clients pull at a time: Docker, BuildKit, a script. */
const DOCKER = 3;
const BUILDKIT = 6;
const SCRIPT = 1;
/** As Docker does, for each blob. */
const RETRIES = 5;

/** Requests and bytes are those of the blob host. */
const METRICS: readonly Metric[] = [
  { name: 'time', unit: 's', better: 'less' },
  { name: 'requests', unit: '', better: 'less' },
  { name: 'bytes sent', unit: '× of image', better: 'less' },
];
const RETRIED: Metric = { name: 'retries by the client', unit: '', better: 'less' };

export async function coldImage(bench: Bench): Promise<void> {
  for (const shape of [ONE_LARGE, MANY, LARGE]) await compare(bench, FIBRE, shape, DOCKER);
  for (const clients of [BUILDKIT, SCRIPT]) await compare(bench, FIBRE, MANY, clients);
  for (const shape of [ONE_LARGE, MANY]) await compare(bench, OFFICE, shape, DOCKER);
  await compareAtOnce(bench, OFFICE, MANY);
  for (const shape of [ONE_LARGE, MANY]) await compare(bench, BAD_LINK, shape, DOCKER);
}

async function compare(bench: Bench, line: Line, shape: Shape, clients: number): Promise<void> {
  bench.clear();
  await using upstream = await Distant.start(line, shape, bench.runs);
  await using registries = await startRegistries(bench, upstream, {});
  const [ours, ...others] = registries.all;
  if (ours === undefined) return;
  await bench.compare(
    `${line.name}: ${shape.name}, ${clients} at a time`,
    line.cut === undefined ? METRICS : [...METRICS, RETRIED],
    [ours, upstream.direct, ...others],
    (each, run) => upstream.measure(run, async () => [await upstream.pull(each, run, clients)]),
  );
}

/** Two images share what the line has. */
async function compareAtOnce(bench: Bench, line: Line, shape: Shape): Promise<void> {
  bench.clear();
  await using upstream = await Distant.start(line, shape, 4 * bench.runs);
  await using caches = new Registries(await startCaches(bench, upstream.url));
  const subjects = caches.all.flatMap(each => [
    { ...each, name: `${each.name}, at once`, atOnce: true, first: 0 },
    { ...each, name: `${each.name}, one after the other`, atOnce: false, first: 2 },
  ]);
  await bench.compare(`${line.name}: two images, each ${shape.name}`, METRICS, subjects, (each, run) => {
    const pull = (image: number) => upstream.pull(each, 4 * run + each.first + image, DOCKER);
    return upstream.measure(run, async () =>
      each.atOnce ? Promise.all([pull(0), pull(1)]) : [await pull(0), await pull(1)],
    );
  });
}

/** The fake ghcr.io at the far end of a line, with images of one shape. */
class Distant implements AsyncDisposable {
  readonly #line: Line;
  readonly #upstream: FakeGhcr;
  readonly #registry: Server;
  readonly #blobPort: number;

  private constructor(line: Line, upstream: FakeGhcr, registry: Server, blobPort: number) {
    this.#line = line;
    this.#upstream = upstream;
    this.#registry = registry;
    this.#blobPort = blobPort;
  }

  static async start(line: Line, { layers }: Shape, count: number): Promise<Distant> {
    const images = Array.from({ length: count }, (_, i) => ['--image', `owner/image${i}:v1=${layers.join(',')}`]);
    const blobPort = await freePort();
    const upstream = await startFakeGhcr(['--open', '--blob-url', `http://127.0.0.1:${blobPort}`, ...images.flat()]);
    return new Distant(line, upstream, await startLine(upstream, { roundTripMs: line.roundTripMs }), blobPort);
  }

  get url(): string {
    return this.#registry.url;
  }

  /** The upstream without a cache. */
  get direct(): Registry {
    return { ...registry('direct', this.#registry), program: undefined };
  }

  pull(each: Registry, image: number, clients: number): Promise<LoadResult> {
    const { name = '', tag = '', blobs = [] } = this.#upstream.images[image] ?? {};
    const urls = [each.manifestUrl(name, tag), ...blobs.map(({ digest }) => each.blobUrl(name, digest))];
    const retries = this.#line.cut === undefined ? 0 : RETRIES;
    return load(urls, { clients, shared: true, retries, headers: { ...ACCEPT, ...each.headers } });
  }

  /** The line to the blob host begins anew for each run, so that the same of its connections are cut for everybody. */
  async measure(run: number, pulls: () => Promise<LoadResult[]>): Promise<Measured> {
    const { name: _, ...options } = this.#line;
    await using _line = await startLine(
      { url: this.#upstream.blobUrl },
      { ...options, port: this.#blobPort, seed: 1 + run },
    );
    const before = await this.#sent();
    const startedMs = performance.now();
    const pulled = await pulls();
    const seconds = (performance.now() - startedMs) / 1000;
    const after = await this.#sent();
    const values = [
      seconds,
      after.requests - before.requests,
      (after.bytes - before.bytes) / pulled.reduce((sum, { bytes }) => sum + bytes, 0),
    ];
    if (options.cut !== undefined) values.push(pulled.reduce((sum, { retried }) => sum + retried, 0));
    return { values, saturated: pulled.some(({ saturated }) => saturated) };
  }

  /** By the blob host. */
  async #sent(): Promise<{ requests: number; bytes: number }> {
    return (await this.#upstream.counters()).blobhost ?? { requests: 0, bytes: 0 };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#registry.stop();
    await this.#upstream.stop();
  }
}

function copies(count: number, size: string): string[] {
  return Array.from({ length: count }, () => size);
}
