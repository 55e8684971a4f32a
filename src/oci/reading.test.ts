// Reading large documents in a thread: the same result as where they stand, and the event loop goes on meanwhile.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { digestOf } from './digest.ts';
import { inspectManifest } from './manifest.ts';
import { readManifest, sortedOnce } from './reading.ts';

const manifestOf = (count: number) =>
  Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      layers: Array.from({ length: count }, (_, i) => ({ digest: digestOf(Buffer.from(`layer ${i}`)), size: i })),
    }),
  );

test('small and large manifests are read alike, and only small ones on the event loop', async () => {
  for (const [count, isLarge] of [
    [3, false],
    [5_000, true],
  ] as const) {
    const bytes = manifestOf(count);
    let isRead = false;
    const reading = readManifest(bytes, undefined).finally(() => {
      isRead = true;
    });
    await Promise.resolve();
    await Promise.resolve();
    await Promise.resolve();
    assert.equal(isRead, !isLarge);
    assert.deepEqual(await reading, inspectManifest(bytes, undefined));
  }
});

test('one manifest of many names no more than 10,000 parts', async () => {
  const { parts, problem } = await readManifest(manifestOf(20_000), undefined);
  assert.equal(parts.length, 10_000);
  assert.equal(problem, undefined);
});

test('a large bomb is refused by the thread, which goes on with the next question', async () => {
  const bomb = Buffer.from(`{"schemaVersion":2,"layers":[${'{},'.repeat(1_000_000)}{}]}`);
  const [refused, read] = await Promise.all([
    readManifest(bomb, undefined),
    readManifest(manifestOf(2_000), undefined),
  ]);
  assert.match(refused.problem ?? '', /more than 200000 members/);
  assert.equal(read.parts.length, 2_000);
});

test('lists are sorted, each text once, however long they are', async () => {
  for (const length of [0, 1, 10, 20_000]) {
    const texts = Array.from({ length }, (_, i) => `v${(i * 7919) % length}`);
    const expected = [...new Set(texts)].sort();
    assert.deepEqual(await sortedOnce([...texts, ...texts.slice(0, 5)]), expected);
  }
  await turns();
});
