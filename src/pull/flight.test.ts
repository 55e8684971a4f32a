// One flight at a time, over a scripted upstream; which flight a client is given is in blobs.test.ts.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import type { FakeAnswer } from '../../test/support/fake-upstream.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { openPull, type PullOptions } from '../../test/support/pull.ts';
import { drain, put, read } from '../../test/support/stores.ts';
import { type Source, StorageFailure } from '../content/content.ts';
import type { Ingests } from '../content/ingest.ts';
import { RegistryError } from '../oci/errors.ts';
import { Flight } from './flight.ts';
import { Partials } from './partials.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };
const OTHER = { upstream: 'ghcr.io', name: 'owner/other' };
const SIZE = 200_000;
const blob = randomContent(SIZE, 'flight');
const BYTES = bytesOf(blob);
const { digest } = blob;
const FOR = { client: 'client', inAnyOrder: true };
const WRONG: FakeAnswer = { bytes: Buffer.alloc(10), contentType: 'text/html' };

async function setUp(t: TestContext, options: PullOptions = {}) {
  const pull = await openPull(t, options);
  return { ...pull, start: () => new Flight(pull, APP, digest, FOR) };
}

const sourceOf = async (flight: Flight): Promise<Source> => (await flight.follow()) ?? assert.fail();

describe('a flight', () => {
  test('gives its bytes to all that follow, and ends with content that is linked and within the budget', async t => {
    const { start, content, metadata, budget, fake } = await setUp(t, {
      script: [{ bytes: BYTES }],
      maxSizeBytes: SIZE,
    });
    const flight = start();
    const sources = await Promise.all([sourceOf(flight), sourceOf(flight)]);
    for (const source of sources) assert.ok((await drain(source, SIZE)).equals(BYTES));
    await flight.over;
    assert.equal(flight.isComplete, true);
    assert.ok((await read(content, digest)).equals(BYTES));
    assert.equal((await metadata.findBlob(APP, digest))?.sizeBytes, SIZE);
    assert.equal(await metadata.totalBytes(), SIZE);
    assert.deepEqual([fake.openBodies, fake.placesTaken], [0, 0]);
    // All of it is used, and what was reserved is settled.
    await assert.doesNotReject(budget.reserve(SIZE));
  });

  test('takes every byte of a body that comes in one piece, and of one whose size is not told', async t => {
    for (const answer of [{ chunkBytes: SIZE }, { sizeBytes: null }]) {
      const { start, content } = await setUp(t, { script: [{ bytes: BYTES, ...answer }] });
      const flight = start();
      assert.ok((await drain(await sourceOf(flight), SIZE)).equals(BYTES));
      await flight.over;
      assert.ok((await read(content, digest)).equals(BYTES));
    }
  });

  test('links the repositories that are attached before it is linked, and no others', async t => {
    const { start, metadata } = await setUp(t, { script: [{ bytes: BYTES }] });
    const flight = start();
    assert.deepEqual([flight.links(APP), flight.links(OTHER)], [true, false]);
    assert.equal(flight.attach(OTHER), true);
    assert.equal(flight.attach(OTHER), true);
    assert.equal(flight.links(OTHER), true);
    await flight.over;
    const late = { ...APP, name: 'owner/late' };
    assert.equal(flight.attach(late), false);
    for (const repository of [APP, OTHER]) {
      assert.equal((await metadata.findBlob(repository, digest))?.sizeBytes, SIZE);
    }
    assert.equal(await metadata.findBlob(late, digest), undefined);
  });

  test('fetches nothing when the content is here and the upstream confirms it', async t => {
    const { start, metadata, fake, ...stores } = await setUp(t, { verbs: { confirmBlob: async () => {} } });
    await put(stores, BYTES);
    await metadata.linkBlob([OTHER], { digest, sizeBytes: SIZE });
    const flight = start();
    assert.equal(await flight.follow(), undefined);
    await flight.over;
    assert.equal((await metadata.findBlob(APP, digest))?.sizeBytes, SIZE);
    assert.deepEqual(fake.asked, []);
  });

  test('fetches what is here when the upstream cannot be asked to confirm it', async t => {
    const confirmBlob = () => Promise.reject(new RegistryError('UPSTREAM_INVALID', 'no HEAD'));
    const { start, metadata, ...stores } = await setUp(t, {
      script: [{ bytes: BYTES }],
      verbs: { confirmBlob },
    });
    await put(stores, BYTES);
    await metadata.linkBlob([OTHER], { digest, sizeBytes: SIZE });
    const flight = start();
    assert.ok((await drain(await sourceOf(flight), SIZE)).equals(BYTES));
    await flight.over;
    assert.equal((await metadata.findBlob(APP, digest))?.sizeBytes, SIZE);
    assert.equal(await metadata.totalBytes(), SIZE);
  });
});

describe('a client that joins a flight in its last moments', () => {
  test('while what came is being discarded is told why it failed', async t => {
    const pull = await openPull(t, { script: [{ bytes: BYTES, sizeBytes: SIZE - 1 }] });
    let joining: Promise<unknown> | undefined;
    const slow: Pick<Ingests, 'begin'> = {
      begin: async algorithm => {
        const ingest = await pull.ingests.begin(algorithm);
        const abort = ingest.abort.bind(ingest);
        ingest.abort = async () => {
          await abort();
          joining = assert.rejects(flight.follow(), { code: 'UPSTREAM_INVALID' });
          await turns();
        };
        return ingest;
      },
    };
    const partials = new Partials({ ...pull, ingests: slow as Ingests, maxSizeBytes: Infinity }, new Map());
    const flight = new Flight({ ...pull, partials }, APP, digest, FOR);
    // It has seen a byte, so there is no second attempt.
    (await sourceOf(flight)).close();
    await flight.over;
    assert.notEqual(joining, undefined);
    await joining;
  });

  test('while it is being linked, and right after, gets the bytes or is sent to the content', async t => {
    for (let later = 0; later < 12; later++) {
      const pull = await openPull(t, { script: [{ bytes: BYTES }] });
      let joining: Promise<Source | undefined> | undefined;
      const linkBlob: typeof pull.metadata.linkBlob = async (...link) => {
        await pull.metadata.linkBlob(...link);
        joining = (async () => {
          for (let n = 0; n < later; n++) await undefined;
          return flight.follow();
        })();
      };
      const metadata = new Proxy(pull.metadata, {
        get: (target, verb) => (verb === 'linkBlob' ? linkBlob : Reflect.get(target, verb)?.bind?.(target)),
      });
      const flight: Flight = new Flight({ ...pull, metadata }, APP, digest, FOR);
      await flight.over;
      const source = await joining;
      if (source === undefined) assert.ok((await read(pull.content, digest)).equals(BYTES));
      else assert.ok((await drain(source, SIZE)).equals(BYTES));
    }
  });
});

describe('a flight that fails', () => {
  test('tries once more when the bytes were wrong and no client has seen any', async t => {
    const { start, lines, fake } = await setUp(t, { script: [WRONG, { bytes: BYTES }] });
    const flight = start();
    assert.ok((await drain(await sourceOf(flight), SIZE)).equals(BYTES));
    await flight.over;
    assert.match(lines.join('\n'), /sent wrong content for .*: 10 bytes of text\/html.*; trying once more/);
    assert.deepEqual(fake.asked, [0, 0]);
  });

  test('tells its followers why, releases everything, and keeps nothing', async t => {
    const { start, budget, content, metadata, fake } = await setUp(t, {
      script: [WRONG, WRONG],
      maxSizeBytes: 100,
    });
    const flight = start();
    await assert.rejects(flight.follow(), { code: 'UPSTREAM_INVALID' });
    await flight.over;
    assert.equal(flight.isComplete, false);
    assert.equal(await content.open(digest), undefined);
    assert.equal(await metadata.isRecorded(digest), false);
    await assert.doesNotReject(budget.reserve(100));
    assert.deepEqual([fake.openBodies, fake.placesTaken], [0, 0]);
  });

  test('to open an ingest for its second attempt is over, without a follower too', async t => {
    let ingests = 0;
    const { start, fake, lines } = await (async () => {
      // The upstream takes its time, in which the failure is not awaited yet.
      const pull = await openPull(t, { script: [WRONG, { ...WRONG, gate: () => turns(10) }] });
      const failing: Pick<Ingests, 'begin'> = {
        begin: async algorithm => {
          if (++ingests > 1) throw new StorageFailure('the disk is full');
          return pull.ingests.begin(algorithm);
        },
      };
      const partials = new Partials({ ...pull, ingests: failing as Ingests, maxSizeBytes: Infinity }, new Map());
      return { ...pull, start: () => new Flight({ ...pull, partials }, APP, digest, FOR) };
    })();
    const flight = start();
    await flight.over;
    assert.deepEqual([ingests, fake.asked.length], [2, 2]);
    assert.match(lines.join('\n'), /trying once more\n.*the disk is full/s);
    await assert.rejects(flight.follow(), StorageFailure);
  });

  test('is not resumed, nor logged, when the server shuts down', async t => {
    const stopping = new AbortController();
    const pull = await openPull(t, { script: [{ bytes: BYTES, after: 'stall', sizeBytes: SIZE + 1 }] });
    const flight = new Flight({ ...pull, signal: stopping.signal }, APP, digest, FOR);
    const source = await sourceOf(flight);
    await turns(3);
    const reason = new Error('the server is shutting down');
    stopping.abort(reason);
    await flight.over;
    await assert.rejects(source.read(Buffer.alloc(1), SIZE - 1), reason);
    source.close();
    assert.deepEqual(pull.lines, []);
    assert.equal(pull.fake.placesTaken, 0);
  });
});
