import assert from 'node:assert/strict';
import fs from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { ingestsSuite } from '../../../test/contracts/ingests.ts';
import { bytesOf, randomContent } from '../../../test/support/images.ts';
import {
  assertNothingOpen,
  inTheWay,
  openAtLast,
  openLocal,
  openStores,
  openUnder,
  temporaryDirectory,
} from '../../../test/support/local-stores.ts';
import { put, read, write } from '../../../test/support/stores.ts';
import { digestOf, parseDigest } from '../../oci/digest.ts';
import { StorageFailure } from '../content.ts';

ingestsSuite('LocalIngests', openLocal);

describe('a disk that fails', () => {
  test('makes begin throw StorageFailure when nothing can be created', async t => {
    const root = await temporaryDirectory(t);
    const { content, ingests } = await openStores(root);
    await inTheWay(join(root, 'ingest'));
    await assert.rejects(ingests.begin('sha256'), StorageFailure);
    await assert.rejects(content.check(), StorageFailure);
  });

  test('makes publish throw StorageFailure when the content cannot be moved to its place, and leaves readers alone', async t => {
    const root = await temporaryDirectory(t);
    const { content, ingests } = await openStores(root);
    const bytes = bytesOf(randomContent(100_000));
    const ingest = await ingests.begin('sha256');
    await write(ingest, bytes);
    const digest = await ingest.finish();
    const reader = ingest.reader();
    await inTheWay(join(root, 'content/blobs/sha256'));
    await assert.rejects(content.publish(ingest, digest), StorageFailure);
    const into = Buffer.alloc(bytes.length);
    assert.equal(await reader.read(into, 0), bytes.length);
    assert.deepEqual(into, bytes);
    reader.close();
    assert.equal(await content.open(digest), undefined);
  });

  test('does not keep others from publishing the same content', async t => {
    const root = await temporaryDirectory(t);
    const { content, ingests } = await openStores(root);
    const bytes = Buffer.from('the same');
    const digest = digestOf(bytes);
    const all = await Promise.all(['lost', 'kept', 'late'].map(name => ingests.begin('sha256', name)));
    for (const ingest of all) await write(ingest, bytes);
    for (const ingest of all) await ingest.finish();
    await rm(join(root, 'ingest/lost'));
    const outcomes = await Promise.allSettled(all.map(ingest => content.publish(ingest, digest)));
    const [lost, kept, late] = outcomes.map(outcome =>
      outcome.status === 'fulfilled' ? outcome.value : outcome.reason,
    );
    assert.ok(lost instanceof StorageFailure);
    assert.deepEqual([kept, late], [true, false]);
    assert.deepEqual(await read(content, digest), bytes);
    assert.deepEqual(await readdir(join(root, 'ingest')), []);
  });

  test('makes flush, and finish of either algorithm, throw StorageFailure', async t => {
    const { ingests } = await openStores(await temporaryDirectory(t));
    const ingest = await ingests.begin('sha256', 'upload');
    await ingest.write(Buffer.from('stored'));
    await ingest.flush();
    replaceFs(t, 'writev', (_fd, _chunks, _position, done) =>
      process.nextTick(done, Object.assign(new Error('EIO'), { code: 'EIO' })),
    );
    ingest.write(Buffer.from('lost'));
    await assert.rejects(ingest.flush(), StorageFailure);
    await assert.rejects(ingest.finish(), StorageFailure);
    await assert.rejects(ingest.finish('sha512'), StorageFailure);
    assert.equal(ingest.writtenBytes, 6);
    await ingest.abort();
  });

  for (const [code, said] of [
    ['ENOSPC', /^the disk is full/],
    ['EDQUOT', /^the disk is full/],
    ['EIO', /^the disk cannot be written/],
  ] as const) {
    test(`makes an ingest throw StorageFailure on ${code}, at the next write or at finish`, async t => {
      const root = await temporaryDirectory(t);
      const { ingests } = await openStores(root);
      const isExpected = (error: unknown) => {
        assert.ok(error instanceof StorageFailure);
        assert.match(error.message, said);
        assert.equal((error.cause as NodeJS.ErrnoException).code, code);
        return true;
      };
      const first = await ingests.begin('sha256');
      const second = await ingests.begin('sha256');
      await second.write(Buffer.from('stored'));
      const reader = second.reader();
      while (second.writtenBytes === 0) await new Promise(resolve => setImmediate(resolve));
      replaceFs(t, 'writev', (_fd, _chunks, _position, done) =>
        process.nextTick(done, Object.assign(new Error(code), { code })),
      );
      first.write(Buffer.alloc(10));
      await assert.rejects(first.finish(), isExpected);
      await first.abort();

      // A writer that is told to wait is woken, and told the reason once it is known.
      const wait = second.write(Buffer.alloc(2_000_000)) ?? second.write(Buffer.alloc(2_000_000));
      await assert.doesNotReject(async () => wait);
      await assert.rejects(second.flush(), isExpected);
      assert.throws(() => second.write(Buffer.alloc(1)), isExpected);
      const into = Buffer.alloc(6);
      assert.equal(await reader.read(into, 0), 6);
      reader.close();
      await second.abort();
      assert.deepEqual(await readdir(join(root, 'ingest')), []);
      await assertNothingOpen(root);
    });
  }

  test('may take less than it is given at a time, and all comes to be written', async t => {
    const root = await temporaryDirectory(t);
    const { content, ingests } = await openStores(root);
    const real = fs.writev;
    let turn = 0;
    replaceFs(t, 'writev', (fd, chunks, position, done) => {
      // Cuts fall inside chunks, between them, and at nothing at all.
      let limit = [1, 0, 7, 100, 12_345][turn++ % 5] ?? 0;
      const part: Uint8Array[] = [];
      for (const chunk of chunks) {
        part.push(chunk.subarray(0, limit));
        limit -= Math.min(limit, chunk.length);
      }
      real(fd, part, position, done);
    });
    const bytes = bytesOf(randomContent(500_000, 'pieces'));
    const ingest = await ingests.begin('sha256');
    for (let at = 0; at < bytes.length; at += 100) ingest.write(bytes.subarray(at, at + 100));
    const digest = await ingest.finish();
    await content.publish(ingest, digest);
    assert.deepEqual(await read(content, digest), bytes);
  });
});

describe('an ingest that outlives the process', () => {
  const MIB = 1024 * 1024;
  for (const [name, what, expected] of [
    ['upload', 'is made durable while it grows, one step at a time', [1, 1, 2]],
    [undefined, 'is not when it has no name', [0, 0, 0]],
  ] as const) {
    test(what, async t => {
      const { ingests } = await openStores(await temporaryDirectory(t));
      let syncs = 0;
      let endSync = () => {};
      replaceFs(t, 'fdatasync', (_fd, done) => {
        syncs++;
        endSync = () => done(null);
      });
      const ingest = await ingests.begin('sha256', name);
      const counted: number[] = [];
      for (const count of [40, 20, 20]) {
        for (let i = 0; i < count; i++) await (ingest.write(Buffer.alloc(MIB)) ?? ingest.flush());
        await ingest.flush();
        counted.push(syncs);
        endSync();
        endSync = () => {};
        await new Promise(resolve => setImmediate(resolve));
      }
      assert.deepEqual(counted, expected);
      await ingest.abort();
    });
  }

  test('suffers nothing from a step that fails: what counts is that it is published', async t => {
    const { content, ingests } = await openStores(await temporaryDirectory(t));
    let failures = 0;
    replaceFs(t, 'fdatasync', (_fd, done) => {
      failures++;
      process.nextTick(done, Object.assign(new Error('EIO'), { code: 'EIO' }));
    });
    const ingest = await ingests.begin('sha256', 'upload');
    for (let i = 0; i < 34; i++) await (ingest.write(Buffer.alloc(MIB)) ?? ingest.flush());
    await ingest.flush();
    assert.ok(failures > 0);
    assert.equal(await content.publish(ingest, await ingest.finish()), true);
  });
});

test('the memory of what was handed in is released once it is written, unless it may be in use', async t => {
  const { content, ingests } = await openStores(await temporaryDirectory(t));
  const ingest = await ingests.begin('sha256');
  const [own, shared] = [Buffer.alloc(100_000, 'o'), Buffer.alloc(100_000, 's')];
  ingest.write(own);
  ingest.write(shared.subarray(1));
  assert.equal(own.length, 100_000);
  await ingest.flush();
  assert.equal(own.length, 0);
  assert.deepEqual(shared, Buffer.alloc(100_000, 's'));
  const digest = await ingest.finish();
  assert.equal(digest, digestOf(Buffer.concat([Buffer.alloc(100_000, 'o'), shared.subarray(1)])));
  await content.publish(ingest, digest);
});

test('a writer of the first bytes waits until they can be read, since a reader waits for them', async t => {
  const { ingests } = await openStores(await temporaryDirectory(t));
  const ingest = await ingests.begin('sha256');
  const reader = ingest.reader();
  await (ingest.write(Buffer.from('first')) ?? assert.fail('it is not waited for'));
  assert.equal(await reader.read(Buffer.alloc(10), 0), 5);
  assert.equal(ingest.write(Buffer.from('second')), undefined);
  reader.close();
  await ingest.abort();
});

test('no descriptor stays open, whatever way an ingest or a reading ends', {
  skip: !fs.existsSync('/proc/self/fd'),
}, async t => {
  const root = await temporaryDirectory(t);
  const stores = await openStores(root);
  const { content, ingests } = stores;
  const bytes = bytesOf(randomContent(700_000, 'descriptors'));
  const missing = parseDigest(`sha256:${'0'.repeat(64)}`) ?? assert.fail();
  for (let times = 0; times < 20; times++) {
    const aborted = await ingests.begin('sha256');
    const reader = aborted.reader();
    write(aborted, bytes);
    // A reading that is under way when its reader is closed and the ingest aborted.
    const reading = reader.read(Buffer.alloc(10), 0);
    reader.close();
    await aborted.abort();
    await reading;

    const named = await ingests.begin('sha256', 'upload');
    write(named, bytes);
    await named.flush();
    const resumed = (await ingests.resume('sha256', 'upload')) ?? assert.fail();
    await named.abort();
    await resumed.finish('sha512');
    await resumed.abort();

    const digest = await put(stores, bytes);
    await put(stores, bytes);
    const { content: fresh } = await openStores(root);
    const source = (await fresh.open(digest)) ?? assert.fail();
    const verdict = source.verify();
    source.close();
    assert.equal(await verdict, true);
    assert.equal(await fresh.open(missing), undefined);
    await fresh.remove(digest);
  }
  const failing = await ingests.begin('sha256');
  const digest = await failing.finish();
  await inTheWay(join(root, 'content/blobs'));
  await assert.rejects(content.publish(failing, digest), StorageFailure);
  await assertNothingOpen(root);
});

test('an ingest that rests has no descriptor, but for its readers', {
  skip: !fs.existsSync('/proc/self/fd'),
}, async t => {
  const root = await temporaryDirectory(t);
  const { ingests } = await openStores(root);
  const ingest = await ingests.begin('sha256', 'upload');
  await ingest.write(Buffer.from('some'));
  await ingest.flush();
  const reader = ingest.reader();
  ingest.rest();
  assert.equal((await openAtLast(root, 1)).length, 1);
  reader.close();
  ingest.rest();
  await assertNothingOpen(root);
  await ingest.write(Buffer.from(' more'));
  assert.equal((await openUnder(root)).length, 1);
  ingest.rest();
  await rm(join(root, 'ingest/upload'));
  await ingest.flush();
  ingest.rest();
  ingest.write(Buffer.from('lost'));
  await assert.rejects(ingest.flush(), StorageFailure);
  await ingest.abort();
  await assertNothingOpen(root);
});

interface Replaced {
  writev(fd: number, chunks: Uint8Array[], position: number, done: (error: Error | null, count: number) => void): void;
  fdatasync(fd: number, done: (error: Error | null) => void): void;
}

/** Puts another function in the place of one of node:fs until the test is over. */
function replaceFs<K extends keyof Replaced>(t: TestContext, name: K, replacement: Replaced[K]): void {
  const functions = fs as unknown as Replaced;
  const real = functions[name];
  t.after(() => {
    functions[name] = real;
    syncBuiltinESMExports();
  });
  functions[name] = replacement;
  syncBuiltinESMExports();
}
