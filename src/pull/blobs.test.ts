// Where a blob comes from, as Blobs decides it; the upstream is scripted. What clients see is in test/behaviour/pull.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { describe, type TestContext, test } from 'node:test';
import { until } from '../../test/support/async.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { pathOf } from '../../test/support/local-stores.ts';
import { openPull, type PullOptions } from '../../test/support/pull.ts';
import { put } from '../../test/support/stores.ts';
import type { Source } from '../content/content.ts';
import { readFully } from '../content/read.ts';
import { digestOf } from '../oci/digest.ts';
import { RegistryError, StorageFailure } from '../oci/errors.ts';
import { Blobs } from './blobs.ts';
import { HOLD_BACK_BYTES } from './hold-back.ts';
import { Partials } from './partials.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };
const OTHER = { upstream: 'ghcr.io', name: 'owner/other' };
const SIZE = 300_000;
const blob = randomContent(SIZE, 'blob');
const BYTES = bytesOf(blob);
const { digest } = blob;
const unknown = new RegistryError('BLOB_UNKNOWN', 'not found');

async function setUp(t: TestContext, options?: PullOptions) {
  const pull = await openPull(t, options);
  return { ...pull, blobs: new Blobs(pull) };
}

async function bytesFrom(source: Source): Promise<Buffer> {
  const bytes = Buffer.alloc(source.sizeBytes);
  const count = await readFully(source, bytes).finally(() => source.close());
  return bytes.subarray(0, count);
}

describe('a blob', () => {
  test('that is linked is a hit; without a link of its own a repository asks', async t => {
    const confirmed: string[] = [];
    const { blobs, fake, metadata, ...stores } = await setUp(t, {
      verbs: {
        confirmBlob: async ({ name }) => {
          confirmed.push(name);
        },
      },
    });
    await put(stores, BYTES);
    await metadata.linkBlob([APP], { digest, sizeBytes: SIZE });
    const hit = await blobs.pull(APP, digest);
    assert.equal(hit.outcome, 'hit');
    assert.ok((await bytesFrom(hit.source)).equals(BYTES));
    assert.deepEqual(confirmed, []);
    assert.equal((await blobs.pull(OTHER, digest)).outcome, 'revalidated');
    assert.equal((await blobs.pull(OTHER, digest)).outcome, 'hit');
    assert.deepEqual(confirmed, ['owner/other']);
    assert.deepEqual(fake.asked, []);
  });

  test('is fetched once for all that ask meanwhile', async t => {
    const { blobs, fake } = await setUp(t, { script: [{ bytes: BYTES }] });
    const pulls = await Promise.all([1, 2, 3].map(() => blobs.pull(APP, digest)));
    assert.deepEqual(pulls.map(({ outcome }) => outcome).sort(), ['joined', 'joined', 'miss']);
    for (const { source } of pulls) assert.ok((await bytesFrom(source)).equals(BYTES));
    await blobs.settled();
    assert.deepEqual(fake.asked, [0]);
    assert.equal(fake.placesTaken, 0);
  });

  test('that is not found is not asked for again for a moment, unless it arrives', async t => {
    const { blobs, fake, clock } = await setUp(t, {
      script: [{ error: unknown }, { error: unknown }, { bytes: BYTES }],
    });
    for (let times = 0; times < 3; times++) await assert.rejects(blobs.pull(APP, digest), unknown);
    assert.equal(fake.asked.length, 1);
    clock.advance(10_000);
    await assert.rejects(blobs.pull(APP, digest), unknown);
    assert.equal(fake.asked.length, 2);
    blobs.arrived(APP, digest);
    assert.ok((await bytesFrom((await blobs.pull(APP, digest)).source)).equals(BYTES));
  });

  test('joins the flight of another repository when it may, and else has one of its own', async t => {
    const { blobs, fake, metadata } = await setUp(t, {
      script: [{ bytes: BYTES.subarray(0, 1000), sizeBytes: SIZE, after: 'stall' }],
      verbs: {
        confirmBlob: async ({ name }) => {
          if (name === 'owner/denied') throw unknown;
        },
      },
    });
    const first = await blobs.pull(APP, digest);
    const second = await blobs.pull(OTHER, digest);
    assert.deepEqual([first.outcome, second.outcome], ['miss', 'joined']);
    await assert.rejects(blobs.pull({ ...APP, name: 'owner/denied' }, digest), unknown);
    assert.equal(fake.asked.length, 1);
    for (const { source } of [first, second]) source.close();
    assert.equal(await metadata.findBlob(APP, digest), undefined);
  });
});

describe('the size of a blob', () => {
  test('is known of a linked blob, and else asked for, once for all that ask meanwhile', async t => {
    let asked = 0;
    const statBlob = async () => {
      asked++;
      return SIZE;
    };
    const { blobs, metadata } = await setUp(t, { verbs: { statBlob } });
    const stats = await Promise.all([blobs.stat(APP, digest), blobs.stat(APP, digest)]);
    assert.deepEqual(stats, [
      { sizeBytes: SIZE, outcome: 'miss' },
      { sizeBytes: SIZE, outcome: 'joined' },
    ]);
    assert.equal(asked, 1);
    await metadata.linkBlob([APP], { digest, sizeBytes: SIZE });
    assert.deepEqual(await blobs.stat(APP, digest), { sizeBytes: SIZE, outcome: 'hit' });
    assert.equal(asked, 1);
  });
});

describe('a blob that is damaged on disk', () => {
  const damaged = Buffer.from(BYTES);
  damaged.writeUInt8(damaged.readUInt8(0) ^ 1, 0);

  test('is held back at its end, removed, and fetched again', async t => {
    const { blobs, data, metadata, lines, ...stores } = await setUp(t, { script: [{ bytes: BYTES }] });
    await put(stores, BYTES);
    await metadata.linkBlob([APP], { digest, sizeBytes: SIZE });
    await writeFile(pathOf(data, digest), damaged);
    const { source, outcome } = await blobs.pull(APP, digest);
    assert.equal(outcome, 'hit');
    const read = Buffer.alloc(SIZE);
    let count = 0;
    await assert.rejects(
      async () => {
        while (count < SIZE) count += await source.read(read.subarray(count), count);
      },
      { code: 'UNAVAILABLE', message: /damaged on disk/ },
    );
    assert.ok(count <= SIZE - HOLD_BACK_BYTES);
    source.close();
    assert.match(lines.join('\n'), /ghcr\.io\/owner\/app@sha256:\w+ is damaged on disk; it is removed/);
    const again = await blobs.pull(APP, digest);
    assert.equal(again.outcome, 'miss');
    assert.ok((await bytesFrom(again.source)).equals(BYTES));
  });

  test('lends no byte of its end before the verdict', async t => {
    const { blobs, data, metadata, ...stores } = await setUp(t);
    await put(stores, BYTES);
    await metadata.linkBlob([APP], { digest, sizeBytes: SIZE });
    // The same bytes, of which nothing is known any more.
    await writeFile(pathOf(data, digest), BYTES);
    const { source } = await blobs.pull(APP, digest);
    const early = await source.lend?.(0);
    assert.ok(early?.end === SIZE - HOLD_BACK_BYTES || early?.end === SIZE);
    const late = await source.lend?.(SIZE - 1);
    assert.equal(late?.end, SIZE);
    for (const lent of [early, late]) lent?.release();
    source.close();
  });

  test('and small is never begun, but fetched again', async t => {
    const bytes = Buffer.from('small');
    const small = digestOf(bytes);
    const { blobs, data, metadata, ...stores } = await setUp(t, { script: [{ bytes }] });
    await put(stores, bytes);
    await metadata.linkBlob([APP], { digest: small, sizeBytes: bytes.length });
    await writeFile(pathOf(data, small), 'smell');
    const { source, outcome } = await blobs.pull(APP, small);
    assert.equal(outcome, 'miss');
    assert.equal((await bytesFrom(source)).toString(), 'small');
  });
});

describe('a blob that cannot be stored', () => {
  test('is passed through to each client on its own when there is no room', async t => {
    const { blobs, lines } = await setUp(t, {
      maxSizeBytes: 1000,
      // Each flight asks before it is known that there is no room.
      script: Array(4).fill({ bytes: BYTES }),
    });
    for (let times = 0; times < 2; times++) {
      const { source, outcome } = await blobs.pull(APP, digest);
      assert.equal(outcome, 'bypass');
      assert.ok((await bytesFrom(source)).equals(BYTES));
      await blobs.settled();
    }
    const log = lines.join('\n');
    assert.match(log, /could not be kept: .*is passed through without being kept/s);
    assert.doesNotMatch(log, /could not be fetched/);
  });

  test('since the disk fails midway goes on without the disk, for those that follow', async t => {
    const { ingests, fake, ...pull } = await openPull(t, { script: [{ bytes: BYTES }, { bytes: BYTES }] });
    const failing = {
      ...ingests,
      begin: async (algorithm: 'sha256') => {
        const ingest = await ingests.begin(algorithm);
        let handedIn = 0;
        const writer = ingest.writer.bind(ingest);
        ingest.writer = position => {
          const write = writer(position);
          return chunk => {
            handedIn += chunk.length;
            if (handedIn > 100_000) throw new StorageFailure('the disk is full');
            return write(chunk);
          };
        };
        return ingest;
      },
    } as unknown as typeof ingests;
    const partials = new Partials({ ...pull, ingests: failing, maxSizeBytes: Infinity }, new Map());
    const blobs = new Blobs({ ...pull, ingests, partials });
    const { source, outcome } = await blobs.pull(APP, digest);
    assert.equal(outcome, 'miss');
    assert.ok((await bytesFrom(source)).equals(BYTES));
    assert.deepEqual(fake.asked, [0, 0]);
    await until(() => fake.placesTaken === 0);
  });
});
