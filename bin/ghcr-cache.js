#!/usr/bin/env -S node --max-semi-space-size=8
// The one file that an old Node must be able to read: it refuses politely before anything newer is loaded.
// From a checkout it runs the sources as they are; from the published package, dist/. The flag above keeps
// V8's young generation from growing to some 50 MB of garbage. With less room, what requests need is promoted
// while they run, and the old generation has to be collected, which stops everything.
import { existsSync } from 'node:fs';
import module from 'node:module';
import { fileURLToPath } from 'node:url';
import v8 from 'node:v8';

if (Number.parseInt(process.versions.node, 10) < 24) {
  console.error(
    `ghcr-cache needs Node 24 or newer, and this is ${process.version} (${process.execPath}). ` +
      'In a checkout use npm (npm start, npm run -s cli -- COMMAND): it brings its own Node.',
  );
  process.exit(1);
}

// Buffers of bodies outside of its heap make V8 mark the heap over and over, on all cores; what is in it is small,
// and marked in some milliseconds when that has to be.
v8.setFlagsFromString('--no-incremental-marking');
// Left to itself V8 lets the heap grow to four times of what is in it, when many requests come beside many bodies.
v8.setFlagsFromString('--heap-growing-percent=50');
// The parser of upstream answers is WebAssembly: to optimize it takes 25 MB that do not come back, and a core at the
// first pull, and pulls become no faster by it.
v8.setFlagsFromString('--no-wasm-tier-up');
v8.setFlagsFromString('--no-wasm-dynamic-tiering');

const source = new URL('../src/cli/main.ts', import.meta.url);
const isCheckout = existsSync(source);
// What strips the types takes 30 MB for as long as the process lives; from the second start on it is not loaded.
if (isCheckout) module.enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/compiled', import.meta.url)));
const { main } = await import(isCheckout ? source.href : new URL('../dist/cli/main.js', import.meta.url).href);
await main(process.argv.slice(2));
