import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContentRow, Pin } from '../metadata/metadata.ts';
import { digestOf } from '../oci/digest.ts';
import { evictionOrder } from './eviction.ts';

const PINS: readonly Pin[] = [{ repository: { upstream: 'ghcr.io', name: 'owner/app' }, reference: { tag: 'v1' } }];

/** Metadata of so many rows, oldest first, that notes each question. */
function store(count: number) {
  const rows: ContentRow[] = Array.from({ length: count }, (_, i) => ({
    digest: digestOf(Buffer.from(`${i}`)),
    sizeBytes: i,
  }));
  const asked: number[] = [];
  const leastRecentlyUsed = async (limit: number, pins: readonly Pin[]) => {
    assert.equal(pins, PINS);
    asked.push(limit);
    return rows.slice(0, limit);
  };
  return { rows, asked, leastRecentlyUsed };
}

test('content goes in the order of metadata, of which little is asked for at once', async () => {
  const metadata = store(250);
  const gone: number[] = [];
  for await (const row of evictionOrder(metadata, PINS)) {
    gone.push(row.sizeBytes);
    metadata.rows.splice(metadata.rows.indexOf(row), 1);
  }
  assert.deepEqual(
    gone,
    Array.from({ length: 250 }, (_, i) => i),
  );
  assert.deepEqual(metadata.asked, [100, 100, 100, 100]);
});

test('no more is asked for than is needed', async () => {
  const metadata = store(250);
  for await (const { sizeBytes } of evictionOrder(metadata, PINS)) if (sizeBytes === 99) break;
  assert.deepEqual(metadata.asked, [100]);
});

test('there is an end where nothing may go', async () => {
  for await (const row of evictionOrder(store(0), PINS)) assert.fail(row.digest);
});
