// The fake ghcr.io as a program, for benchmarks and for tests that need it in another process:
//   node test/support/ghcr/main.ts [--port 0] [--blob-port 0] [--api-port 0] [--blob-url URL] [--private]
//     [--user NAME:TOKEN]… [--open] [--allow-delete] [--referrers] [--sha512] [--spec] [--tls]
//     [--image owner/app:tag=100KiB,2MiB]… [--index owner/multi:tag=100KiB,2MiB]… [--big owner/big:tag=1GiB]…
// `--blob-url` is where it redirects to in place of its blob host, to something that leads there. A user may read, write
// and delete everything; with `--open` any client may. The next three options make it less like ghcr.io and more like an
// ordinary registry; `--spec` does that in all that the distribution spec covers: these three, no redirects, the spec's
// statuses, and what the spec has after 1.1. It prints one JSON line with its URLs and what it holds, and runs until
// SIGTERM or SIGINT. SIGUSR2 prints a JSON line with the number of requests and of bytes sent and received, by endpoint.
import { parseArgs } from 'node:util';
import { type Image, type Index, makeImage, makeIndex } from '../images.ts';
import { LOOPBACK_TLS } from '../tls.ts';
import { type Ghcr, startGhcr } from './ghcr.ts';

const DEFAULT_IMAGES = ['owner/app:latest=64KiB,1MiB,4MiB'];

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    'blob-port': { type: 'string', default: '0' },
    'api-port': { type: 'string', default: '0' },
    'blob-url': { type: 'string' },
    open: { type: 'boolean', default: false },
    'allow-delete': { type: 'boolean', default: false },
    referrers: { type: 'boolean', default: false },
    sha512: { type: 'boolean', default: false },
    spec: { type: 'boolean', default: false },
    tls: { type: 'boolean', default: false },
    private: { type: 'boolean', default: false },
    user: { type: 'string', multiple: true, default: [] },
    image: { type: 'string', multiple: true, default: [] },
    index: { type: 'string', multiple: true, default: [] },
    big: { type: 'string', multiple: true, default: [] },
  },
});

const { 'blob-url': blobUrl } = values;
const ghcr = await startGhcr({
  port: Number(values.port),
  blobPort: Number(values['blob-port']),
  apiPort: Number(values['api-port']),
  // With the certificate of test/support/tls.ts, for registry and blob host.
  ...(values.tls && { tls: LOOPBACK_TLS, blobTls: LOOPBACK_TLS }),
  switches: {
    auth: values.open ? 'none' : 'bearer',
    allowDelete: values['allow-delete'] || values.spec,
    referrers: values.referrers || values.spec ? 'supported' : 'redirect',
    ...(blobUrl !== undefined && { redirectTo: signedUrl => onOrigin(blobUrl, signedUrl) }),
    digests: values.sha512 || values.spec ? ['sha256', 'sha512'] : ['sha256'],
    ...(values.spec ? { redirects: false, badFinish: 400, nextSpec: true, tagsOrder: 'lexical' } : {}),
  },
});

for (const user of values.user) {
  const [username = '', token = ''] = user.split(':');
  const scopes = ['read:packages', 'write:packages', 'delete:packages'];
  ghcr.addUser({ username, token, scopes, packages: ['*'] });
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
printLine({ url: ghcr.url, blobUrl: ghcr.blobUrl, apiUrl: ghcr.apiUrl, images });

process.on('SIGUSR2', () => printLine(countersOf(ghcr)));
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void ghcr.close());

/** The same path and query on another origin. */
function onOrigin(origin: string, url: string): string {
  const { pathname, search } = new URL(url);
  return new URL(pathname + search, origin).href;
}

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

interface Counters {
  requests: number;
  /** Sent. */
  bytes: number;
  received: number;
}

function countersOf({ requests }: Ghcr): Record<string, Counters> {
  const counters: Record<string, Counters> = {};
  for (const { endpoint, bytesSent, bytesReceived } of requests) {
    counters[endpoint] ??= { requests: 0, bytes: 0, received: 0 };
    counters[endpoint].requests++;
    counters[endpoint].bytes += bytesSent;
    counters[endpoint].received += bytesReceived;
  }
  return counters;
}

function printLine(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
