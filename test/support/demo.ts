// `npm run demo`: a fake ghcr.io with the cache in front of it, and an image pulled three times, without any network.
// It prints what happened.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock, systemRandom } from '../../src/base/clock.ts';
import { startCache } from '../../src/compose/cache.ts';
import { loadConfig } from '../../src/config/load.ts';
import { startGhcr } from './ghcr/ghcr.ts';
import { fetchRaw } from './http-client.ts';
import { makeImage, makeIndex } from './images.ts';

const NAME = 'octo/app';
const formatSize = (bytes: number) => `${(bytes / 1024).toFixed(1)} KiB`;
const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-demo-'));
const ghcr = await startGhcr();
const amd64 = makeImage({ layers: [3_000_000, 12_000_000, 40_000, 700_000], seed: 'amd64' });
const arm64 = makeImage({
  layers: [3_000_000],
  seed: 'arm64',
  platform: { os: 'linux', architecture: 'arm64' },
});
ghcr.push(NAME, makeIndex([amd64, arm64]), 'v1');

const config = loadConfig({ env: {}, cwd: directory });
const upstreams = new Map(
  [...config.upstreams].map(([host, upstream]) => [host, { ...upstream, url: new URL(ghcr.url) }]),
);
const quiet = { debug() {}, info() {}, warn: console.log, error: console.log };
const cache = await startCache(
  { ...config, upstreams, listen: { ...config.listen, port: 0 } },
  { clock: systemClock, random: systemRandom, log: quiet },
);
const url = `http://127.0.0.1:${cache.server.address.port}`;
console.log(`a fake ghcr.io at ${ghcr.url}, the cache at ${url}\n`);

const pulls = [
  ['first pull', 'nothing is cached'],
  ['second pull', 'everything is cached'],
  ['third pull', 'the upstream is stopped'],
] as const;
for (const [name, circumstances] of pulls) {
  if (name === 'third pull') await ghcr.stop();
  ghcr.resetCounters();
  console.log(`${name}: ${circumstances}`);
  let total = 0;
  for (const [what, path] of [
    [`${NAME}:v1`, 'manifests/v1'],
    ['its manifest for linux/amd64', `manifests/${amd64.manifest.digest}`],
    ['its config', `blobs/${amd64.config.digest}`],
    ...amd64.layers.map(({ digest }, i) => [`layer ${i + 1}`, `blobs/${digest}`]),
  ] as [string, string][]) {
    const startedMs = performance.now();
    const { status, body, headers } = await fetchRaw(`${url}/v2/${NAME}/${path}`);
    const ms = (performance.now() - startedMs).toFixed(1);
    total += body.length;
    console.log(
      `  ${status} ${String(headers['x-cache']).padEnd(5)} ${formatSize(body.length).padStart(10)} ${ms.padStart(7)} ms  ${what}`,
    );
  }
  const fromUpstream = ghcr.bytes({ endpoint: 'manifest' }) + ghcr.bytes({ endpoint: 'blobhost' });
  console.log(
    `  upstream: ${ghcr.count()} requests, ${formatSize(fromUpstream)}; saved ${formatSize(Math.max(0, total - fromUpstream))} of ${formatSize(total)}\n`,
  );
  await cache.settled();
}
await cache.stop(0);
await ghcr.close();
rmSync(directory, { recursive: true, force: true });
