// `npm run bench [-- --runs 3 --before DIRECTORY SCENARIO …]`: measures the program as users run it, A/B with others that
// do the same job, in front of the fake ghcr.io, all on loopback. With --before it is compared with the cache of another
// checkout instead. Prints medians of interleaved runs, their spread, and ratios; writes bench/results/latest.json and
// latest.html. Results depend on the machine; only those of one run can be compared.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Bench, type Comparison } from './bench.ts';
import { reportOf } from './report.ts';
import { coldBlob } from './scenarios/cold-blob.ts';
import { coldImage } from './scenarios/cold-image.ts';
import { herd } from './scenarios/herd.ts';
import { hotBlob } from './scenarios/hot-blob.ts';
import { hotImage } from './scenarios/hot-image.ts';
import { hotManifest } from './scenarios/hot-manifest.ts';
import { hotSmall } from './scenarios/hot-small.ts';
import { loop } from './scenarios/loop.ts';
import { memory } from './scenarios/memory.ts';
import { push } from './scenarios/push.ts';
import { scale } from './scenarios/scale.ts';

const SCENARIOS: Record<string, (bench: Bench) => Promise<void>> = {
  'hot-blob': hotBlob,
  'hot-small': hotSmall,
  'hot-manifest': hotManifest,
  'hot-image': hotImage,
  'cold-blob': coldBlob,
  'cold-image': coldImage,
  herd,
  push,
  memory,
  scale,
  loop,
};

const { values, positionals } = parseArgs({
  options: { runs: { type: 'string', default: '3' }, before: { type: 'string' } },
  allowPositionals: true,
});
const unknown = positionals.filter(name => !(name in SCENARIOS));
if (unknown.length > 0 || !(Number(values.runs) >= 1)) {
  console.error(
    `npm run bench [-- --runs N --before DIRECTORY SCENARIO …]; there are ${Object.keys(SCENARIOS).join(', ')}`,
  );
  process.exit(2);
}

const comparisons: Comparison[] = [];
for (const [name, scenario] of Object.entries(SCENARIOS)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  console.log(`\n${name}`);
  const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-bench-'));
  const bench = new Bench(name, directory, Number(values.runs), values.before && resolve(values.before));
  try {
    await scenario(bench);
  } catch (error) {
    // The others are still measured.
    console.error(`  ${name} failed: ${(error as Error).message}`);
    process.exitCode = 1;
  } finally {
    bench.close();
  }
  comparisons.push(...bench.comparisons);
}
const machine = {
  node: process.version,
  cpu: `${cpus().length} × ${cpus()[0]?.model}`,
  memory: `${Math.round(totalmem() / 1024 ** 3)} GiB`,
  system: `${process.platform} ${release()}`,
  at: new Date().toISOString(),
};
const directory = new URL('results/', import.meta.url).pathname;
mkdirSync(directory, { recursive: true });
writeFileSync(join(directory, 'latest.json'), `${JSON.stringify({ machine, comparisons }, null, 2)}\n`);
writeFileSync(join(directory, 'latest.html'), reportOf(machine, comparisons));
console.log(`\nwritten to ${directory}latest.json and latest.html`);
