// How start, lookup and memory scale with the number of blobs in the cache: a thousand, a hundred thousand and a
// million. Only metadata is created, which is all that HEAD of a blob needs.
import http from 'node:http';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import type { Bench } from '../bench.ts';
import { startCache } from '../programs.ts';
import { spreadOf } from '../statistics.ts';

const SIZES = [1_000, 100_000, 1_000_000];
const LOOKUPS = 3_000;
const BLOBS_OF_A_REPOSITORY = 1_000;

export async function scale(bench: Bench): Promise<void> {
  const directories = new Map<number, string>();
  for (const size of SIZES) {
    const directory = bench.directory();
    // Creates the database, which is then filled directly.
    await (await startCache(directory, 'http://127.0.0.1:1')).stop();
    fill(join(directory, 'data/metadata.db'), size);
    directories.set(size, directory);
  }
  await bench.compare(
    'blobs in the cache',
    [
      { name: 'start', unit: 'ms', better: 'less' },
      { name: 'lookup p50', unit: 'µs', better: 'less' },
      { name: 'lookup max of medians', unit: 'µs', better: 'less' },
      { name: 'resident', unit: 'MB', better: 'less' },
    ],
    SIZES.map(size => ({ name: String(size), size })),
    async ({ size }) => {
      const startedMs = performance.now();
      await using cache = await startCache(directories.get(size) ?? '', 'http://127.0.0.1:1');
      const startMs = performance.now() - startedMs;
      const lookups = await lookUp(cache.url, size);
      const { median } = spreadOf(lookups);
      const tenths = Array.from({ length: 10 }, (_, i) => lookups.slice((i * LOOKUPS) / 10, ((i + 1) * LOOKUPS) / 10));
      const worst = Math.max(...tenths.map(each => spreadOf(each).median));
      return { values: [startMs, median, worst, cache.residentBytes() / 1e6] };
    },
  );
}

function fill(file: string, size: number): void {
  const database = new Database(file);
  const repository = database.prepare('INSERT INTO repositories (id, upstream, name) VALUES (?, ?, ?)');
  const content = database.prepare('INSERT INTO content (digest, size_bytes, touched_at_ms) VALUES (?, 1000, ?)');
  const link = database.prepare(
    "INSERT INTO links (repository_id, digest, kind, media_type) VALUES (?, ?, 'blob', '')",
  );
  database.transaction(() => {
    for (let i = 0; i < size; i++) {
      const id = Math.floor(i / BLOBS_OF_A_REPOSITORY) + 1;
      if (i % BLOBS_OF_A_REPOSITORY === 0) repository.run(id, 'ghcr.io', nameOf(i));
      content.run(digestOf(i), i);
      link.run(id, digestOf(i));
    }
  })();
  database.close();
}

/** The time of many HEADs, in µs, of blobs all over the database, one after another. */
async function lookUp(url: string, size: number): Promise<number[]> {
  const agent = new http.Agent({ keepAlive: true });
  const times: number[] = [];
  for (let i = 0; i < LOOKUPS; i++) {
    const blob = Math.floor((i * 0.618_033_988 * size) % size);
    const startedMs = performance.now();
    const status = await head(agent, `${url}/v2/${nameOf(blob)}/blobs/${digestOf(blob)}`);
    if (status !== 200) throw new Error(`HEAD of blob ${blob} of ${size}: ${status}`);
    times.push((performance.now() - startedMs) * 1000);
  }
  agent.destroy();
  return times;
}

function head(agent: http.Agent, url: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    http
      .request(url, { method: 'HEAD', agent }, answer => {
        answer.resume();
        answer.once('end', () => resolve(answer.statusCode));
      })
      .once('error', reject)
      .end();
  });
}

function nameOf(i: number): string {
  return `owner/app-${Math.floor(i / BLOBS_OF_A_REPOSITORY)}`;
}

/** Spread evenly, as digests are. */
function digestOf(i: number): string {
  const hash = (i * 0x9e3779b1) >>> 0;
  return `sha256:${hash.toString(16).padStart(8, '0')}${i.toString(16).padStart(56, '0')}`;
}
