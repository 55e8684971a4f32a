// `npm run bench [-- SCENARIO …]`: measures the program as users run it, in front of the stand-in for ghcr.io,
// all on loopback. It prints medians of interleaved runs and their spread, and writes bench/results/latest.json.
// The machine is part of every absolute figure; what is asked of both sides in one run can be compared.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { blob20 } from './blob20.ts';
import { firstByte } from './first-byte.ts';
import { push } from './push.ts';

/** A scenario prints its figures and returns them. `folder` is empty, and removed afterwards. */
type Scenario = (folder: string) => Promise<Record<string, unknown>>;

const SCENARIOS: Record<string, Scenario> = { 'first-byte': firstByte, 'blob-20-clients': blob20, push };

const asked = process.argv.slice(2);
const unknown = asked.filter(name => !(name in SCENARIOS));
if (unknown.length > 0) {
  console.error(`no scenario ${unknown.join(', ')}; there are ${Object.keys(SCENARIOS).join(', ')}`);
  process.exit(2);
}

const results: Record<string, unknown> = {
  node: process.version,
  cpu: `${cpus().length} × ${cpus()[0]?.model}`,
  at: new Date().toISOString(),
};
for (const [name, scenario] of Object.entries(SCENARIOS)) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  console.log(`\n${name}`);
  const folder = mkdtempSync(join(tmpdir(), 'ghcr-cache-bench-'));
  try {
    results[name] = await scenario(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
const folder = new URL('results/', import.meta.url).pathname;
mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, 'latest.json'), `${JSON.stringify(results, null, 2)}\n`);
