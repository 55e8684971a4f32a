import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import type { Repository } from '../oci/reference.ts';
import { ReferrerDetails } from './referrer-details.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };
const OTHER = { upstream: 'ghcr.io', name: 'owner/other' };
const INDEX = 'application/vnd.oci.image.index.v1+json';

/** Entries that tell nothing, and manifests behind them that can be read when `gate` resolves. */
function setUp(count: number, gate: Promise<void> = Promise.resolve()) {
  const stored = new Map<Digest, Buffer>();
  const entries = Array.from({ length: count }, (_, i) => {
    const annotations = { number: `${i}` };
    const manifest = { schemaVersion: 2, mediaType: INDEX, manifests: [], artifactType: 'text/x', annotations };
    const bytes = Buffer.from(JSON.stringify(manifest));
    stored.set(digestOf(bytes), bytes);
    return { digest: digestOf(bytes), mediaType: INDEX, size: bytes.length };
  });
  const read = { all: 0, now: 0, most: 0 };
  const pull = async (_repository: Repository, digest: Digest) => {
    read.all++;
    read.most = Math.max(read.most, ++read.now);
    await gate;
    read.now--;
    const bytes = stored.get(digest) ?? assert.fail();
    return { manifest: { digest, mediaType: INDEX, bytes }, outcome: 'hit' as const };
  };
  const completed = entries.map((entry, i) => ({ ...entry, artifactType: 'text/x', annotations: { number: `${i}` } }));
  return { details: new ReferrerDetails({ pull }), entries, completed, read };
}

describe('the details of referrers', () => {
  test('are read once for lists that are asked for at the same time, and later', async () => {
    const { details, entries, completed, read } = setUp(20);
    const lists = await Promise.all([details.complete(APP, entries), details.complete(APP, entries)]);
    for (const list of lists) assert.deepEqual(list, completed);
    assert.deepEqual(await details.complete(APP, entries), completed);
    assert.equal(read.all, 20);
  });

  test('are read by each repository for itself', async () => {
    const { details, entries, read } = setUp(1);
    await details.complete(APP, entries);
    await details.complete(OTHER, entries);
    assert.equal(read.all, 2);
  });

  test('are read a few at a time, however many lists are asked for', async () => {
    const gate = Promise.withResolvers<void>();
    const { details, entries, read } = setUp(100, gate.promise);
    const lists = [0, 30, 60].map(first => details.complete(APP, entries.slice(first, first + 30)));
    await turns(5);
    assert.equal(read.most, 8);
    gate.resolve();
    await Promise.all(lists);
    assert.deepEqual([read.all, read.most], [90, 8]);
  });
});
