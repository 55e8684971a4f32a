// The pull modules over stores in a temporary directory and a fake upstream, without a server.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { KeyedMutex } from '../../src/base/keyed-mutex.ts';
import { Descriptors } from '../../src/compose/descriptors.ts';
import { openStores, type Stores } from '../../src/compose/stores.ts';
import type { Config } from '../../src/config/load.ts';
import { Freshness } from '../../src/pull/freshness.ts';
import { LocalWrites } from '../../src/pull/local-writes.ts';
import { Partials } from '../../src/pull/partials.ts';
import { Budget } from '../../src/retention/budget.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';
import { TestClock, testRandom } from './clock.ts';
import { type FakeAnswer, FakeUpstream } from './fake-upstream.ts';

export interface PullOptions {
  /** What downloads of blobs get. */
  readonly script?: FakeAnswer[];
  /** What other requests get. */
  readonly verbs?: Partial<Upstream>;
  readonly maxSizeBytes?: number;
  readonly staleIfErrorMs?: number;
}

/** All that Blobs, Manifests and Tags are made of. */
export async function openPull(t: TestContext, options: PullOptions = {}) {
  const { script, verbs, maxSizeBytes = Infinity, staleIfErrorMs = 3_600_000 } = options;
  const data = mkdtempSync(join(tmpdir(), 'ghcr-cache-pull-'));
  const stack = new AsyncDisposableStack();
  const stopping = new AbortController();
  t.after(async () => {
    stopping.abort();
    await stack.disposeAsync();
    rmSync(data, { recursive: true, force: true });
  });
  const clock = new TestClock();
  const lines: string[] = [];
  const write = (_fields: object, message: string) => lines.push(message);
  const log = { debug: write, info: write, warn: write, error: write };
  const environment = { clock, log, random: testRandom() };
  const config = { data, cache: { verifyEveryMs: Infinity } } as Config;
  const stores: Stores = await openStores(config, environment, new Descriptors(undefined, clock, log), stack);
  const budget = await Budget.open({ ...stores, clock, maxSizeBytes, minFreeBytes: 0, pins: [] });
  const fake = new FakeUpstream(script, verbs);
  const localWrites = new LocalWrites({ clock, metadata: stores.metadata, graceMs: 60_000 });
  return {
    ...{ ...stores, budget, clock, log, lines, data, fake, localWrites },
    freshness: new Freshness(clock, staleIfErrorMs),
    tagMutex: new KeyedMutex(),
    signal: stopping.signal,
    partials: new Partials({ ...stores, budget, clock, maxSizeBytes }, await stores.ingests.list()),
    upstream: () => fake.upstream,
  };
}
