import assert from 'node:assert/strict';
import fs from 'node:fs';
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { contentSuite, put, read, write } from '../../../test/contracts/content.ts';
import { bytesOf, randomContent } from '../../../test/support/images.ts';
import { algorithmOf, type Digest, digestOf, hexOf, parseDigest } from '../../oci/digest.ts';
import { StorageFailure } from '../content.ts';
import { LocalContent } from './store.ts';

contentSuite('LocalContent', async t => {
  const root = await folder(t);
  return {
    content: await LocalContent.open(root),
    reopen: () => LocalContent.open(root),
    overwrite: async (digest, bytes) => {
      const path = pathOf(root, digest);
      const before = (await stat(path)).ctimeMs;
      // The clock of files may stand still for some milliseconds.
      do await writeFile(path, bytes);
      while ((await stat(path)).ctimeMs === before);
    },
  };
});

describe('the folder of LocalContent', () => {
  test('is an OCI image layout, whose blobs lie under their digests', async t => {
    const root = await folder(t);
    const content = await LocalContent.open(root);
    const layout = JSON.parse(await readFile(join(root, 'content/oci-layout'), 'utf8'));
    assert.deepEqual(layout, { imageLayoutVersion: '1.0.0' });
    const index = JSON.parse(await readFile(join(root, 'content/index.json'), 'utf8'));
    assert.deepEqual(index, { schemaVersion: 2, manifests: [] });
    for (const algorithm of ['sha256', 'sha512'] as const) {
      const digest = await put(content, Buffer.from('bytes'), algorithm);
      const path = join(root, 'content/blobs', algorithm, digest.slice(algorithm.length + 1));
      assert.equal(await readFile(path, 'utf8'), 'bytes');
    }
  });

  test('keeps an index.json that somebody else has filled', async t => {
    const root = await folder(t);
    await LocalContent.open(root);
    await writeFile(join(root, 'content/index.json'), 'theirs');
    await LocalContent.open(root);
    assert.equal(await readFile(join(root, 'content/index.json'), 'utf8'), 'theirs');
  });

  test('loses what was on its way in and is not to be kept', async t => {
    const root = await folder(t);
    const digest = await put(await LocalContent.open(root), Buffer.from('kept'));
    await writeFile(join(root, 'ingest/123-4'), 'left by a crash');
    await writeFile(join(root, 'ingest/named'), 'to be gone on with');
    await mkdir(join(root, 'ingest/folder'));
    const content = await LocalContent.open(root);
    await content.keepIngests(new Set(['named', 'unknown']));
    assert.deepEqual(await readdir(join(root, 'ingest')), ['named']);
    assert.equal((await read(content, digest)).toString(), 'kept');
  });

  test('has nothing in ingest/ after a commit, an abort and a failed commit', async t => {
    const root = await folder(t);
    const content = await LocalContent.open(root);
    await put(content, Buffer.from('committed'));
    const aborted = await content.ingest('sha256');
    aborted.write(Buffer.alloc(3_000_000));
    await aborted.abort();
    const failing = await content.ingest('sha256');
    const digest = await failing.finish();
    await rm(join(root, 'content/blobs'), { recursive: true });
    await assert.rejects(failing.commit(digest), StorageFailure);
    assert.deepEqual(await readdir(join(root, 'ingest')), []);
  });

  test('has nothing in ingest/ of what had a name, whichever way it ended', async t => {
    const root = await folder(t);
    const content = await LocalContent.open(root);
    const begin = async (name: string) => {
      const ingest = await content.ingest('sha256', name);
      await ingest.write(Buffer.from('the same'));
      await ingest.flush();
      return ingest;
    };
    const names = ['new', 'here already', 'aborted', 'left'];
    const [first, second, third] = [await begin('new'), await begin('here already'), await begin('aborted')];
    await begin('left');
    assert.deepEqual((await readdir(join(root, 'ingest'))).sort(), names.sort());
    assert.equal(await first.commit(await first.finish()), true);
    assert.equal(await second.commit(await second.finish('sha256')), false);
    await third.abort();
    assert.deepEqual(await readdir(join(root, 'ingest')), ['left']);
    const later = await LocalContent.open(root);
    const resumed = (await later.resume('sha256', 'left')) ?? assert.fail();
    assert.equal(await resumed.commit(await resumed.finish()), false);
    assert.deepEqual(await readdir(join(root, 'ingest')), []);
  });

  test('may hold files that are no content: they are not listed', async t => {
    const root = await folder(t);
    const content = await LocalContent.open(root);
    const digest = await put(content, Buffer.from('content'));
    for (const name of ['.DS_Store', hexOf(digest).slice(1), hexOf(digest).toUpperCase()]) {
      await writeFile(join(root, 'content/blobs/sha256', name), 'x');
    }
    const found: Digest[] = [];
    for await (const row of content.list()) found.push(row.digest);
    assert.deepEqual(found, [digest]);
  });
});

describe('a disk that fails', () => {
  test('makes ingest throw StorageFailure when nothing can be created', async t => {
    const root = await folder(t);
    const content = await LocalContent.open(root);
    await rm(join(root, 'ingest'), { recursive: true });
    await assert.rejects(content.ingest('sha256'), StorageFailure);
    await assert.rejects(content.check(), { code: 'ENOENT' });
  });

  test('makes commit throw StorageFailure when the content cannot be moved to its place, and leaves readers alone', async t => {
    const root = await folder(t);
    const content = await LocalContent.open(root);
    const bytes = bytesOf(randomContent(100_000));
    const ingest = await content.ingest('sha256');
    await write(ingest, bytes);
    const digest = await ingest.finish();
    const reader = ingest.reader();
    await rm(join(root, 'content/blobs/sha256'), { recursive: true });
    await assert.rejects(ingest.commit(digest), StorageFailure);
    const into = Buffer.alloc(bytes.length);
    assert.equal(await reader.read(into, 0), bytes.length);
    assert.deepEqual(into, bytes);
    reader.close();
    assert.equal(await content.open(digest), undefined);
  });

  test('does not keep others from committing the same content', async t => {
    const root = await folder(t);
    const content = await LocalContent.open(root);
    const bytes = Buffer.from('the same');
    const digest = digestOf(bytes);
    const ingests = await Promise.all(['lost', 'kept', 'late'].map(name => content.ingest('sha256', name)));
    for (const ingest of ingests) await write(ingest, bytes);
    for (const ingest of ingests) await ingest.finish();
    await rm(join(root, 'ingest/lost'));
    const outcomes = await Promise.allSettled(ingests.map(ingest => ingest.commit(digest)));
    const [lost, kept, late] = outcomes.map(outcome =>
      outcome.status === 'fulfilled' ? outcome.value : outcome.reason,
    );
    assert.ok(lost instanceof StorageFailure);
    assert.deepEqual([kept, late], [true, false]);
    assert.deepEqual(await read(content, digest), bytes);
    assert.deepEqual(await readdir(join(root, 'ingest')), []);
  });

  test('makes flush, and finish of either algorithm, throw StorageFailure', async t => {
    const content = await LocalContent.open(await folder(t));
    const ingest = await content.ingest('sha256', 'upload');
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
      const root = await folder(t);
      const content = await LocalContent.open(root);
      const isExpected = (error: unknown) => {
        assert.ok(error instanceof StorageFailure);
        assert.match(error.message, said);
        assert.equal((error.cause as NodeJS.ErrnoException).code, code);
        return true;
      };
      const first = await content.ingest('sha256');
      const second = await content.ingest('sha256');
      await second.write(Buffer.from('stored'));
      const reader = second.reader();
      while (second.writtenBytes === 0) await new Promise(resolve => setImmediate(resolve));
      replaceFs(t, 'writev', (_fd, _chunks, _position, done) =>
        process.nextTick(done, Object.assign(new Error(code), { code })),
      );
      first.write(Buffer.alloc(10));
      await assert.rejects(first.finish(), isExpected);
      await first.abort();

      // A writer that is told to wait is let go, and learns the reason once it is known.
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
    const root = await folder(t);
    const content = await LocalContent.open(root);
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
    const ingest = await content.ingest('sha256');
    for (let at = 0; at < bytes.length; at += 100) ingest.write(bytes.subarray(at, at + 100));
    const digest = await ingest.finish();
    await ingest.commit(digest);
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
      const content = await LocalContent.open(await folder(t));
      let syncs = 0;
      let endSync = () => {};
      replaceFs(t, 'fdatasync', (_fd, done) => {
        syncs++;
        endSync = () => done(null);
      });
      const ingest = await content.ingest('sha256', name);
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

  test('suffers nothing from a step that fails: its commit is what counts', async t => {
    const content = await LocalContent.open(await folder(t));
    let failures = 0;
    replaceFs(t, 'fdatasync', (_fd, done) => {
      failures++;
      process.nextTick(done, Object.assign(new Error('EIO'), { code: 'EIO' }));
    });
    const ingest = await content.ingest('sha256', 'upload');
    for (let i = 0; i < 34; i++) await (ingest.write(Buffer.alloc(MIB)) ?? ingest.flush());
    await ingest.flush();
    assert.ok(failures > 0);
    assert.equal(await ingest.commit(await ingest.finish()), true);
  });
});

test('the memory of what was handed in is given back once it is written, unless somebody may use it', async t => {
  const content = await LocalContent.open(await folder(t));
  const ingest = await content.ingest('sha256');
  const [own, shared] = [Buffer.alloc(100_000, 'o'), Buffer.alloc(100_000, 's')];
  ingest.write(own);
  ingest.write(shared.subarray(1));
  assert.equal(own.length, 100_000);
  await ingest.flush();
  assert.equal(own.length, 0);
  assert.deepEqual(shared, Buffer.alloc(100_000, 's'));
  const digest = await ingest.finish();
  assert.equal(digest, digestOf(Buffer.concat([Buffer.alloc(100_000, 'o'), shared.subarray(1)])));
  await ingest.commit(digest);
});

test('whoever hands in the first bytes waits until they can be read, since somebody waits for them', async t => {
  const content = await LocalContent.open(await folder(t));
  const ingest = await content.ingest('sha256');
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
  const root = await folder(t);
  const content = await LocalContent.open(root);
  const bytes = bytesOf(randomContent(700_000, 'descriptors'));
  const missing = parseDigest(`sha256:${'0'.repeat(64)}`) ?? assert.fail();
  for (let times = 0; times < 20; times++) {
    const aborted = await content.ingest('sha256');
    const reader = aborted.reader();
    write(aborted, bytes);
    // A reading that is under way when its reader is closed and the ingest aborted.
    const reading = reader.read(Buffer.alloc(10), 0);
    reader.close();
    await aborted.abort();
    await reading;

    const named = await content.ingest('sha256', 'upload');
    write(named, bytes);
    await named.flush();
    const resumed = (await content.resume('sha256', 'upload')) ?? assert.fail();
    await named.abort();
    await resumed.finish('sha512');
    await resumed.abort();

    const digest = await put(content, bytes);
    await put(content, bytes);
    const fresh = await LocalContent.open(root);
    const source = (await fresh.open(digest)) ?? assert.fail();
    source.close();
    await source.verified;
    assert.equal(await fresh.open(missing), undefined);
    await fresh.remove(digest);
  }
  const failing = await content.ingest('sha256');
  const digest = await failing.finish();
  await rm(join(root, 'content/blobs'), { recursive: true });
  await assert.rejects(failing.commit(digest), StorageFailure);
  await assertNothingOpen(root);
});

describe('content that was opened', () => {
  const LARGE = bytesOf(randomContent(400_000, 'large'));
  const OTHER = bytesOf(randomContent(400_000, 'other'));

  test('stays open, however often it is pulled', { skip: !fs.existsSync('/proc/self/fd') }, async t => {
    const root = await folder(t);
    const content = await LocalContent.open(root);
    const digest = await put(content, LARGE);
    for (let times = 0; times < 3; times++) assert.deepEqual(await read(content, digest), LARGE);
    assert.deepEqual(await openUnder(root), [pathOf(root, digest)]);
    await content.remove(digest);
    await assertNothingOpen(root);
  });

  test('is gone when its file is removed past us, and comes back with it', async t => {
    const root = await folder(t);
    const content = await LocalContent.open(root);
    const digest = await put(content, LARGE);
    await read(content, digest);
    await rm(pathOf(root, digest));
    assert.equal(await content.open(digest), undefined);
    await put(content, LARGE);
    assert.deepEqual(await read(content, digest), LARGE);
  });

  test('is looked at again when another file takes its place', async t => {
    const root = await folder(t);
    const content = await LocalContent.open(root);
    const digest = await put(content, LARGE);
    await read(content, digest);
    await writeFile(join(root, 'other'), OTHER);
    await rename(join(root, 'other'), pathOf(root, digest));
    const source = (await content.open(digest)) ?? assert.fail();
    assert.equal(await source.verified, false);
    source.close();
  });

  test('stays open up to a limit, the latest of it', { skip: !fs.existsSync('/proc/self/fd') }, async t => {
    const root = await folder(t);
    const content = await LocalContent.open(root);
    const digests = Array.from({ length: 300 }, (_, i) => digestOf(Buffer.from([i >> 8, i])));
    for (const digest of digests) {
      await writeFile(pathOf(root, digest), '');
      await truncate(pathOf(root, digest), 300_000);
      const source = (await content.open(digest)) ?? assert.fail();
      await source.verified;
      source.close();
    }
    const wanted = digests.slice(-256).map(digest => pathOf(root, digest));
    assert.deepEqual((await openAtLast(root, wanted.length)).sort(), wanted.sort());
  });
});

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'ghcr-cache-content-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

function pathOf(root: string, digest: Digest): string {
  return join(root, 'content/blobs', algorithmOf(digest), hexOf(digest));
}

interface Replaced {
  writev(
    fd: number,
    chunks: Uint8Array[],
    position: number,
    done: (error: Error | null, count: number) => void,
  ): void;
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

async function assertNothingOpen(root: string): Promise<void> {
  if (fs.existsSync('/proc/self/fd')) assert.deepEqual(await openAtLast(root, 0), []);
}

/** Descriptors are given back in the background: waits until no more than so many are of files under `root`. */
async function openAtLast(root: string, count: number): Promise<string[]> {
  let open = await openUnder(root);
  for (let tries = 0; tries < 1000 && open.length > count; tries++) open = await openUnder(root);
  return open;
}

/** The files under `root` that this process has open. */
async function openUnder(root: string): Promise<string[]> {
  const targets = await Promise.all(
    (await readdir('/proc/self/fd')).map(fd => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  );
  return targets.filter(target => target.startsWith(root));
}
