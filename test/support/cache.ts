// The cache as behaviour tests use it: composed as `serve` does, with a data directory and a port of its own, on a
// clock that the test controls. It reads a real config file, logs into memory, and leaves nothing behind.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { inspect } from 'node:util';
import { systemRandom } from '../../src/base/clock.ts';
import { type RunningCache, startCache } from '../../src/compose/cache.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Timeouts } from '../../src/upstream/transport/dialer.ts';
import { TestClock } from './clock.ts';
import { type Ghcr, type GhcrOptions, startGhcr } from './ghcr/ghcr.ts';
import { fetchRaw, type RawRequest, type Reply } from './http-client.ts';
import type { Image } from './images.ts';

export interface TestCacheOptions {
  /** The fake behind the default upstream `ghcr.io`; absent: the upstream is unreachable. */
  readonly ghcr?: Ghcr;
  /** Merged into the config file. */
  readonly config?: Record<string, unknown>;
  /** Merged into the entry of `ghcr.io`. */
  readonly upstream?: Record<string, unknown>;
  readonly env?: Record<string, string>;
  readonly clock?: TestClock;
  readonly timeouts?: Timeouts;
  /** Files beside the config file, by name. */
  readonly files?: Record<string, string>;
  /** How many descriptors the process is said to have. */
  readonly descriptors?: number;
  /** A data directory that outlives the cache. */
  readonly data?: string;
}

export interface TestCache extends AsyncDisposable {
  readonly url: string;
  readonly clock: TestClock;
  readonly data: string;
  /** The directory of the config file. */
  readonly directory: string;
  /** Everything logged so far. */
  log(): string;
  get(path: string, request?: RawRequest): Promise<Reply>;
  head(path: string, request?: RawRequest): Promise<Reply>;
  /** Resolves when nothing is being ingested any more. */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

/** Short, because tests wait for them; long enough for a busy machine. */
const TIMEOUTS: Timeouts = { connectMs: 2_000, headersMs: 800, stallMs: 400, uploadMs: 2_000 };

export async function startTestCache(options: TestCacheOptions = {}): Promise<TestCache> {
  const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-test-'));
  const data = options.data ?? join(directory, 'data');
  const clock = options.clock ?? new TestClock();
  const url = options.ghcr?.url ?? 'http://127.0.0.1:1';
  const { upstreams, ...others } = options.config ?? {};
  const config = {
    listen: { port: 0 },
    data,
    // The disk of a test machine may be nearly full.
    cache: { minFree: '1MiB' },
    // What a test does not ask for is not to be among what it counts.
    readAhead: false,
    ...others,
    upstreams: { 'ghcr.io': { url, credentials: [], ...options.upstream }, ...(upstreams as object) },
  };
  const file = join(directory, 'config.yaml');
  writeFileSync(file, JSON.stringify(config, null, 2));
  for (const [name, text] of Object.entries(options.files ?? {})) writeFileSync(join(directory, name), text);
  const lines: string[] = [];
  const record = (level: string) => (fields: object, message: string) => {
    lines.push(`${level} ${message} ${inspect(fields, { depth: 5 })}`);
  };
  const log = {
    debug: record('debug'),
    info: record('info'),
    warn: record('warn'),
    error: record('error'),
  };
  const running: RunningCache = await startCache(loadConfig({ file, env: options.env ?? {}, cwd: directory }), {
    clock,
    random: systemRandom,
    log,
    // Those of the config, where the test writes some.
    ...(options.upstream?.timeouts === undefined && { timeouts: options.timeouts ?? TIMEOUTS }),
    ...(options.descriptors !== undefined && { descriptors: options.descriptors }),
  });
  const origin = `http://127.0.0.1:${running.server.address.port}`;
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= running.stop(0).finally(() => rmSync(directory, { recursive: true, force: true }));
    return stopped;
  };
  return {
    url: origin,
    clock,
    data,
    directory,
    log: () => lines.join('\n'),
    get: (path, request) => fetchRaw(origin + path, request),
    head: (path, request) => fetchRaw(origin + path, { ...request, method: 'HEAD' }),
    settled: () => running.settled(),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** A data directory, a fake ghcr.io that holds this image as `v1`, and caches on it, one after another. */
export async function startInDirectory(t: TestContext, image: Image) {
  const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-data-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const data = join(directory, 'data');
  const ghcr = await startGhcr();
  t.after(() => ghcr.close());
  ghcr.push('owner/app', image, 'v1');
  const start = async () => {
    const cache = await startTestCache({ ghcr, data });
    t.after(() => cache.stop());
    return cache;
  };
  return { directory, data, ghcr, start };
}

/** A fake ghcr.io and a cache in front of it, on one clock, both stopped after the test. */
export async function startBoth(
  t: TestContext,
  options: Omit<TestCacheOptions, 'ghcr'> & { fake?: GhcrOptions } = {},
): Promise<{ ghcr: Ghcr; cache: TestCache; clock: TestClock }> {
  const clock = options.clock ?? new TestClock();
  const ghcr = await startGhcr({ now: clock.now, ...options.fake });
  t.after(() => ghcr.close());
  const cache = await startTestCache({ ...options, ghcr, clock });
  t.after(() => cache.stop());
  return { ghcr, cache, clock };
}
