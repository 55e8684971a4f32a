import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pin, UsageRow } from '../metadata/metadata.ts';
import { digestOf } from '../oci/digest.ts';
import { evictionOrder } from './eviction.ts';

/** Metadata of so many rows, oldest first, of which the first so many are pinned; it notes each question. */
function store(count: number, pinnedCount = 0) {
  const rows: UsageRow[] = Array.from({ length: count }, (_, i) => ({
    digest: digestOf(Buffer.from(`${i}`)),
    sizeBytes: i,
    touchedAtMs: i,
  }));
  const asked: number[] = [];
  const leastRecentlyUsed = async (limit: number, last?: UsageRow) => {
    asked.push(limit);
    return rows.filter(({ touchedAtMs }) => touchedAtMs > (last?.touchedAtMs ?? -1)).slice(0, limit);
  };
  const pinned = async (pins: readonly Pin[]) => {
    assert.equal(pins, PINS);
    return rows.slice(0, pinnedCount);
  };
  return { rows, asked, leastRecentlyUsed, pinned };
}

const PINS: readonly Pin[] = [{ repository: { upstream: 'ghcr.io', name: 'owner/app' }, reference: { tag: 'v1' } }];

test('content goes in the order of metadata, of which little is asked for at once', async () => {
  const metadata = store(1_250);
  const gone: number[] = [];
  for await (const row of evictionOrder(metadata, PINS)) {
    gone.push(row.sizeBytes);
    metadata.rows.splice(metadata.rows.indexOf(row), 1);
  }
  assert.deepEqual(
    gone,
    Array.from({ length: 1_250 }, (_, i) => i),
  );
  assert.deepEqual(metadata.asked, [500, 500, 500, 500]);
});

test('what is pinned is passed over, however much of it is older than all else', async () => {
  const metadata = store(1_250, 1_100);
  const gone: number[] = [];
  for await (const { sizeBytes } of evictionOrder(metadata, PINS)) gone.push(sizeBytes);
  assert.deepEqual(
    gone,
    Array.from({ length: 150 }, (_, i) => 1_100 + i),
  );
});

test('no more is asked for than is needed', async () => {
  const metadata = store(1_250);
  for await (const { sizeBytes } of evictionOrder(metadata, PINS)) if (sizeBytes === 499) break;
  assert.deepEqual(metadata.asked, [500]);
});

test('there is an end where nothing may go', async () => {
  for await (const row of evictionOrder(store(0), PINS)) assert.fail(row.digest);
});
