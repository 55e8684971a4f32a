// The stand-in as a program, for demonstrations, benchmarks and tests that need it in another process:
//   node test/support/ghcr-main.ts [--port 0] [--blob-port 0] [--private] [--user NAME:TOKEN]
//     [--image owner/app:tag=100KiB,2MiB]… [--index owner/multi:tag=100KiB,2MiB]… [--big owner/big:tag=1GiB]…
// It prints one JSON line with its URLs and what it holds, and runs until SIGTERM or SIGINT. SIGUSR2 prints
// a JSON line that counts requests and bytes by endpoint.
import { parseArgs } from 'node:util';
import { type Ghcr, startGhcr } from './ghcr.ts';
import { type Image, type Index, makeImage, makeIndex } from './images.ts';

const DEFAULT_IMAGES = ['owner/app:latest=64KiB,1MiB,4MiB'];

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    'blob-port': { type: 'string', default: '0' },
    private: { type: 'boolean', default: false },
    user: { type: 'string', multiple: true, default: [] },
    image: { type: 'string', multiple: true, default: [] },
    index: { type: 'string', multiple: true, default: [] },
    big: { type: 'string', multiple: true, default: [] },
  },
});

const ghcr = await startGhcr({ port: Number(values.port), blobPort: Number(values['blob-port']) });

for (const user of values.user) {
  const [username = '', token = ''] = user.split(':');
  ghcr.addUser({ username, token, packages: packagesOf(values).map(({ name }) => name) });
}
const images = packagesOf(values).map(({ name, tag, sizes, multi }) => {
  const seed = `${name}:${tag}`;
  const image = multi ? makeMultiPlatform(sizes, seed) : makeImage({ layers: sizes, seed });
  ghcr.addPackage(name, { visibility: values.private ? 'private' : 'public' });
  ghcr.push(name, image, tag);
  return {
    name,
    tag,
    digest: image.manifest.digest,
    blobs: blobsOf(image).map(blob => ({ digest: blob.digest, size: blob.sizeBytes })),
  };
});
printLine({ url: ghcr.url, blobUrl: ghcr.blobUrl, images });

process.on('SIGUSR2', () => printLine(countersOf(ghcr)));
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void ghcr.close());

interface Wanted {
  name: string;
  tag: string;
  sizes: number[];
  multi: boolean;
}

function packagesOf({ image, index, big }: { image: string[]; index: string[]; big: string[] }): Wanted[] {
  const single = [...image, ...big];
  const texts = single.length + index.length > 0 ? single : DEFAULT_IMAGES;
  return [
    ...texts.map(text => ({ ...parseImage(text), multi: false })),
    ...index.map(text => ({ ...parseImage(text), multi: true })),
  ];
}

/** `name:tag=size,size,…` */
function parseImage(text: string): Omit<Wanted, 'multi'> {
  const [, name = '', tag = '', sizes] = /^(.+):([^:=]+)=(.+)$/.exec(text) ?? [];
  if (sizes === undefined) throw new Error(`not of the form name:tag=size,…: ${text}`);
  return { name, tag, sizes: sizes.split(',').map(parseSize) };
}

function parseSize(text: string): number {
  const [, number, unit = ''] = /^(\d+)(KiB|MiB|GiB)?$/.exec(text) ?? [];
  if (number === undefined) throw new Error(`not a size such as 4096, 64KiB, 10MiB or 1GiB: ${text}`);
  return Number(number) * 1024 ** ['', 'KiB', 'MiB', 'GiB'].indexOf(unit);
}

function makeMultiPlatform(layers: number[], seed: string): Index {
  const platforms = ['amd64', 'arm64'].map(architecture => ({ os: 'linux', architecture }));
  return makeIndex(platforms.map(platform => makeImage({ layers, seed, platform })));
}

function blobsOf(image: Image | Index): Image['layers'] {
  return 'images' in image ? image.images.flatMap(blobsOf) : [image.config, ...image.layers];
}

function countersOf({ requests }: Ghcr): Record<string, { requests: number; bytes: number }> {
  const counters: Record<string, { requests: number; bytes: number }> = {};
  for (const { endpoint, bytesSent } of requests) {
    counters[endpoint] ??= { requests: 0, bytes: 0 };
    counters[endpoint].requests++;
    counters[endpoint].bytes += bytesSent;
  }
  return counters;
}

function printLine(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
