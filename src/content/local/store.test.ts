import assert from 'node:assert/strict';
import fs from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { contentSuite } from '../../../test/contracts/content.ts';
import { bytesOf, randomContent } from '../../../test/support/images.ts';
import {
  assertNothingOpen,
  inTheWay,
  openAtLast,
  openLocal,
  openStores,
  openUnder,
  pathOf,
  temporaryDirectory,
} from '../../../test/support/local-stores.ts';
import { namesIn, put, read } from '../../../test/support/stores.ts';
import { digestOf, hexOf } from '../../oci/digest.ts';
import { StorageFailure } from '../content.ts';
import { LocalContent } from './store.ts';

contentSuite('LocalContent', openLocal);

describe('the directory of LocalContent', () => {
  test('is an OCI image layout, whose blobs lie under their digests', async t => {
    const root = await temporaryDirectory(t);
    const stores = await openStores(root);
    const layout = JSON.parse(await readFile(join(root, 'content/oci-layout'), 'utf8'));
    assert.deepEqual(layout, { imageLayoutVersion: '1.0.0' });
    const index = JSON.parse(await readFile(join(root, 'content/index.json'), 'utf8'));
    assert.deepEqual(index, { schemaVersion: 2, manifests: [] });
    for (const algorithm of ['sha256', 'sha512'] as const) {
      const digest = await put(stores, Buffer.from('bytes'), algorithm);
      const path = join(root, 'content/blobs', algorithm, digest.slice(algorithm.length + 1));
      assert.equal(await readFile(path, 'utf8'), 'bytes');
    }
  });

  test('keeps an index.json that another program has filled', async t => {
    const root = await temporaryDirectory(t);
    await LocalContent.open(root);
    await writeFile(join(root, 'content/index.json'), 'theirs');
    await LocalContent.open(root);
    assert.equal(await readFile(join(root, 'content/index.json'), 'utf8'), 'theirs');
  });

  test('loses what was on its way in and is not to be kept', async t => {
    const root = await temporaryDirectory(t);
    const digest = await put(await openStores(root), Buffer.from('kept'));
    await writeFile(join(root, 'ingest/123-4'), 'left by a crash');
    await writeFile(join(root, 'ingest/named'), 'to be resumed');
    await mkdir(join(root, 'ingest/directory'));
    const { content, ingests } = await openStores(root);
    await ingests.keep(new Set(['named', 'unknown']));
    assert.deepEqual(await readdir(join(root, 'ingest')), ['named']);
    assert.equal((await read(content, digest)).toString(), 'kept');
  });

  test('has nothing in ingest/ after one was published, one aborted and one could not be published', async t => {
    const root = await temporaryDirectory(t);
    const stores = await openStores(root);
    const { content, ingests } = stores;
    await put(stores, Buffer.from('published'));
    const aborted = await ingests.begin('sha256');
    aborted.write(Buffer.alloc(3_000_000));
    await aborted.abort();
    const failing = await ingests.begin('sha256');
    const digest = await failing.finish();
    await inTheWay(join(root, 'content/blobs'));
    await assert.rejects(content.publish(failing, digest), StorageFailure);
    assert.deepEqual(await readdir(join(root, 'ingest')), []);
  });

  test('has nothing in ingest/ of what had a name, whichever way it ended', async t => {
    const root = await temporaryDirectory(t);
    const { content, ingests } = await openStores(root);
    const begin = async (name: string) => {
      const ingest = await ingests.begin('sha256', name);
      await ingest.write(Buffer.from('the same'));
      await ingest.flush();
      return ingest;
    };
    const names = ['new', 'here already', 'aborted', 'left'];
    const [first, second, third] = [await begin('new'), await begin('here already'), await begin('aborted')];
    await begin('left');
    assert.deepEqual((await readdir(join(root, 'ingest'))).sort(), names.sort());
    assert.equal(await content.publish(first, await first.finish()), true);
    assert.equal(await content.publish(second, await second.finish('sha256')), false);
    await third.abort();
    assert.deepEqual(await readdir(join(root, 'ingest')), ['left']);
    const later = await openStores(root);
    const resumed = (await later.ingests.resume('sha256', 'left')) ?? assert.fail();
    assert.equal(await content.publish(resumed, await resumed.finish()), false);
    assert.deepEqual(await readdir(join(root, 'ingest')), []);
  });

  test('may hold files that are no content: they are not listed', async t => {
    const root = await temporaryDirectory(t);
    const stores = await openStores(root);
    const { content } = stores;
    const digest = await put(stores, Buffer.from('content'));
    for (const name of ['.DS_Store', hexOf(digest).slice(1), hexOf(digest).toUpperCase()]) {
      await writeFile(join(root, 'content/blobs/sha256', name), 'x');
    }
    assert.deepEqual(await namesIn(content), [`${digest} 7`]);
  });
});

describe('content that was opened', () => {
  const LARGE = bytesOf(randomContent(400_000, 'large'));
  const OTHER = bytesOf(randomContent(400_000, 'other'));

  test('stays open, however often it is pulled', { skip: !fs.existsSync('/proc/self/fd') }, async t => {
    const root = await temporaryDirectory(t);
    const stores = await openStores(root);
    const { content } = stores;
    const digest = await put(stores, LARGE);
    for (let times = 0; times < 3; times++) assert.deepEqual(await read(content, digest), LARGE);
    assert.deepEqual(await openUnder(root), [pathOf(root, digest)]);
    await content.remove(digest);
    await assertNothingOpen(root);
  });

  test('is gone when its file is removed past us, and comes back with it', async t => {
    const root = await temporaryDirectory(t);
    const stores = await openStores(root);
    const { content } = stores;
    const digest = await put(stores, LARGE);
    await read(content, digest);
    await rm(pathOf(root, digest));
    assert.equal(await content.open(digest), undefined);
    await put(stores, LARGE);
    assert.deepEqual(await read(content, digest), LARGE);
  });

  test('is looked at again when another file takes its place', async t => {
    const root = await temporaryDirectory(t);
    const stores = await openStores(root);
    const { content } = stores;
    const digest = await put(stores, LARGE);
    await read(content, digest);
    await writeFile(join(root, 'other'), OTHER);
    await rename(join(root, 'other'), pathOf(root, digest));
    const source = (await content.open(digest)) ?? assert.fail();
    assert.equal(await source.verify(), false);
    source.close();
  });

  test('stays open up to a limit, the latest of it', { skip: !fs.existsSync('/proc/self/fd') }, async t => {
    const root = await temporaryDirectory(t);
    const { content } = await openStores(root);
    const digests = Array.from({ length: 300 }, (_, i) => digestOf(Buffer.from([i >> 8, i])));
    for (const digest of digests) {
      await writeFile(pathOf(root, digest), '');
      await truncate(pathOf(root, digest), 300_000);
      const source = (await content.open(digest)) ?? assert.fail();
      await source.verify();
      source.close();
    }
    const wanted = digests.slice(-256).map(digest => pathOf(root, digest));
    assert.deepEqual((await openAtLast(root, wanted.length)).sort(), wanted.sort());
  });
});
