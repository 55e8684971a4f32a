// From a file of schema 2, which knows no parts, to the newest one.
import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import { describe, type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { APP, OTHER, row } from '../../../test/contracts/metadata/suite.ts';
import { turns, until } from '../../../test/support/async.ts';
import { makeImage, makeIndex } from '../../../test/support/images.ts';
import { databasePath, openDatabase } from '../../../test/support/metadata.ts';
import type { Digest } from '../../oci/digest.ts';
import type { MetadataStore } from '../metadata.ts';
import { migrations } from './migrations.ts';

const images = ['one', 'two', 'three'].map(seed => makeImage({ layers: [1, 2], seed }));
const [one = assert.fail(), two = assert.fail(), three = assert.fail()] = images;
const index = makeIndex([one, two]);
const manifests = [index.manifest, ...images.map(({ manifest }) => manifest)];
const bytes = new Map<Digest, Buffer>(manifests.map(manifest => [manifest.digest, manifest.bytes]));
const digestsOf = ({ manifest, config, layers }: (typeof images)[number]) => [
  manifest.digest,
  config.digest,
  ...layers.map(({ digest }) => digest),
];

/** As the second version left it: an index under a tag, an image of it, and one that is none of it, with an upload. */
async function schema2(t: TestContext): Promise<string> {
  const path = await databasePath(t);
  const database = new Database(path);
  for (const step of migrations.slice(0, 2)) database.exec(step);
  database.pragma('user_version = 2');
  database.pragma(`application_id = ${0x67686372}`);
  database.exec(`INSERT INTO repositories VALUES (1, '${APP.upstream}', '${APP.name}');
    INSERT INTO uploads VALUES ('upload', 1, 'sha256', 1000);`);
  const put = (digest: Digest, kind: 'blob' | 'manifest') => {
    database.prepare('INSERT INTO content VALUES (?, 1, 1000)').run(digest);
    database.prepare('INSERT INTO links VALUES (1, ?, ?, ?)').run(digest, kind, kind === 'blob' ? '' : 'x');
  };
  for (const { digest } of manifests) put(digest, 'manifest');
  for (const { config, layers } of images) for (const { digest } of [config, ...layers]) put(digest, 'blob');
  database.prepare("INSERT INTO tags VALUES (1, 'multi', ?, 1000)").run(index.manifest.digest);
  database.close();
  return path;
}

/** Links so many manifests more. */
function addManifests(path: string, count: number): void {
  const database = new Database(path);
  const content = database.prepare('INSERT INTO content VALUES (?, 1, 1000)');
  const link = database.prepare("INSERT INTO links VALUES (1, ?, 'manifest', 'x')");
  database.transaction(() => {
    for (let i = 0; i < count; i++) {
      const { digest } = row(`manifest ${i}`);
      content.run(digest);
      link.run(digest);
    }
  })();
  database.close();
}

/** How many manifests are still to be read. */
function unreadIn(t: TestContext, path: string): () => number {
  const database = new Database(path, { readonly: true });
  t.after(() => database.close());
  const count = database.prepare('SELECT count(*) FROM unread_manifests').pluck();
  return () => count.get() as number;
}

/** Resolves when so many manifests are left to be read. */
async function allRead(t: TestContext, path: string, left = 0): Promise<void> {
  const unread = unreadIn(t, path);
  await until(() => unread() === left);
}

async function evictable(store: MetadataStore): Promise<Digest[]> {
  const pinned = await store.pinned([{ repository: APP, reference: { tag: 'multi' } }]);
  const rows = await store.leastRecentlyUsed(1_000);
  return rows
    .map(({ digest }) => digest)
    .filter(digest => !pinned.some(row => row.digest === digest))
    .sort();
}

/** Is asked, and answers never. */
const never = () => new Promise<undefined>(() => {});

describe('the parts of manifests that an earlier version linked', () => {
  test('are read from their bytes, each manifest once, and the rest of the file is kept', async t => {
    const path = await schema2(t);
    const read: Digest[] = [];
    const readManifest = async (digest: Digest) => {
      read.push(digest);
      return bytes.get(digest);
    };
    const store = await openDatabase(t, path, { readManifest });
    await allRead(t, path);
    assert.deepEqual(await evictable(store), digestsOf(three).sort());
    assert.deepEqual(read, manifests.map(({ digest }) => digest).sort());
    assert.deepEqual(await store.uploads(), [
      { id: 'upload', repository: APP, algorithm: 'sha256', startedAtMs: 1000 },
    ]);
    assert.equal(await store.totalBytes(), 13);
    await store.close();

    const later = await openDatabase(t, path, { readManifest });
    await turns(5);
    assert.equal(read.length, 4);
    assert.deepEqual(await evictable(later), digestsOf(three).sort());
  });

  test('are waited for by no one: until all are read, a pin protects all that its repository links', async t => {
    const path = await schema2(t);
    const store = await openDatabase(t, path, { readManifest: never });
    await store.linkBlob([OTHER], row('elsewhere'));
    assert.deepEqual(await evictable(store), [row('elsewhere').digest]);
    assert.equal((await store.leastRecentlyUsed(100)).length, 14);
  });

  test('are skipped where the bytes are gone, or are no manifest', async t => {
    const path = await schema2(t);
    const store = await openDatabase(t, path, {
      readManifest: async digest => {
        if (digest === one.manifest.digest) return undefined;
        return digest === three.manifest.digest ? Buffer.from('[null]') : bytes.get(digest);
      },
    });
    await allRead(t, path);
    assert.deepEqual(await evictable(store), [...digestsOf(three), ...digestsOf(one).slice(1)].sort());
  });

  test('are read at the next start where they cannot be read now', async t => {
    const path = await schema2(t);
    const failing = await openDatabase(t, path, {
      readManifest: async digest => {
        if (digest === two.manifest.digest) throw new Error('EIO');
        return bytes.get(digest);
      },
    });
    const unread = unreadIn(t, path);
    await until(() => unread() === 1);
    await turns(5);
    assert.equal(unread(), 1);
    assert.deepEqual(await evictable(failing), []);
    await failing.close();
    const store = await openDatabase(t, path, { readManifest: async digest => bytes.get(digest) });
    await until(() => unread() === 0);
    assert.deepEqual(await evictable(store), digestsOf(three).sort());
  });

  test('are gone on with after a crash in the middle', async t => {
    const path = await schema2(t);
    addManifests(path, 500);
    let count = 0;
    await openDatabase(t, path, {
      readManifest: async digest => (++count > 250 ? never() : (bytes.get(digest) ?? three.manifest.bytes)),
    });
    await allRead(t, path, 304);
    for (const suffix of ['', '-wal']) copyFileSync(path + suffix, `${path}.crashed${suffix}`);
    const read: Digest[] = [];
    const store = await openDatabase(t, `${path}.crashed`, {
      readManifest: async digest => {
        read.push(digest);
        return bytes.get(digest) ?? three.manifest.bytes;
      },
    });
    await allRead(t, `${path}.crashed`);
    assert.equal(read.length, 304);
    const gone = await evictable(store);
    for (const digest of digestsOf(one)) assert.ok(!gone.includes(digest));
    for (const digest of digestsOf(three)) assert.ok(gone.includes(digest));
    assert.equal(gone.length, 504);
  });

  test('are of no interest once the manifest is removed, and no obstacle when it is linked again', async t => {
    const path = await schema2(t);
    let goOn = () => {};
    const paused = new Promise<void>(resolve => {
      goOn = resolve;
    });
    const store = await openDatabase(t, path, {
      readManifest: async digest => {
        await paused;
        return bytes.get(digest);
      },
    });
    await store.remove([one.manifest.digest]);
    const { digest } = two.manifest;
    await store.linkManifest(APP, { digest, sizeBytes: 1, mediaType: 'x', parts: digestsOf(two).slice(1) });
    goOn();
    await allRead(t, path);
    assert.deepEqual(await evictable(store), [...digestsOf(three), ...digestsOf(one).slice(1)].sort());
  });

  test('do not keep the file open: closing waits for no manifest, and no other is read', async t => {
    const path = await schema2(t);
    let goOn = () => {};
    let reads = 0;
    const store = await openDatabase(t, path, {
      readManifest: async digest => {
        reads++;
        await new Promise<void>(resolve => {
          goOn = resolve;
        });
        return bytes.get(digest);
      },
    });
    await store.close();
    goOn();
    await turns(5);
    assert.equal(reads, 1);
    assert.equal(unreadIn(t, path)(), 4);
  });

  test('are read of more manifests than are listed at once, and of such as have very many', async t => {
    const path = await schema2(t);
    addManifests(path, 2_500);
    const large = Array.from({ length: 1_500 }, (_, i) => ({ digest: row(`layer ${i}`).digest }));
    const read = new Set<Digest>();
    await openDatabase(t, path, {
      readManifest: async digest => {
        assert.ok(!read.has(digest));
        read.add(digest);
        return read.size % 500 === 0 ? Buffer.from(JSON.stringify({ layers: large })) : three.manifest.bytes;
      },
    });
    await allRead(t, path);
    assert.equal(read.size, 2_504);
    const reader = new Database(path, { readonly: true });
    assert.equal(reader.prepare('SELECT count(*) FROM parts').pluck().get(), 2_499 * 3 + 5 * 1_500);
    reader.close();
  });
});
