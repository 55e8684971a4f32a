// The cache as tests see it: put together by the composition root as `serve` does, on a data directory and
// a port of its own, with a clock that the test moves and sleeps that take no time.
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

export interface TestCacheOptions {
  /** The stand-in behind the default upstream `ghcr.io`; absent: one that is not there. */
  readonly ghcr?: Ghcr;
  /** Merged into the config file, whose syntax includes JSON. */
  readonly config?: Record<string, unknown>;
  /** Merged into the entry of `ghcr.io`. */
  readonly upstream?: Record<string, unknown>;
  readonly env?: Record<string, string>;
  readonly clock?: TestClock;
  readonly timeouts?: Timeouts;
  /** Beside the config file, by name. */
  readonly files?: Record<string, string>;
  /** A data directory that outlives the cache. */
  readonly data?: string;
}

export interface TestCache extends AsyncDisposable {
  readonly url: string;
  readonly clock: TestClock;
  readonly data: string;
  /** Where the config file is. */
  readonly folder: string;
  /** All that was logged, as one text. */
  log(): string;
  get(path: string, request?: RawRequest): Promise<Reply>;
  head(path: string, request?: RawRequest): Promise<Reply>;
  /** Resolves when all that is coming in is kept or gone. */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

/** Short, since tests wait for them; long enough for a busy machine. */
const TIMEOUTS: Timeouts = { connectMs: 2_000, headersMs: 800, stallMs: 400, uploadMs: 2_000 };

export async function startTestCache(options: TestCacheOptions = {}): Promise<TestCache> {
  const folder = mkdtempSync(join(tmpdir(), 'ghcr-cache-test-'));
  const data = options.data ?? join(folder, 'data');
  const clock = options.clock ?? new TestClock();
  const url = options.ghcr?.url ?? 'http://127.0.0.1:1';
  const { upstreams, ...others } = options.config ?? {};
  const config = {
    listen: { port: 0 },
    data,
    // A test machine's disk may be nearly full.
    cache: { minFree: '1MiB' },
    ...others,
    upstreams: { 'ghcr.io': { url, credentials: [], ...options.upstream }, ...(upstreams as object) },
  };
  const file = join(folder, 'config.yaml');
  writeFileSync(file, JSON.stringify(config, null, 2));
  for (const [name, text] of Object.entries(options.files ?? {})) writeFileSync(join(folder, name), text);
  const lines: string[] = [];
  const keep = (level: string) => (fields: object, message: string) => {
    lines.push(`${level} ${message} ${inspect(fields, { depth: 5 })}`);
  };
  const log = { debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
  const running: RunningCache = await startCache(loadConfig({ file, env: options.env ?? {}, cwd: folder }), {
    clock,
    random: systemRandom,
    log,
    timeouts: options.timeouts ?? TIMEOUTS,
  });
  const origin = `http://127.0.0.1:${running.server.address.port}`;
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= running.stop(0).finally(() => rmSync(folder, { recursive: true, force: true }));
    return stopped;
  };
  return {
    url: origin,
    clock,
    data,
    folder,
    log: () => lines.join('\n'),
    get: (path, request) => fetchRaw(origin + path, request),
    head: (path, request) => fetchRaw(origin + path, { ...request, method: 'HEAD' }),
    settled: () => running.settled(),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** A stand-in and a cache in front of it, both gone when the test is over. They share one clock. */
export async function startBoth(
  t: TestContext,
  options: Omit<TestCacheOptions, 'ghcr'> & { stand?: GhcrOptions } = {},
): Promise<{ ghcr: Ghcr; cache: TestCache; clock: TestClock }> {
  const clock = options.clock ?? new TestClock();
  const ghcr = await startGhcr({ now: clock.now, ...options.stand });
  t.after(() => ghcr.close());
  const cache = await startTestCache({ ...options, ghcr, clock });
  t.after(() => cache.stop());
  return { ghcr, cache, clock };
}
